"""What a plan says of a run is what happens in it: the past that stages see, tokens, and the calls that are left."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from pyramid_video.samplers import time_left
from pyramid_video.samplers.context import plan_contexts
from pyramid_video.samplers.helios_history import HELIOS_UNITS, HeliosHistory
from pyramid_video.samplers.helios_stages import make_helios_stages
from pyramid_video.samplers.history import PyramidHistory
from pyramid_video.samplers.noise import row_generators
from pyramid_video.samplers.pyramid import calls_left, sample_pyramid
from pyramid_video.samplers.stages import make_stages
from pyramid_video.samplers.units import ONE_FRAME, Units

ROWS, COLUMNS = 8, 16
STAGES = make_stages(3, first_steps=(3, 1, 2), video_steps=(1, 2, 1))


def run(stages, history, frames, units=ONE_FRAME):
    """The calls of a real run whose finished frames hold their own number everywhere."""
    calls = []

    def velocity(x, call):
        calls.append((call, x.shape))
        numbers = torch.arange(call.frames.start, call.frames.stop, dtype=x.dtype).view(1, 1, -1, 1, 1)
        return (x - numbers) / call.sigma  # so that every stage ends at the numbers

    noise = torch.zeros(1, 1, frames, ROWS, COLUMNS)
    sample_pyramid(
        velocity,
        noise,
        stages,
        generators=row_generators(0, 1),
        history=history,
        units=units,
    )
    return calls


def numbered(frames):
    return torch.arange(frames, dtype=torch.float32).view(1, 1, -1, 1, 1).expand(1, 1, frames, ROWS, COLUMNS)


@pytest.mark.parametrize(
    ("history", "frames", "units"),
    [
        (PyramidHistory(), 6, ONE_FRAME),
        (PyramidHistory(depth=2), 6, ONE_FRAME),
        (PyramidHistory(depth=3, start=numbered(2)), 5, ONE_FRAME),
        (PyramidHistory(), 7, Units(1, 3)),
    ],
    ids=["all", "two", "three and a start", "units of three"],
)
def test_the_plan_is_what_the_model_sees(history, frames, units):
    contexts = plan_contexts(STAGES, history, units, frames, ROWS, COLUMNS)
    seen = [(call, shape) for call, shape in run(STAGES, history, frames, units) if call.step == 0]
    assert [(context.unit, context.stage) for context in contexts] == [(call.unit, call.stage) for call, _ in seen]
    for context, (call, shape) in zip(contexts, seen, strict=True):
        past = [
            (round(float(clip[0, 0, t].mean())), ROWS // clip.shape[3])
            for clip in call.history
            for t in range(clip.shape[2])
        ]
        assert [(seen.frame, seen.downscale) for seen in context.past] == past
        assert [seen.frame for seen in context.made] == list(range(call.frames.start, call.frames.stop))
        assert {seen.downscale for seen in context.made} == {ROWS // shape[3]}
        cells = sum(clip.shape[2:].numel() for clip in call.history) + shape[2:].numel()
        assert context.tokens == cells // 4  # a token is 2 x 2 cells


@pytest.mark.parametrize("start", [None, torch.randn(1, 1, 3, ROWS, COLUMNS)], ids=["nothing", "a start"])
def test_the_plan_is_what_helios_sees(start):
    """It remembers 16, 2 and 1 frames in patches of 4, 2 and 1 of the usual ones, and its first frame for ever."""
    stages = make_helios_stages(3, first_steps=1, video_steps=1, solver="euler")
    history = HeliosHistory(None if start is None else start[:, :, :1], start, noise=(0.1, 0.2))
    contexts = plan_contexts(stages, history, HELIOS_UNITS, 27, ROWS, COLUMNS)
    calls = run(stages, history, 27, HELIOS_UNITS)
    assert [(context.unit, context.stage) for context in contexts] == [(call.unit, call.stage) for call, _ in calls]
    levels = ((16, 4), (2, 2), (2, 1))  # the finest holds the first frame, too
    memory = sum(-(-t // size) * -(-ROWS // (2 * size)) * -(-COLUMNS // (2 * size)) for t, size in levels)
    for context, (call, shape) in zip(contexts, calls, strict=True):
        assert context.tokens == memory + shape[2:].numel() // 4
        end = call.frames.start
        newest = [(end - back, 1 if back == 1 else 2 if back < 4 else 4) for back in range(19, 0, -1) if back <= end]
        kept = [(0, 1)] if start is None and end else []
        assert sorted((seen.frame, seen.downscale) for seen in context.past) == sorted(newest + kept)


def test_a_size_that_the_stages_cannot_halve_is_refused():
    with pytest.raises(ValueError, match="nearest size is 8 x 16"):
        plan_contexts(STAGES, PyramidHistory(), ONE_FRAME, 1, 9, 16)


def test_calls_left_count_down_to_what_really_follows():
    calls = [call for call, _ in run(STAGES, PyramidHistory(), 4)]
    for index, call in enumerate(calls):
        assert +Counter(calls_left(STAGES, call)) == Counter(later.stage for later in calls[index + 1 :])


def test_time_left_is_exact_where_calls_of_a_stage_cost_the_same(monkeypatch):
    now, costs = [0.0], {0: 1.0, 1: 4.0, 2: 16.0}
    monkeypatch.setattr(time_left.time, "monotonic", lambda: now[0])
    calls, measured = [call for call, _ in run(STAGES, PyramidHistory(), 4)], time_left.TimeEstimator()
    for index, call in enumerate(calls):
        now[0] += costs[call.stage] + (1000.0 if index == 0 else 0.0)  # the first waits for the weights
        measured.step(call.stage)
        left = measured.left(calls_left(STAGES, call))
        known = {earlier.stage for earlier in calls[1 : index + 1]}
        if known >= {later.stage for later in calls[index + 1 :]}:
            assert left == pytest.approx(sum(costs[later.stage] for later in calls[index + 1 :]))
        else:
            assert left is None
    assert left == 0


@pytest.mark.parametrize(("seconds", "words"), [(0.4, "0:00"), (61, "1:01"), (3723, "1:02:03")])
def test_a_clock_reads_as_people_write_it(seconds, words):
    assert time_left.clock(seconds) == words and time_left.time_left(seconds) == f", {words} left"
    assert time_left.time_left(None) == time_left.time_left(0) == ""
