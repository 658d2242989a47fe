"""The blocks that Helios needs: its memory from pictures, clips and latents, and its ladder."""

from __future__ import annotations

import pytest
import torch
from pyramid_video.host import use_host
from pyramid_video.models.families import HELIOS
from pyramid_video.models.model_info import VAEInfo
from pyramid_video.nodes.compatibility import check_start_fits
from pyramid_video.nodes.helios_conditioning import HeliosConditioning
from pyramid_video.nodes.schedules import Stages
from pyramid_video.samplers.presets import helios_stages_of

LATENT = {"samples": torch.zeros(1, 16, 18, 4, 6)}  # 48 x 32 pixels


class WanHost:
    """A VAE whose latents are the mean of the pictures they stand for: causal, 1 picture and then 4 at a time."""

    unit: int | None = 9

    def __init__(self, folder):
        self.temp_dir, self.said = folder, []

    def vae_info(self, vae):
        return VAEInfo(4, 8, 16, "Wan VAE", self.unit)

    def encode(self, vae, images):
        groups = [images[:1], *(images[1:].split(4) if len(images) > 1 else ())]
        means = [group.mean(dim=(0, 3)).view(1, 1, 1, *group.shape[1:3]) for group in groups]
        return torch.cat(means, dim=2)[..., ::8, ::8].expand(1, 16, -1, -1, -1)

    def playing_clip(self):
        return {}

    def show_note(self, text):
        self.said.append(text)


@pytest.fixture
def host(tmp_path):
    use_host(made := WanHost(tmp_path))
    yield made
    use_host(None)


def clip(frames: int, height=32, width=48) -> torch.Tensor:
    """Picture number n is filled with n."""
    return torch.arange(frames, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, height, width, 3) / 1000


def build(**inputs):
    answer = HeliosConditioning().build(**inputs)
    return answer["result"][0] if isinstance(answer, dict) else answer[0]


def test_a_picture_is_the_last_of_a_still_video(host):
    history = build(vae=object(), start_image=clip(6)[5:], latent_image=LATENT)
    assert history.first.shape == history.recent.shape == (1, 16, 1, 4, 6)
    torch.testing.assert_close(history.first, torch.full_like(history.first, 0.005))
    torch.testing.assert_close(history.recent, history.first)
    assert history.noise == (0.111, 0.135) and not host.said


def test_a_clip_in_which_nothing_moves_is_a_clip(host):
    history = build(vae=object(), start_image=clip(1).expand(33, -1, -1, -1), latent_image=LATENT)
    assert history.recent.shape[2] == 9


def test_of_a_clip_the_newest_units_and_the_very_first_frame_are_remembered(host):
    history = build(vae=object(), start_image=clip(4 * 33 + 5), latent_image=LATENT, least_noise=0.0, most_noise=0.1)
    assert history.recent.shape == (1, 16, 27, 4, 6) and history.noise == (0.0, 0.1)
    assert history.first.max() == 0
    firsts = history.recent[0, 0, ::9, 0, 0]  # each unit is encoded on its own
    torch.testing.assert_close(firsts, torch.tensor([38.0, 71.0, 104.0]) / 1000)
    assert "last 99" in host.said[0]


def test_a_picture_of_another_size_is_cut(host):
    history = build(vae=object(), start_image=clip(1, 100, 100), latent_image=LATENT)
    assert history.first.shape[-2:] == (4, 6) and "100x100" in host.said[0]


def test_a_previous_clip_is_remembered_as_it_is(host):
    samples = torch.randn(1, 16, 9, 4, 6)
    history = build(previous={"samples": samples})
    assert torch.equal(history.recent, samples) and torch.equal(history.first, samples[:, :, :1])
    assert history.noise == (0.0, 0.0)


def test_nothing_wired_is_text_to_video(host):
    assert build().first is None


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (dict(start_image=clip(1)), "needs vae and latent_image"),
        (dict(start_image=clip(20), vae=object(), latent_image=LATENT), "33 or more"),
        (dict(start_image=clip(1), previous=LATENT), "one beginning"),
        (dict(previous={"samples": torch.zeros(1, 4, 8, 8)}), "five axes"),
        (dict(start_image=clip(1), vae=object(), latent_image={"samples": torch.zeros(1, 8, 9, 4, 6)}), "8 channels"),
        (dict(start_image=clip(1), vae=object(), latent_image=LATENT, least_noise=0.2), "least <= most"),
    ],
)
def test_a_start_that_cannot_be_is_refused(host, inputs, words):
    with pytest.raises(ValueError, match=words):
        build(**inputs)


@pytest.mark.parametrize(
    ("shape", "words"), [((1, 16, 9, 8, 6), "6 x 8 latent cells"), ((1, 8, 9, 4, 6), "8 latent channels")]
)
def test_a_previous_clip_of_another_size_or_vae_is_refused_by_the_sampler(host, shape, words):
    check_start_fits(LATENT, build())
    check_start_fits(LATENT, build(previous={"samples": torch.zeros(1, 16, 9, 4, 6)}))
    with pytest.raises(ValueError, match=words):
        check_start_fits(LATENT, build(previous={"samples": torch.zeros(shape)}))


def test_the_vae_of_pyramid_flow_is_refused(host):
    host.unit = None
    with pytest.raises(ValueError, match="not that of Helios"):
        build(start_image=clip(1), vae=object(), latent_image=LATENT)


def test_the_stages_block_builds_the_ladder_of_helios(host):
    stages, _ = Stages().build(4, 2, made_for=HELIOS, solver="dmd", gamma=0.333)
    assert stages == helios_stages_of()
    stages, _ = Stages().build(50, 50, 1, made_for=HELIOS, solver="unipc")
    assert stages == helios_stages_of(1, 50, 50, "unipc")


def test_the_shift_of_pyramid_flow_is_not_taken_for_that_of_helios(host):
    with pytest.raises(ValueError, match="set shift to 1"):
        Stages().build(4, 2, shift=2.0, made_for=HELIOS)
