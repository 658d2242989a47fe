"""Curves of a run: what is read, what is drawn where."""

from __future__ import annotations

import json

import numpy
import pytest
from pyramid_video.drawings.curves import COLOURS, HEIGHT, WIDTH, draw_curves, round_steps, save_curves
from pyramid_video.training.run.loss_log import mean_line, read_losses


def write(folder, rows):
    (folder / "losses.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def rows_of_colour(picture, colour):
    """For every column of pixels the mean row of a colour, NaN where there is none; below the names."""
    pixels = numpy.asarray(picture).astype(int)[48:]
    near = numpy.abs(pixels - colour).sum(-1) < 60
    rows = numpy.arange(48, HEIGHT)[:, None]
    with numpy.errstate(invalid="ignore"):
        return (near * rows).sum(0) / near.sum(0)


def test_a_step_done_again_counts_once_and_names_may_come_late(tmp_path):
    write(tmp_path, [{"step": 0, "a": 3.0}, {"step": 1, "a": 2.0}, {"step": 1, "a": 1.0, "b": 5.0}])
    assert read_losses(tmp_path) == {"a": [(0, 3.0), (1, 1.0)], "b": [(1, 5.0)]}


def test_a_run_without_losses_has_no_curves(tmp_path):
    assert save_curves(tmp_path) is None and not list(tmp_path.iterdir())


@pytest.mark.parametrize("length", (1, 239, 240, 241, 10007))
def test_means_keep_the_mean_of_the_whole(length):
    points = [(step, float(step % 7)) for step in range(length)]
    line = mean_line(points, 240)
    assert len(line) <= 240
    if length <= 240:
        assert line == points


@pytest.mark.parametrize("last", (1, 2, 7, 8, 99, 100, 299, 299.5, 1999, 123456, 10**7))
def test_named_steps_are_round_even_and_reach_far(last):
    ticks = list(round_steps(last))
    apart = ticks[1]
    assert ticks == [apart * n for n in range(len(ticks))] and ticks[-1] <= last < ticks[-1] + apart
    assert 2 <= len(ticks) <= 8 and str(apart).rstrip("0") in ("1", "2", "5")


def test_a_power_law_is_a_straight_line_and_what_falls_goes_down():
    steps = range(0, 1001, 5)
    picture = draw_curves({"first": [(s, 10 ** (-s / 500)) for s in steps], "second": [(s, 0.1) for s in steps]})
    assert picture.size == (WIDTH, HEIGHT)
    rows = rows_of_colour(picture, COLOURS[0])
    drawn = numpy.flatnonzero(~numpy.isnan(rows))
    slope, start = numpy.polyfit(drawn, rows[drawn], 1)
    assert slope > 0 and numpy.abs(rows[drawn] - (start + slope * drawn)).max() < 2.5
    level = rows_of_colour(picture, COLOURS[1])
    assert numpy.nanstd(level) < 1


def test_curves_below_zero_are_left_out(tmp_path):
    write(tmp_path, [{"step": step, "loss": -1.0, "error": 0.5} for step in range(3)])
    picture = draw_curves(read_losses(tmp_path))
    assert not numpy.isnan(rows_of_colour(picture, COLOURS[0])).all()
    assert numpy.isnan(rows_of_colour(picture, COLOURS[1])).all()
    assert save_curves(tmp_path) == tmp_path / "curves.png"
    assert draw_curves({"loss": [(0, -1.0)]}).size == (WIDTH, HEIGHT)


def test_losses_of_older_versions_go_on_under_their_new_names(tmp_path):
    old, new = ("judge", "deceive", "slope"), ("discriminator_loss", "generator_loss", "gradient_penalty")
    write(tmp_path, [{"step": 0, "loss": 3.0, **dict.fromkeys(old, 1.0)}, {"step": 1, **dict.fromkeys(new, 2.0)}])
    assert read_losses(tmp_path) == {"loss": [(0, 3.0)], **dict.fromkeys(new, [(0, 1.0), (1, 2.0)])}


def test_names_of_curves_do_not_cover_each_other():
    names = ("loss", "generator_loss", "discriminator_loss", "margin", "gradient_penalty")
    row = numpy.asarray(draw_curves({name: [(0, 1.0), (1, 1.0)] for name in names})).astype(int)[10:40]
    spans = [numpy.flatnonzero((numpy.abs(row - colour).sum(-1) < 60).any(0)) for colour in COLOURS[: len(names)]]
    for left, right in zip(spans, spans[1:], strict=False):
        assert left.max() < right.min()
    assert spans[-1].max() < WIDTH - 1


def test_names_that_a_row_has_no_place_for_stand_in_the_next():
    names = [f"whole stage {number}" for number in range(len(COLOURS))]
    top = numpy.asarray(draw_curves({name: [(0, 1.0), (1, 1.0)] for name in names})).astype(int)[:40]
    right = [numpy.flatnonzero((numpy.abs(top - colour).sum(-1) < 60).any(0)).max() for colour in COLOURS]
    assert len(right) > 6 and max(right) <= WIDTH - 40
