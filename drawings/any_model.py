"""Draws the stages of the pyramid for any model: noise downwards, one column a stage, a dot a step."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from .pen import FAINT, INK, PAPER, Pen, mix, stage_colour
from .stages import (
    FIRST_DOT,
    FLOOR,
    HEIGHT,
    LEFT,
    ROW,
    WIDTH,
    column_edges,
    draw_jump,
    draw_scale,
    draw_size,
    draw_table,
    height_of,
)

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..samplers.spectral import PictureInfo, Segment, Size
    from ..samplers.spectral_stages import SpectralStages


def draw_scales(stages: SpectralStages) -> Image:
    """What is known without a model: the sizes, as parts of the full one."""
    pen = Pen(WIDTH, FLOOR + ROW * 3)
    pen.text(LEFT, 26, "stages", size=20, anchor="lm")
    pen.text(LEFT, 90, "Connect model and latent to see where they change, in how", FAINT, 17, "lm")
    pen.text(LEFT, 116, "many steps, and how much of the work is left.", FAINT, 17, "lm")
    for index, (left, right) in enumerate(column_edges(len(stages.scales))):
        draw_size(pen, (left + right) / 2, stages.scales[index], (1, 1), stage_colour(index, len(stages.scales)))
        pen.text((left + right) / 2, FLOOR + 18, f"{stages.scales[index]:.3g} of full size", INK, 15)
    return pen.finished()


def draw_plan(stages: SpectralStages, segments: Sequence[Segment], size: Size, info: PictureInfo) -> Image:
    """The steps of a schedule, the stage that walks each, and what is left of the work."""
    from ..samplers.spectral_stages import share_of_noise, work_share

    rows = table_of(segments, size, info)
    pen = Pen(WIDTH, HEIGHT + ROW * (len(rows) - 2))
    attention, linear = (f"{100 * work_share(segments, size, power):.0f} %" for power in (2.0, 1.0))
    pen.text(LEFT, 26, f"work left: {attention} of attention, {linear} of the rest", size=20, anchor="lm")
    draw_scale(pen)
    columns = list(column_edges(len(segments)))
    for segment, (left, right) in zip(segments, columns, strict=True):
        shares = [share_of_noise(sigma, info.scaling) for sigma in segment.sigmas]
        colour = stage_colour(segment.stage, len(stages.scales))
        pen.box(left, height_of(shares[0]), right, height_of(shares[-1]), mix(PAPER, colour, 0.45), colour)
        for share in shares[:-1]:
            pen.dot((left + right) / 2, height_of(share), FIRST_DOT, 2.6)
        draw_size(pen, (left + right) / 2, segment.size[0] / size[0], size, colour)
    for (below, above), ((_, foot), (head, _)) in zip(pairwise(segments), pairwise(columns), strict=True):
        low = share_of_noise(below.sigmas[-1], info.scaling)
        draw_jump(pen, (foot, height_of(low)), (head, height_of(share_of_noise(above.sigmas[0], info.scaling))))
    draw_table(pen, rows, columns)
    return pen.finished()


def table_of(segments: Sequence[Segment], size: Size, info: PictureInfo) -> dict[str, list[str]]:
    """What is written below the drawing."""
    cell = info.cell or 1
    return {
        "pixels" if info.cell else "cells": [f"{s.size[1] * cell}x{s.size[0] * cell}" for s in segments],
        "tokens": [f"{s.size[0] * s.size[1] // info.patch**2:,} a frame" for s in segments],
        "steps": [str(segment.steps) for segment in segments],
        "sigma": [f"{segment.sigmas[0]:.3g} to {segment.sigmas[-1]:.3g}" for segment in segments],
    }
