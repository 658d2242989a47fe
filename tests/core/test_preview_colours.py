"""Colours of previews: found where they are a linear map, judged on other clips, kept and found again."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pyramid_video.host import use_host
from pyramid_video.models.latent_format import MINIFLUX, SD3
from pyramid_video.models.model_info import ModelInfo, VAEInfo
from pyramid_video.models.preview_colours import colours_file, known_colours, save_colours
from pyramid_video.nodes import NODE_CLASS_MAPPINGS
from pyramid_video.training.data.preview_colours import fit_preview
from torch.nn import functional as F

MIX = torch.randn(16, 3, generator=torch.Generator().manual_seed(1))  # 3 colours as 16 channels


class Colours:
    """A dataset of clips in smooth colours."""

    def sample(self, generator, count):
        coarse = torch.rand(count, 3, 9, 4, 6, generator=generator) * 2 - 1
        return coarse.repeat_interleave(8, -1).repeat_interleave(8, -2), [""] * count, [0] * count


def encode(video):
    """A VAE whose latents are a linear map of the last picture that each stands for."""
    small = F.interpolate(video[:, :, ::4].transpose(1, 2).flatten(0, 1), (4, 6), mode="area")
    latents = torch.einsum("tkhw,ck->tchw", small, MIX).unsqueeze(0).movedim(2, 1)
    return MINIFLUX.denormalize(latents)


def test_a_linear_vae_is_seen_exactly():
    fitted = fit_preview(Colours(), encode, MINIFLUX, clips=8)
    assert fitted.explained == pytest.approx(1, abs=1e-6)
    assert fitted.explained_by(MINIFLUX) < 0.5, "false colours do not show it"
    small = F.interpolate(fitted.pictures.movedim(-1, 1), (4, 6), mode="area").movedim(1, -1)
    torch.testing.assert_close(fitted.previews, small, rtol=0, atol=1e-4)


def test_latents_of_noise_explain_nothing_of_clips_that_were_not_fitted():
    generator = torch.Generator().manual_seed(2)
    fitted = fit_preview(Colours(), lambda _: torch.randn(1, 16, 3, 4, 6, generator=generator), MINIFLUX, clips=40)
    assert fitted.explained < 0.05


def test_too_few_clips_are_refused():
    with pytest.raises(ValueError, match="take 4 or more"):
        fit_preview(Colours(), encode, MINIFLUX, clips=3)


def test_colours_are_kept_for_their_format_only(tmp_path):
    coloured = fit_preview(Colours(), encode, MINIFLUX, clips=4).latent_format
    save_colours(tmp_path, coloured)
    assert known_colours(tmp_path, MINIFLUX) == coloured
    assert known_colours(tmp_path, SD3) == SD3
    long = replace(coloured, name="x" * 5000)  # of a stranger's file
    save_colours(tmp_path, long)
    assert known_colours(tmp_path, replace(long, rgb_factors=None)) == long
    own = replace(MINIFLUX, rgb_factors=[(1.0, 0.0, 0.0)] * 16)
    assert known_colours(tmp_path, own) == own, "what a checkpoint brings wins"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"name": 1}', "\x00"])
def test_a_damaged_file_leaves_false_colours(tmp_path, text):
    colours_file(tmp_path, MINIFLUX).write_text(text)
    assert known_colours(tmp_path, MINIFLUX) == MINIFLUX


@pytest.mark.parametrize("name", ["../../escape", "/etc/passwd", "C:\\x", ""])
def test_a_name_from_a_strangers_file_stays_in_the_folder(tmp_path, name):
    assert colours_file(tmp_path, replace(MINIFLUX, name=name)).parent == tmp_path


class Host:
    """A host with an official model and the VAE above."""

    def __init__(self, folder, latent_format=MINIFLUX, channels=16):
        self.temp_dir, self.preview_colours = folder / "temp", folder / "colours"
        self.latent_format, self.channels = latent_format, channels

    def playing_clip(self):
        return {}

    def show_note(self, text):
        pass

    def progress(self, total):
        class Bar:
            def update(self, *values, **more):
                """Nothing is shown in a test."""

            def close(self):
                """Nor taken away."""

        return Bar()

    def model_info(self, model):
        return ModelInfo("miniflux", 16, 24, 20, self.latent_format, "official")

    def vae_info(self, vae):
        return VAEInfo(4, 8, self.channels, "its VAE")

    def encode(self, vae, images):
        return encode(images.movedim(-1, 0).unsqueeze(0) * 2 - 1)


@pytest.fixture
def block():
    yield lambda host: (use_host(host), NODE_CLASS_MAPPINGS["PyramidVideoFitPreviewColours"]())[1]
    use_host(None)


def test_the_block_keeps_what_it_found_where_previews_look(block, tmp_path):
    host = Host(tmp_path)
    answer = block(host).fit(None, None, Colours(), 8)
    assert "100%" in answer["ui"]["text"][0] and answer["ui"]["animated"] == (True,)
    assert known_colours(host.preview_colours, MINIFLUX).rgb_factors is not None


def test_the_block_refuses_another_vae_and_a_model_with_colours(block, tmp_path):
    with pytest.raises(ValueError, match="does not belong to the model"):
        block(Host(tmp_path, channels=24)).fit(None, None, Colours(), 8)
    own = replace(MINIFLUX, rgb_factors=[(1.0, 0.0, 0.0)] * 16)
    with pytest.raises(ValueError, match="there is nothing to fit"):
        block(Host(tmp_path, own)).fit(None, None, Colours(), 8)
