"""Draws the ladder of a pyramid: noise downwards, one column per stage, a dot per step."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..models.files import write_beside

if TYPE_CHECKING:
    from PIL import ImageDraw
    from PIL.Image import Image

    from ..samplers.stages import PyramidStages

WIDTH, HEIGHT = 768, 512
SMOOTH = 2  # drawn larger, then reduced: PIL's own lines have stairs
LEFT, RIGHT, TOP, BOTTOM = 96, 744, 64, 356  # where noise 1 (top) to 0 (bottom) is drawn
SQUARE = 84  # side of full resolution, in the row below
PAPER, INK, FAINT = (20, 22, 28), (232, 234, 240), (120, 126, 140)
COARSE, FINE = (146, 96, 230), (52, 196, 178)  # colours of the first and the last stage
FIRST_DOT, VIDEO_DOT = (255, 255, 255), (255, 205, 96)


def draw_ladder(stages: PyramidStages) -> Image:
    """Draw which noise each stage travels, at which size and in how many steps; `WIDTH` x `HEIGHT` pixels, RGB."""
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (WIDTH * SMOOTH, HEIGHT * SMOOTH), PAPER)
    pen = Pen(ImageDraw.Draw(picture))
    draw_legend(pen, stages)
    draw_scale(pen)
    columns = list(column_edges(len(stages)))
    for index in range(len(stages)):
        draw_stage(pen, stages, index, columns[index])
    for index in range(1, len(stages)):
        foot = columns[index - 1][1], height_of(stages.stages[index - 1].sigma_end)
        head = columns[index][0], height_of(stages.stages[index].sigma_start)
        draw_jump(pen, foot, head)
    return picture.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)


def save_preview(picture: Image, folder: Path) -> dict[str, str]:
    """Write the drawing beside and rename it into place; returns what a node's `ui` says about an image."""
    name = f"pyramid_video_ladder_{hashlib.sha256(picture.tobytes()).hexdigest()[:16]}.png"
    with write_beside(Path(folder) / name) as part:
        picture.save(part, format="PNG")
    return {"filename": name, "subfolder": "", "type": "temp"}


class Pen:
    """PIL's drawing in the coordinates of the finished picture."""

    def __init__(self, draw: ImageDraw.ImageDraw):
        self.draw = draw

    def line(self, *points: tuple[float, float], colour, width: float = 1.5) -> None:
        self.draw.line([(x * SMOOTH, y * SMOOTH) for x, y in points], fill=colour, width=round(width * SMOOTH))

    def box(self, left: float, top: float, right: float, bottom: float, colour, edge=None, round_by: float = 6) -> None:
        corners = [v * SMOOTH for v in (left, top, right, bottom)]
        radius = min(round_by, (right - left) / 2, (bottom - top) / 2) * SMOOTH
        self.draw.rounded_rectangle(corners, radius, fill=colour, outline=edge, width=2 * SMOOTH)

    def dot(self, x: float, y: float, colour, radius: float = 3.0) -> None:
        self.draw.ellipse([v * SMOOTH for v in (x - radius, y - radius, x + radius, y + radius)], fill=colour)

    def text(self, x: float, y: float, words: str, colour=INK, size: int = 17, anchor: str = "mm") -> None:
        from PIL import ImageFont

        font = ImageFont.load_default(size * SMOOTH)
        self.draw.text((x * SMOOTH, y * SMOOTH), words, fill=colour, font=font, anchor=anchor)


def height_of(sigma: float) -> float:
    """Where a share of noise is drawn: 1 at the top, 0 at the bottom."""
    return BOTTOM + (TOP - BOTTOM) * sigma


def column_edges(count: int) -> Iterator[tuple[float, float]]:
    """Left and right edge of every stage's column, with room for the jumps between."""
    pitch = (RIGHT - LEFT) / count
    gap = min(36.0, pitch * 0.3)
    for index in range(count):
        yield LEFT + index * pitch + gap / 2, LEFT + (index + 1) * pitch - gap / 2


def mix(a: tuple[int, ...], b: tuple[int, ...], share: float) -> tuple[int, ...]:
    """A colour between two, `share` of the way from `a` to `b`."""
    return tuple(round(x + (y - x) * share) for x, y in zip(a, b, strict=True))


def draw_legend(pen: Pen, stages: PyramidStages) -> None:
    pen.text(LEFT, 26, f"{len(stages)} stage{'s' * (len(stages) > 1)}", size=20, anchor="lm")
    for x, colour, words in ((300, FIRST_DOT, "steps, first frame"), (500, VIDEO_DOT, "steps, later frames")):
        pen.dot(x, 27, colour, 4)
        pen.text(x + 14, 26, words, FAINT, 17, "lm")


def draw_scale(pen: Pen) -> None:
    for tenth in range(0, 11, 2):
        y = height_of(tenth / 10)
        pen.line((LEFT, y), (RIGHT, y), colour=mix(PAPER, FAINT, 0.3), width=1)
        words = {10: "noise", 0: "video"}.get(tenth)
        pen.text(LEFT - 12, y, words or f"{tenth / 10:.1f}", INK if words else FAINT, 17 if words else 15, "rm")


def draw_stage(pen: Pen, stages: PyramidStages, index: int, column: tuple[float, float]) -> None:
    """The window of noise as a box, its steps as dots, and below it the resolution as a square."""
    stage, (left, right) = stages.stages[index], column
    colour = mix(COARSE, FINE, index / max(1, len(stages) - 1))
    top, bottom = height_of(stage.sigma_start), height_of(stage.sigma_end)
    pen.box(left, top, right, bottom, mix(PAPER, colour, 0.45), colour)
    both = ((0.3, FIRST_DOT, stages.first_steps[index]), (0.7, VIDEO_DOT, stages.video_steps[index]))
    for share, dot, steps in both:
        x = left + (right - left) * share
        for sigma in stages.sigmas(index, steps)[:-1]:
            pen.dot(x, height_of(sigma * stage.sigma_start + (1 - sigma) * stage.sigma_end), dot, 2.6)

    centre, side, floor = (left + right) / 2, SQUARE / stage.downscale, HEIGHT - 56
    pen.box(centre - side / 2, floor - side, centre + side / 2, floor, colour, round_by=3)
    size = "full size" if stage.downscale == 1 else f"1/{stage.downscale} size"
    pen.text(centre, floor + 18, size, INK, 16)
    pen.text(centre, floor + 40, f"{stages.first_steps[index]} / {stages.video_steps[index]} steps", FAINT, 15)


def draw_jump(pen: Pen, start: tuple[float, float], end: tuple[float, float], dashes: int = 9) -> None:
    """A dashed arrow up: twice the size, and fresh noise."""
    (x0, y0), (x1, y1) = start, end
    for dash in range(0, dashes, 2):
        a, b = dash / dashes, (dash + 1) / dashes
        pen.line((x0 + (x1 - x0) * a, y0 + (y1 - y0) * a), (x0 + (x1 - x0) * b, y0 + (y1 - y0) * b), colour=INK)
    pen.dot(x1, y1, INK, 3.5)
