"""Draws the stages of a pyramid: noise downwards, one column per stage, a dot per step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from .pen import FAINT, INK, PAPER, Pen, mix, stage_colour

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..samplers.stages import PyramidStages

WIDTH, HEIGHT = 768, 512
LEFT, RIGHT, TOP, BOTTOM = 96, 744, 64, 356  # where noise 1 (top) to 0 (bottom) is drawn
FLOOR, ROW = 456, 24  # below the squares, and from one line of text to the next
SQUARE = 84  # longer side of full resolution
FIRST_DOT, VIDEO_DOT = (255, 255, 255), (255, 205, 96)
Table = Mapping[str, Sequence[str]]  # heading of a row -> an entry for every stage


def draw_stages(stages: PyramidStages, table: Table | None = None, shape: tuple[int, int] = (1, 1)) -> Image:
    """Draw which noise each stage travels, at which size and in how many steps; `WIDTH` pixels wide, RGB.

    `table` is written below instead of size and steps; `shape` is the height and width of the picture, in any unit.
    """
    table = plain_table(stages) if table is None else table
    pen = Pen(WIDTH, HEIGHT + ROW * (len(table) - 2))
    draw_legend(pen, stages)
    draw_scale(pen)
    columns = list(column_edges(len(stages)))
    for index in range(len(stages)):
        draw_stage(pen, stages, index, columns[index], shape)
    for index in range(1, len(stages)):
        foot = columns[index - 1][1], height_of(stages.stages[index - 1].sigma_end)
        head = columns[index][0], height_of(stages.stages[index].sigma_start)
        draw_jump(pen, foot, head)
    draw_table(pen, table, columns)
    return pen.finished()


def draw_table(pen: Pen, table: Table, columns: Sequence[tuple[float, float]]) -> None:
    """Write a table below the columns of a drawing."""
    for row, (heading, entries) in enumerate(table.items()):
        y = FLOOR + 18 + row * ROW
        pen.text(LEFT - 12, y, heading, FAINT, 15, "rm")
        for (left, right), words in zip(columns, entries, strict=True):
            pen.text((left + right) / 2, y, words, FAINT if row else INK, 15)


def plain_table(stages: PyramidStages) -> Table:
    """What is known of stages alone: sizes as parts of the full one, and steps."""
    sizes = ["full size" if stage.downscale == 1 else f"1/{stage.downscale} size" for stage in stages.stages]
    return {"": sizes, "steps": step_counts(stages)}


def full_table(stages: PyramidStages, rows: int, columns: int, cell: int) -> Table:
    """What is known for a latent frame of `rows` x `columns` cells, each `cell` pixels wide (1: sizes are cells)."""
    from ..samplers.context import tokens_of

    sizes = [(rows // stage.downscale, columns // stage.downscale) for stage in stages.stages]
    return {
        "pixels" if cell > 1 else "cells": [f"{w * cell}x{h * cell}" for h, w in sizes],
        "tokens": [f"{tokens_of(*size):,}" for size in sizes],
        "noise": [f"{stage.sigma_start:.2f} to {stage.sigma_end:.2f}" for stage in stages.stages],
        "timestep": [f"{stage.timestep_start:.0f} to {stage.timestep_end:.0f}" for stage in stages.stages],
        "steps": step_counts(stages),
    }


def step_counts(stages: PyramidStages) -> list[str]:
    return [f"{first} / {video}" for first, video in zip(stages.first_steps, stages.video_steps, strict=True)]


def height_of(sigma: float) -> float:
    """Where a share of noise is drawn: 1 at the top, 0 at the bottom."""
    return BOTTOM + (TOP - BOTTOM) * sigma


def column_edges(count: int) -> Iterator[tuple[float, float]]:
    """Left and right edge of every stage's column, with room for the jumps between."""
    pitch = (RIGHT - LEFT) / count
    gap = min(36.0, pitch * 0.3)
    for index in range(count):
        yield LEFT + index * pitch + gap / 2, LEFT + (index + 1) * pitch - gap / 2


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


def draw_stage(
    pen: Pen, stages: PyramidStages, index: int, column: tuple[float, float], shape: tuple[int, int]
) -> None:
    """The window of noise as a box, its steps as dots, and below it the picture at its size."""
    stage, (left, right) = stages.stages[index], column
    colour = stage_colour(index, len(stages))
    top, bottom = height_of(stage.sigma_start), height_of(stage.sigma_end)
    pen.box(left, top, right, bottom, mix(PAPER, colour, 0.45), colour)
    both = ((0.3, FIRST_DOT, stages.first_steps[index]), (0.7, VIDEO_DOT, stages.video_steps[index]))
    for share, dot, steps in both:
        x = left + (right - left) * share
        for sigma in stages.sigmas(index, steps)[:-1]:
            pen.dot(x, height_of(stage.noise_share(sigma)), dot, 2.6)
    draw_size(pen, (left + right) / 2, 1 / stage.downscale, shape, colour)


def draw_size(pen: Pen, centre: float, scale: float, shape: tuple[int, int], colour: tuple[int, ...]) -> None:
    """A picture of height and width `shape`, at a part of its full size; its longer side is `SQUARE` at most."""
    height, width = (SQUARE * scale * side / max(shape) for side in shape)
    pen.box(centre - width / 2, FLOOR - height, centre + width / 2, FLOOR, colour, round_by=3)


def draw_jump(pen: Pen, start: tuple[float, float], end: tuple[float, float], dashes: int = 9) -> None:
    """A dashed arrow up: twice the size, and fresh noise."""
    (x0, y0), (x1, y1) = start, end
    for dash in range(0, dashes, 2):
        a, b = dash / dashes, (dash + 1) / dashes
        pen.line((x0 + (x1 - x0) * a, y0 + (y1 - y0) * a), (x0 + (x1 - x0) * b, y0 + (y1 - y0) * b), colour=INK)
    pen.dot(x1, y1, INK, 3.5)
