"""What a run has learned, as a picture: every loss over its steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from ...models.files import write_beside
from .loss_log import LOSSES, pass_over, read_rows

WIDTH, HEIGHT = 960, 540
SMOOTH = 2  # drawn larger, then reduced: PIL's own lines have stairs
LEFT, RIGHT, TOP, BOTTOM = 80, 920, 48, 490
POINTS = 240  # means of equal parts of the run that a line is drawn through
GAP = 20  # between two names
MOST_TICKS = 7  # steps that are named, beside 0
PAPER, INK, GRID = (255, 255, 255), (40, 44, 52), (222, 225, 230)
COLOURS = ((214, 40, 40), (35, 70, 205), (40, 150, 60), (245, 130, 20), (125, 40, 160), (20, 150, 160))
CURVES = "curves.png"


def save_curves(folder: Path) -> Path | None:
    """Draw the losses of the run in `folder` beside them; None when there are none yet, or no picture can be kept."""
    curves, path = read_losses(folder), Path(folder) / CURVES
    if not curves:
        return None
    try:
        with write_beside(path) as part:
            draw_curves(curves).save(part, format="PNG", optimize=True)
    except OSError as error:
        pass_over(path, error)
        return None
    return path


def read_losses(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """The losses of a run by name, (step, value) each; of a step that was done again the last counts.

    Steps that were skipped have none, and so has a run whose file cannot be read.
    """
    steps: dict[int, dict[str, float]] = {}
    try:
        rows = read_rows(Path(folder) / LOSSES)
    except OSError as error:
        pass_over(Path(folder) / LOSSES, error)
        return {}
    for row in rows:
        steps[row.pop("step")] = {} if "skipped" in row else row
    names = dict.fromkeys(name for row in steps.values() for name in row)
    curves = {
        name: [(step, row[name]) for step, row in sorted(steps.items()) if math.isfinite(row.get(name, math.nan))]
        for name in names
    }
    return {name: points for name, points in curves.items() if points}


def mean_line(points: Sequence[tuple[int, float]], count: int = POINTS) -> list[tuple[float, float]]:
    """Means of `count` equal parts of a curve, or the curve itself where it is shorter."""
    size = max(1, math.ceil(len(points) / count))
    parts = [points[start : start + size] for start in range(0, len(points), size)]
    return [tuple(sum(values) / len(part) for values in zip(*part, strict=True)) for part in parts]


def round_steps(last: float) -> range:
    """Steps from 0 to at most `last` that are named below the curves: multiples of 1, 2 or 5 times a power of ten."""
    wanted = max(1.0, last / MOST_TICKS)
    power = 10 ** math.floor(math.log10(wanted))
    apart = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= wanted)
    return range(0, math.floor(last) + 1, apart)


def draw_curves(curves: Mapping[str, Sequence[tuple[int, float]]]) -> Image.Image:
    """Losses above 0 over the steps on a logarithmic scale, `WIDTH` x `HEIGHT` pixels, RGB.

    Curves that go below 0 (logarithms of losses, losses of a GAN) have no place on that scale and are left out.
    """
    lines = {name: mean_line(points) for name, points in curves.items() if all(value > 0 for _, value in points)}
    picture = Image.new("RGB", (WIDTH * SMOOTH, HEIGHT * SMOOTH), PAPER)
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(14 * SMOOTH)
    if not lines:
        pen.text((LEFT * SMOOTH, TOP * SMOOTH), "no loss of this run is above 0 throughout", INK, font)
        return picture.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
    values = [math.log10(value) for line in lines.values() for _, value in line]
    low, high = math.floor(min(values)), math.ceil(max(values))
    high = max(high, low + 1)
    last = max(step for line in lines.values() for step, _ in line) or 1

    def place(step: float, value: float) -> tuple[float, float]:
        across, up = step / last, (math.log10(value) - low) / (high - low)
        return (LEFT + across * (RIGHT - LEFT)) * SMOOTH, (BOTTOM - up * (BOTTOM - TOP)) * SMOOTH

    for power in range(low, high + 1):
        for factor in (1, 2, 5):
            value = factor * 10.0**power
            if math.log10(value) <= high:
                pen.line((place(0, value), place(last, value)), GRID, SMOOTH)
                pen.text((place(0, value)[0] - 8 * SMOOTH, place(0, value)[1]), f"{value:g}", INK, font, anchor="rm")
    for step in round_steps(last):
        pen.text((place(step, 10.0**low)[0], (BOTTOM + 10) * SMOOTH), f"{step:,}", INK, font, anchor="mt")
    pen.text(((LEFT + RIGHT) / 2 * SMOOTH, (HEIGHT - 8) * SMOOTH), "steps", INK, font, anchor="mb")
    across: float = LEFT * SMOOTH  # where the next name begins
    for index, (name, line) in enumerate(lines.items()):
        colour, label = COLOURS[index % len(COLOURS)], name.replace("_", " ")
        pen.line([place(*point) for point in line], colour, 2 * SMOOTH, joint="curve")
        pen.text((across, (TOP - 32) * SMOOTH), label, colour, font)
        across += max(130 * SMOOTH, pen.textlength(label, font) + GAP * SMOOTH)
    return picture.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
