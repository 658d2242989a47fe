"""The memory of Helios: which frames a chunk sees, with how much noise, and what does not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pyramid_video.models.checkpoint_info import CheckpointInfo
from pyramid_video.models.checkpoint_kinds import TRANSFORMERS, network_classes
from pyramid_video.models.families import HELIOS, ModelFamily
from pyramid_video.models.latent_format import MINIFLUX
from pyramid_video.models.model_info import ModelInfo
from pyramid_video.nodes.helios_conditioning import HeliosConditioning
from pyramid_video.samplers.helios_history import HELIOS_UNITS, HeliosHistory
from pyramid_video.samplers.noise import draw_noise, row_generators
from pyramid_video.samplers.presets import PRESETS, UNITS, helios_stages_of, resolve_defaults, units_of
from pyramid_video.samplers.pyramid import sample_pyramid
from pyramid_video.samplers.stages import make_stages


def numbered(*numbers: int) -> torch.Tensor:
    """Latent frames (1, 1, t, 4, 4), each filled with its number."""
    return torch.tensor(numbers, dtype=torch.float32).view(1, 1, -1, 1, 1).expand(1, 1, -1, 4, 4)


def seen(memory) -> dict[str, list[float]]:
    return {name: level.latents[0, 0, :, 0, 0].tolist() for name, level, _ in memory.levels}


def recall(history: HeliosHistory, done):
    return history.begin(numbered(0), 3, HELIOS_UNITS, row_generators(0, 1))(done)(0)


def test_nothing_is_remembered_as_zeros():
    memory = recall(HeliosHistory(), [])
    assert seen(memory) == {"long": [0.0] * 16, "mid": [0.0] * 2, "short": [0.0] * 2}
    assert memory.frames == tuple(range(20, 29))
    assert (
        memory.short.frames == (0, 19) and memory.mid.frames == (17, 18) and memory.long.frames == tuple(range(1, 17))
    )


def test_the_newest_are_seen_finest_and_the_first_for_ever():
    chunks = [numbered(*range(start, start + 9)) for start in (1, 10, 19)]
    memory = recall(HeliosHistory(), chunks)
    assert seen(memory) == {"long": list(range(9, 25)), "mid": [25, 26], "short": [1, 27]}
    one = recall(HeliosHistory(), chunks[:1])
    assert seen(one) == {"long": [0.0] * 10 + list(range(1, 7)), "mid": [7, 8], "short": [1, 9]}


def test_memories_of_all_chunks_lie_alike_in_memory():
    """A compiled network is compiled anew for tensors of other strides."""
    chunks = [numbered(*range(start, start + 9)) for start in (1, 10, 19, 28)]
    layouts = {
        tuple((level.latents.shape, level.latents.stride()) for _, level, _ in recall(history, chunks[:count]).levels)
        for count in range(5)
        for history in (HeliosHistory(), HeliosHistory(first=numbered(50), recent=numbered(51, 52)))
    }
    assert len(layouts) == 1


def test_a_start_comes_before_the_clip():
    history = HeliosHistory(first=numbered(100), recent=numbered(101, 102), noise=(0.0, 0.0))
    assert seen(recall(history, [])) == {"long": [0.0] * 16, "mid": [0, 101], "short": [100, 102]}
    later = recall(history, [numbered(*range(1, 10))])
    assert seen(later)["short"] == [100, 9] and seen(later)["long"][-7:] == [102, *range(1, 7)]


def test_all_stages_see_the_same():
    see = HeliosHistory().begin(numbered(0), 3, HELIOS_UNITS, row_generators(0, 1))([])
    assert see(0) is see(2)


def test_a_start_is_seen_with_the_noise_that_was_asked_for():
    """Every frame has a share of its own, evenly drawn between the limits; the same in the whole run."""
    low, high = 0.2, 0.4
    history = HeliosHistory(torch.zeros(1, 1, 1, 64, 64), torch.zeros(1, 1, 9, 64, 64), (low, high))
    begun = history.begin(torch.zeros(200, 1, 1, 64, 64), 3, HELIOS_UNITS, row_generators(0, 200))
    memory = begun([])(0)
    shares = memory.long.latents[:, :, -6:].std(dim=(3, 4)).flatten()  # of white noise, the share is its size
    assert shares.min() > 0.95 * low and shares.max() < 1.05 * high
    assert shares.mean().item() == pytest.approx((low + high) / 2, rel=0.02)
    assert shares.std().item() == pytest.approx((high - low) / 12**0.5, rel=0.1)
    assert torch.equal(begun([])(1).long.latents, memory.long.latents)


def test_a_start_is_the_same_alone_and_in_a_batch():
    start = dict(first=torch.randn(1, 4, 1, 8, 8), recent=torch.randn(1, 4, 9, 8, 8))

    def velocity(x, call):
        past = sum(level.latents.mean(dim=(1, 2, 3, 4), keepdim=True) for _, level, _ in call.history.levels)
        return torch.sin(x) + past

    def make(seed: int, rows: int) -> torch.Tensor:
        noise, generators = draw_noise((rows, 4, 18, 8, 8), seed), row_generators(seed, rows)
        history = HeliosHistory(**start)
        ladder = helios_stages_of()
        return sample_pyramid(velocity, noise, ladder, generators=generators, history=history, units=HELIOS_UNITS)

    together = make(5, 2)
    for row in range(2):
        torch.testing.assert_close(together[row : row + 1], make(5 + row, 1), rtol=0, atol=1e-6)


def test_a_clip_in_two_parts_is_the_clip_in_one():
    """A sampler that goes on from the latent of another, as the block makes its memory of it."""
    noise = draw_noise((1, 4, 27, 8, 8), 0)

    def velocity(x, call):
        past = sum(level.latents.mean() * number for number, (_, level, _) in enumerate(call.history.levels, 1))
        return torch.sin(x) + past

    def make(noise, history, before=0):
        def renoise(unit, stage, like):
            generator = torch.Generator().manual_seed(10 * (unit + before) + stage)
            return torch.randn(like.shape, generator=generator)

        ladder = helios_stages_of(first_steps=2)
        return sample_pyramid(velocity, noise, ladder, history=history, units=HELIOS_UNITS, renoise=renoise)

    whole = make(noise, HeliosHistory())
    first = make(noise[:, :, :9], HeliosHistory())
    (history,) = HeliosConditioning().build(previous={"samples": first})
    rest = make(noise[:, :, 9:], history, before=1)
    torch.testing.assert_close(torch.cat([first, rest], dim=2), whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(noise=(0.2, 0.1)), "0 <= least <= most < 1"),
        (dict(noise=(0.0, 1.0)), "0 <= least <= most < 1"),
        (dict(first=numbered(1)), "or neither"),
        (dict(first=torch.zeros(1, 4, 4), recent=numbered(1)), "batch, channel, frame, row, column"),
    ],
)
def test_what_cannot_be_remembered_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        HeliosHistory(**options)


def test_a_start_of_another_size_is_refused():
    history = HeliosHistory(first=torch.zeros(1, 1, 1, 8, 8), recent=torch.zeros(1, 1, 1, 8, 8))
    with pytest.raises(ValueError, match="size of the empty latent"):
        recall(history, [])


@pytest.mark.parametrize("frames", (1, 8, 10))
def test_a_clip_is_whole_chunks(frames):
    with pytest.raises(ValueError, match="expected a multiple of 9, nearest"):
        HELIOS_UNITS.plan(frames)


def info_of(kind: str, variant: str = "") -> ModelInfo:
    config_class, _ = network_classes(kind)
    path = Path(f"{kind}.safetensors")
    return ModelInfo.of(CheckpointInfo(path, kind, config_class(), MINIFLUX, ModelFamily(variant=variant)))


@pytest.mark.parametrize("kind", sorted(TRANSFORMERS))
def test_every_kind_of_transformer_has_presets(kind):
    helios = kind == "helios"
    for variant in [name for name in PRESETS if bool(name) == helios]:
        info = info_of(kind, variant)
        stages, history = resolve_defaults(info, None, None)
        assert stages.made_for == history.made_for == info.made_for
        assert (info.made_for == HELIOS) == helios and units_of(info) == UNITS[info.made_for]


def test_what_was_made_for_another_kind_is_refused():
    with pytest.raises(ValueError, match="set 'made_for' in 'Pyramid stages' to Helios"):
        resolve_defaults(info_of("helios", "base"), make_stages(), None)
    with pytest.raises(ValueError, match="that of Helios.* use 'Temporal conditioning'"):
        resolve_defaults(info_of("miniflux"), None, HeliosHistory())
