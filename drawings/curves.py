"""What a run has learned, as a picture: every loss over its steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..models.files import write_beside
from ..training.run.loss_log import mean_line, pass_over, read_losses
from .pen import Pen

if TYPE_CHECKING:
    from PIL.Image import Image

WIDTH, HEIGHT = 960, 540
LEFT, RIGHT, TOP, BOTTOM = 80, 920, 48, 490
GAP = 20  # between two names
LETTERS = 14  # height of the font
ROW = 18  # height of a row of names
MOST_TICKS = 7  # steps that are named, beside 0
WHITE, BLACK, GRID = (255, 255, 255), (40, 44, 52), (222, 225, 230)  # a paper for documents, not for the node
COLOURS = (
    (214, 40, 40), (35, 70, 205), (40, 150, 60), (245, 130, 20), (125, 40, 160), (20, 150, 160),
    (225, 90, 170), (130, 85, 40), (120, 125, 135),
)  # fmt: skip
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


def round_steps(last: float) -> range:
    """Steps from 0 to at most `last` that are named below the curves: multiples of 1, 2 or 5 times a power of ten."""
    wanted = max(1.0, last / MOST_TICKS)
    power = 10 ** math.floor(math.log10(wanted))
    apart = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= wanted)
    return range(0, math.floor(last) + 1, apart)


def draw_curves(curves: Mapping[str, Sequence[tuple[float, float]]]) -> Image:
    """Losses above 0 over the steps on a logarithmic scale, `WIDTH` x `HEIGHT` pixels, RGB.

    Curves that go below 0 (logarithms of losses, losses of a GAN) have no place on that scale and are left out.
    """
    lines = {name: mean_line(points) for name, points in curves.items() if all(value > 0 for _, value in points)}
    pen = Pen(WIDTH, HEIGHT, WHITE)
    if not lines:
        why = "no loss of this run is above 0 throughout" if curves else "the losses of this run cannot be read"
        pen.text(LEFT, TOP, why, BLACK, LETTERS, "la")
        return pen.finished()
    values = [math.log10(value) for line in lines.values() for _, value in line]
    low, high = math.floor(min(values)), math.ceil(max(values))
    high = max(high, low + 1)
    last = max(step for line in lines.values() for step, _ in line) or 1

    def place(step: float, value: float) -> tuple[float, float]:
        across, up = step / last, (math.log10(value) - low) / (high - low)
        return LEFT + across * (RIGHT - LEFT), BOTTOM - up * (BOTTOM - TOP)

    for power in range(low, high + 1):
        for factor in (1, 2, 5):
            value = factor * 10.0**power
            if math.log10(value) <= high:
                pen.line(place(0, value), place(last, value), colour=GRID, width=1)
                pen.text(place(0, value)[0] - 8, place(0, value)[1], f"{value:g}", BLACK, LETTERS, "rm")
    for step in round_steps(last):
        pen.text(place(step, 10.0**low)[0], BOTTOM + 10, f"{step:,}", BLACK, LETTERS, "mt")
    pen.text((LEFT + RIGHT) / 2, HEIGHT - 8, "steps", BLACK, LETTERS, "mb")
    across, down = float(LEFT), 8  # where the next name begins
    for index, (name, line) in enumerate(lines.items()):
        colour, label = COLOURS[index % len(COLOURS)], name.replace("_", " ")
        pen.line(*(place(*point) for point in line), colour=colour, width=2)
        width = pen.text_width(label, LETTERS)
        if across + width > RIGHT:
            across, down = LEFT, down + ROW
        pen.text(across, down, label, colour, LETTERS, "la")
        across += max(130, width + GAP)
    return pen.finished()
