"""Draws what the stages see of the past: a field per stage, a row per unit, a column per latent frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from .pen import FAINT, INK, PAPER, Pen, mix, stage_colour

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..samplers.context import Context

FIELD, GAP, MARGIN, NUMBERS = 300, 24, 24, 64  # widths: the cells of a stage, between stages, around, token counts
HEAD, FOOT = 104, 44
WIDEST, TALLEST, LINE = 60, 40, 14  # of a cell, and a line of text: where rows are lower, not all get a number
MADE = (255, 255, 255)


def draw_contexts(stages: int, contexts: Sequence[Context]) -> Image:
    """Draw all `stages` of all units of a clip, RGB; the colour of a frame is the resolution it is seen at."""
    frames = max(seen.frame for seen in contexts[-1].made) + 1
    units = sorted({context.unit for context in contexts})
    cell = min(WIDEST, FIELD / frames)
    line = min(TALLEST, max(cell, min(LINE, FIELD / len(units))))
    height = line * len(units)
    pen = Pen(round(2 * MARGIN + stages * (FIELD + NUMBERS + GAP)), round(HEAD + height + FOOT))
    sizes = sorted({seen.downscale for context in contexts for seen in (*context.made, *context.past)}, reverse=True)
    colours = {size: stage_colour(index, len(sizes)) for index, size in enumerate(sizes)}
    draw_legend(pen, colours)
    for stage in range(stages):
        left = MARGIN + stage * (FIELD + NUMBERS + GAP)
        mine = [context for context in contexts if context.stage == stage]
        pen.text(left, 84, f"stage {stage + 1}", size=17, anchor="lm")
        pen.text(left + cell * frames + 8, 84, "tokens", FAINT, 13, "lm")
        for row, context in enumerate(mine):
            top = HEAD + row * line
            for frame in range(frames):
                draw_cell(pen, left + frame * cell, top, cell, line, mix(PAPER, FAINT, 0.2))
            for seen in context.past:
                draw_cell(pen, left + seen.frame * cell, top, cell, line, colours[seen.downscale])
            for seen in context.made:
                draw_cell(pen, left + seen.frame * cell, top, cell, line, colours[seen.downscale], MADE)
            if row % -(-LINE // line) == 0:
                pen.text(left + cell * frames + 8, top + line / 2, f"{context.tokens:,}", INK, 13, "lm")
        most = max(context.tokens for context in mine)
        pen.text(left, HEAD + height + 20, f"up to {most:,} tokens a call", FAINT, 14, "lm")
    return pen.finished()


def draw_legend(pen: Pen, colours: Mapping[int, tuple[int, ...]]) -> None:
    """Which colour is which size, and what the white frame means."""
    x = MARGIN
    entries = [(colour, None, "full size" if part == 1 else f"1/{part}") for part, colour in colours.items()]
    for colour, edge, words in (*entries, (PAPER, MADE, "being made"), (mix(PAPER, FAINT, 0.2), None, "not seen")):
        pen.box(x, 18, x + 18, 36, colour, edge, 3)
        pen.text(x + 26, 27, words, FAINT, 15, "lm")
        x += 50 + 9 * len(words)
    pen.text(MARGIN, 51, "across: latent frames; down: units, in the order they are made", FAINT, 13, "lm")


def draw_cell(pen: Pen, left: float, top: float, width: float, height: float, colour, edge=None) -> None:
    gap = min(1.0, width / 8)
    pen.box(left + gap, top + gap, left + width - gap, top + height - gap, colour, edge, min(3, width / 4))
