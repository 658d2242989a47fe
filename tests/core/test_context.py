"""What a plan says of a run is what happens in it: the past that stages see, tokens, and the calls that are left."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from pyramid_video.samplers import pace
from pyramid_video.samplers.context import plan_contexts
from pyramid_video.samplers.history import PyramidHistory
from pyramid_video.samplers.noise import row_generators
from pyramid_video.samplers.pyramid import calls_left, sample_pyramid
from pyramid_video.samplers.stages import make_stages

ROWS, COLUMNS = 8, 16
STAGES = make_stages(3, first_steps=(3, 1, 2), video_steps=(1, 2, 1))


def run(stages, history, frames, frames_per_unit=1):
    """The calls of a real run whose finished frames hold their own number everywhere."""
    calls = []

    def velocity(x, call):
        calls.append((call, x.shape))
        first = 0 if call.unit == 0 else 1 + (call.unit - 1) * frames_per_unit
        numbers = torch.arange(first, first + x.shape[2], dtype=x.dtype).view(1, 1, -1, 1, 1)
        # In the last stage the way to the numbers is straight: sigma 1 is reached from here, sigma 0 is the number.
        return (x - numbers) / call.sigma

    noise = torch.zeros(1, 1, frames, ROWS, COLUMNS)
    sample_pyramid(
        velocity,
        noise,
        stages,
        generators=row_generators(0, 1),
        history=history,
        start=history.start,
        frames_per_unit=frames_per_unit,
    )
    return calls


def numbered(frames):
    return torch.arange(frames, dtype=torch.float32).view(1, 1, -1, 1, 1).expand(1, 1, frames, ROWS, COLUMNS)


@pytest.mark.parametrize(
    ("history", "frames", "frames_per_unit"),
    [
        (PyramidHistory(), 6, 1),
        (PyramidHistory(depth=2), 6, 1),
        (PyramidHistory(depth=3, start=numbered(2)), 5, 1),
        (PyramidHistory(), 7, 3),
    ],
    ids=["all", "two", "three and a start", "units of three"],
)
def test_the_plan_is_what_the_model_sees(history, frames, frames_per_unit):
    contexts = plan_contexts(STAGES, history, frames, ROWS, COLUMNS, frames_per_unit)
    seen = [(call, shape) for call, shape in run(STAGES, history, frames, frames_per_unit) if call.step == 0]
    assert [(context.unit, context.stage) for context in contexts] == [(call.unit, call.stage) for call, _ in seen]
    for context, (call, shape) in zip(contexts, seen, strict=True):
        past = [
            (round(float(clip[0, 0, t].mean())), *clip.shape[-2:])
            for clip in call.history
            for t in range(clip.shape[2])
        ]
        assert [(frame.frame, frame.rows, frame.columns) for frame in context.past] == past
        assert len(context.made) == shape[2]
        assert {(frame.rows, frame.columns) for frame in context.made} == {tuple(shape[-2:])}
        cells = sum(clip.shape[2:].numel() for clip in call.history) + shape[2:].numel()
        assert context.tokens == cells // 4  # a token is 2 x 2 cells


def test_a_size_that_the_stages_cannot_halve_is_refused():
    with pytest.raises(ValueError, match="nearest size is 8 x 16"):
        plan_contexts(STAGES, PyramidHistory(), 1, 9, 16)


def test_calls_left_count_down_to_what_really_follows():
    calls = [call for call, _ in run(STAGES, PyramidHistory(), 4)]
    for index, call in enumerate(calls):
        assert +Counter(calls_left(STAGES, call)) == Counter(later.stage for later in calls[index + 1 :])


def test_time_left_is_exact_where_calls_of_a_stage_cost_the_same(monkeypatch):
    now, costs = [0.0], {0: 1.0, 1: 4.0, 2: 16.0}
    monkeypatch.setattr(pace.time, "monotonic", lambda: now[0])
    calls, measured = [call for call, _ in run(STAGES, PyramidHistory(), 4)], pace.Pace()
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
    assert pace.clock(seconds) == words and pace.time_left(seconds) == f", {words} left"
    assert pace.time_left(None) == pace.time_left(0) == ""
