"""The sampler: exact on fields whose answer is known, the same in every batch, and honest with whoever watches."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from pyramid_video.host.standalone.sampling import Guider, PyramidSampler, sample, text_of
from pyramid_video.host.standalone.wires import Model
from pyramid_video.models.model_info import ModelInfo
from pyramid_video.models.transformer import PyramidTransformer
from pyramid_video.samplers.guidance import PyramidGuidance
from pyramid_video.samplers.history import PyramidHistory, history_clips
from pyramid_video.samplers.noise import double, draw_noise, pyramid, row_generators
from pyramid_video.samplers.pyramid import StepInfo, sample_pyramid
from pyramid_video.samplers.stages import PyramidStages, make_stages
from pyramid_video.samplers.units import Units
from torch import Tensor

FEW = make_stages(first_steps=2, video_steps=1)


def omniscient(clip: Tensor, stages: PyramidStages, frames_per_unit: int = 1) -> Callable[[Tensor, StepInfo], Tensor]:
    """The true velocity field of a world with one clip (b, c, T, h, w): it knows the picture, so it knows the noise."""
    levels = pyramid(clip, len(stages))

    def velocity(x: Tensor, call: StepInfo) -> Tensor:
        frames = slice(0, 1) if call.unit == 0 else slice(1 + (call.unit - 1) * frames_per_unit, None)
        clean = levels[call.stage][:, :, frames][:, :, : x.shape[2]]
        coarse = double(levels[call.stage - 1][:, :, frames][:, :, : x.shape[2]]) if call.stage else 0.0
        window = stages.stages[call.stage]
        start_signal = (1 - window.sigma_start) * coarse
        end_signal = (1 - window.sigma_end) * clean
        noise = x - call.sigma * start_signal - (1 - call.sigma) * end_signal
        noise = noise / window.noise_share(call.sigma)
        return (window.sigma_start - window.sigma_end) * noise + start_signal - end_signal

    return velocity


PROMPT = [[torch.zeros(1, 2, 4), {"pooled_output": torch.zeros(1, 3)}]]


class Around(PyramidTransformer):
    """A network without layers around any function."""

    def __init__(self, function: Callable[..., Tensor] | None) -> None:
        torch.nn.Module.__init__(self)
        self.function = function

    def predict(self, *inputs):
        return super().predict(*inputs[:6])  # it has no keys to keep

    def forward(self, clips, timestep, text, mask, pooled, *_):
        return self.function(clips, timestep, text, mask, pooled)


def small_model(
    network: Callable[..., Tensor] | None = None, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> Model:
    """A MODEL of the standalone host around any function, as wide as `PROMPT`."""
    model = object.__new__(Model)
    model.network, model.dtype, model.device, model.latent_format = Around(network), dtype, torch.device(device), None
    model.info = ModelInfo("miniflux", 1, 4, 3, None, "small")
    return model


def sticky(x: Tensor, call: StepInfo) -> Tensor:
    """A field without meaning that mixes sample, timestep and all of the past, each row on its own."""
    past = sum((clip.flatten(1).mean(1).view(-1, 1, 1, 1, 1) for clip in call.history), start=0.0)
    return torch.sin(3 * x) + call.timestep / 1000 + past


@pytest.mark.parametrize("count", (1, 2, 3))
@pytest.mark.parametrize("gamma", (0.0, 0.2, 1 / 3))
@pytest.mark.parametrize("steps", (1, 5))
@pytest.mark.parametrize("known", (0, 2))
def test_a_model_that_knows_the_clip_makes_the_clip(count, gamma, steps, known):
    """The true velocity is constant inside a stage: any number of Euler steps is exact, and jumps keep the signal."""
    stages = make_stages(count, shift=2.0, gamma=gamma, first_steps=steps, video_steps=steps)
    clip, noise = torch.randn(2, 2, 3, 4, 8, 8, dtype=torch.float64)
    made = sample_pyramid(
        omniscient(clip, stages),
        noise,
        stages,
        generators=row_generators(0, len(noise)),
        history=PyramidHistory(start=clip[:, :, :known] if known else None),
    )
    torch.testing.assert_close(made, clip, rtol=0, atol=1e-9)


def test_units_of_several_frames_are_made_together():
    clip, noise = torch.randn(2, 1, 3, 7, 8, 8)
    field = omniscient(clip, FEW, frames_per_unit=3)
    asked = []

    def velocity(x, call):
        asked.append((call.unit, x.shape[2]))
        return field(x, call)

    made = sample_pyramid(velocity, noise, FEW, generators=row_generators(0, 1), units=Units(1, 3))
    torch.testing.assert_close(made, clip, rtol=0, atol=1e-4)
    assert sorted(set(asked)) == [(0, 1), (1, 3), (2, 3)]


@pytest.mark.parametrize("history_noise", (0.0, 0.2))
@pytest.mark.parametrize("with_start", (False, True))
def test_a_clip_is_the_same_alone_and_in_a_batch(history_noise, with_start):
    start = torch.randn(3, 4, 1, 8, 8) if with_start else None

    def make(seed: int, batch: int, start: Tensor | None) -> Tensor:
        noise, generators = draw_noise((batch, 4, 3, 8, 8), seed), row_generators(seed, batch)
        history = PyramidHistory(noise=history_noise, start=start)
        return sample_pyramid(sticky, noise, FEW, generators=generators, history=history)

    together = make(5, 3, start)
    for row in range(3):
        alone = make(5 + row, 1, start[row : row + 1] if with_start else None)
        torch.testing.assert_close(together[row : row + 1], alone, rtol=0, atol=1e-6)


def make_sticky(seed: int, **options) -> Tensor:
    noise = draw_noise((1, 4, 3, 8, 8), seed)
    return sample_pyramid(sticky, noise, FEW, generators=row_generators(seed, 1), **options)


def test_a_seed_is_a_clip():
    assert torch.equal(make_sticky(1), make_sticky(1))
    assert not torch.allclose(make_sticky(1), make_sticky(2))


def test_start_frames_come_back_bit_by_bit_for_every_row():
    start = torch.randn(1, 4, 2, 8, 8)
    noise = draw_noise((2, 4, 3, 8, 8), 0)
    made = sample_pyramid(sticky, noise, FEW, generators=row_generators(0, 2), history=PyramidHistory(start=start))
    assert made.shape == noise.shape
    for row in made:
        assert torch.equal(row[:, :2], start[0])


def test_units_after_a_start_read_the_noise_from_its_first_frame():
    """The released models do so; the last frame of the noise is then never read."""
    noise, start = draw_noise((1, 4, 3, 8, 8), 0), torch.randn(1, 4, 1, 8, 8)
    other = noise.clone()
    other[:, :, -1] = 100.0
    history = PyramidHistory(start=start)
    made = [sample_pyramid(sticky, n, FEW, generators=row_generators(0, 1), history=history) for n in (noise, other)]
    assert torch.equal(*made)


def test_every_model_evaluation_is_counted_once():
    stages = make_stages(first_steps=(3, 2, 1), video_steps=(1, 1, 2))
    calls: list[StepInfo] = []
    make = sample_pyramid(
        lambda x, call: torch.zeros_like(x),
        draw_noise((1, 1, 3, 8, 8), 0),
        stages,
        generators=row_generators(0, 1),
        callback=lambda call, estimate: calls.append(call),
    )
    assert make.shape[2] == 3
    assert [call.index for call in calls] == list(range(6 + 4 + 4)) and {call.total for call in calls} == {14}
    assert {(call.units, call.stages) for call in calls} == {(3, 3)}
    assert [(call.unit, call.stage, call.step) for call in calls[:7]] == [
        (0, 0, 0), (0, 0, 1), (0, 0, 2), (0, 1, 0), (0, 1, 1), (0, 2, 0), (1, 0, 0),
    ]  # fmt: skip
    for call, following in pairwise(calls):
        assert call.timestep > following.timestep or following.step == following.stage == 0
    for call in calls:
        steps = stages.steps_for(call.unit)[call.stage]
        assert (call.steps, call.timestep) == (steps, stages.timesteps(call.stage, steps)[call.step])
        assert call.sigma == stages.sigmas(call.stage, steps)[call.step]


def test_whoever_watches_sees_the_clean_unit_at_the_size_of_the_stage():
    flat = torch.full((1, 2, 2, 8, 8), 0.5)
    seen = []
    sample_pyramid(
        omniscient(flat, FEW),
        draw_noise(flat.shape, 0),
        FEW,
        generators=row_generators(0, 1),
        callback=lambda call, estimate: seen.append((call.stage, estimate)),
    )
    for stage, estimate in seen:
        torch.testing.assert_close(estimate, torch.full((1, 2, 1, 2 << stage, 2 << stage), 0.5), rtol=0, atol=1e-5)


def test_history_holds_what_is_finished_and_no_more_than_its_depth():
    asked = {}

    def velocity(x, call):
        asked[call.unit, call.stage] = call.history
        return sticky(x, call)

    made = sample_pyramid(
        velocity,
        draw_noise((1, 2, 5, 8, 8), 0),
        FEW,
        generators=row_generators(0, 1),
        history=PyramidHistory(depth=3),
    )
    for (unit, stage), clips in asked.items():
        past = made[:, :, max(0, unit - 3) : unit]
        expected = history_clips(pyramid(past, 3), stage) if unit else ()
        assert len(clips) == len(expected)
        for clip, wanted in zip(clips, expected, strict=True):
            assert torch.equal(clip, wanted)


def test_history_noise_leaves_the_clip_itself_clean():
    """Only what the model is shown is corrupted, never the frames that are kept."""
    start, shown = torch.zeros(1, 1, 1, 8, 8), []

    def velocity(x, call):
        shown.append(call.history[-1])
        return x

    made = sample_pyramid(
        velocity,
        draw_noise((1, 1, 2, 8, 8), 0),
        FEW,
        generators=row_generators(0, 1),
        history=PyramidHistory(noise=0.25, start=start),
    )
    assert torch.equal(made[:, :, :1], start)
    assert shown[-1].std().item() == pytest.approx(0.25, rel=0.3)


@pytest.mark.parametrize("bad", (float("nan"), float("inf")))
def test_numbers_that_are_none_name_unit_stage_and_dtype(bad):
    def velocity(x, call):
        broken = (call.unit, call.stage) == (1, 2)
        return torch.full_like(x, bad if broken else 0.0, dtype=torch.float16)

    with pytest.raises(ValueError, match="unit 1, stage 2 .* float16"):
        sample_pyramid(velocity, draw_noise((1, 1, 3, 8, 8), 0), FEW, generators=row_generators(0, 1))


def test_the_type_named_is_the_one_the_network_computed_in():
    """Hosts convert an answer before the sampler sees it, so they say what it was made in."""
    noise, generators = draw_noise((1, 1, 2, 8, 8), 0), row_generators(0, 1)
    with pytest.raises(ValueError, match="computed in bfloat16"):
        sample_pyramid(lambda x, call: x * torch.nan, noise, FEW, generators=generators, model_dtype=torch.bfloat16)


def test_standalone_host_says_what_its_network_computes_in():
    model = small_model(lambda clips, *rest: clips[-1] * torch.nan, torch.bfloat16)
    guider = Guider(model, PROMPT, None, PyramidGuidance())
    with pytest.raises(ValueError, match="computed in bfloat16"):
        sample(guider, PyramidSampler(FEW, PyramidHistory()), {"samples": torch.zeros(1, 1, 1, 8, 8)}, 0, None)


class Interrupted(Exception):
    pass


def test_an_interrupt_gets_through_at_once():
    asked = []

    def stop(call, estimate):
        if call.index == 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        sample_pyramid(
            lambda x, call: asked.append(call) or x,
            draw_noise((1, 1, 3, 8, 8), 0),
            FEW,
            generators=row_generators(0, 1),
            callback=stop,
        )
    assert len(asked) == 3


def test_sixteen_bit_noise_is_integrated_in_32():
    made = sample_pyramid(sticky, draw_noise((1, 1, 2, 8, 8), 0).bfloat16(), FEW, generators=row_generators(0, 1))
    assert made.dtype == torch.float32


@pytest.mark.parametrize(("first", "rows"), [(0.0, 1), (3.0, 2)])
def test_without_guidance_the_network_is_asked_for_one_row(first, rows):
    batches = []

    def network(clips, timestep, text, mask, pooled):
        batches.append({len(part) for part in (*clips, timestep, text, pooled)})
        return clips[-1] * 0

    velocity = Guider(small_model(network), PROMPT, PROMPT, PyramidGuidance(first)).velocity(1)
    sample_pyramid(velocity, draw_noise((1, 1, 2, 8, 8), 0), FEW, generators=row_generators(0, 1))
    assert batches == [{rows}] * (3 * 2 + 3)


def test_only_the_mask_of_the_text_stays_on_the_cpu():
    """The network makes its own mask there; from another place each forward would wait to fetch it."""
    short, long = ([[torch.ones(1, n, 4), {"pooled_output": torch.ones(1, 3)}]] for n in (2, 5))
    text = text_of(small_model(device="meta"), 1, long, short)
    assert {text.tokens.device.type, text.pooled.device.type} == {"meta"}
    assert text.mask.tolist() == [[1, 1, 0, 0, 0], [1, 1, 1, 1, 1]]


@pytest.mark.parametrize(
    ("shape", "start", "words"),
    [
        ((1, 4, 3, 12, 8), None, "nearest size is"),
        ((1, 4, 3, 8), None, "batch, channel, frame, row, column"),
        ((1, 4, 0, 8, 8), None, "none empty"),
        ((2, 4, 3, 8, 8), (3, 4, 1, 8, 8), r"expected \(1 or 2, 4, frames, 8, 8\)"),
        ((1, 4, 3, 8, 8), (1, 4, 1, 16, 16), "resize the start image"),
        ((1, 4, 3, 8, 8), (1, 16, 1, 8, 8), "VAE of this model"),
        ((1, 4, 3, 8, 8), (1, 4, 3, 8, 8), "longer clip"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_first_question(shape, start, words):
    asked = []
    with pytest.raises(ValueError, match=words):
        sample_pyramid(
            lambda x, call: asked.append(call) or x,
            torch.zeros(shape),
            FEW,
            generators=row_generators(0, shape[0]),
            history=PyramidHistory(start=None if start is None else torch.zeros(start)),
        )
    assert not asked


@pytest.mark.parametrize("frames_per_unit", (1, 3, 9))
@pytest.mark.parametrize("later", (0, 1, 4))
def test_units_cover_the_clip_without_gaps(frames_per_unit, later):
    frames = 1 + later * frames_per_unit
    units = Units(1, frames_per_unit)
    plan = units.plan(frames)
    assert [unit for unit, _ in plan] == list(range(later + 1))
    assert [frame for _, where in plan for frame in range(where.start, where.stop)] == list(range(frames))
    if later:
        assert units.plan(frames, 1) == plan[1:]


def test_a_length_between_units_names_the_nearest():
    with pytest.raises(ValueError, match="clip of 6 latent frames.* nearest 7"):
        Units(1, 3).plan(6)
    with pytest.raises(ValueError, match="start of 2 latent frames"):
        Units(1, 3).plan(7, 2)
