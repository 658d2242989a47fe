"""What every stage of every unit sees, known before anything runs: which frames, at which size, how many tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..models.history_levels import HistoryLevels
from ..models.layers import PATCH
from .history import History, HistoryClips
from .noise import row_generators
from .stages import PyramidStages
from .units import Units

BEFORE = -1.0  # stands for frames that come before the clip; 0 is no frame at all, n is frame n - 1


@dataclass(frozen=True)
class Seen:
    """A latent frame in front of the network, so many times coarser than at full size."""

    frame: int  # of the clip
    downscale: int


@dataclass(frozen=True)
class Context:
    """One stage of one unit: the frames it makes, and those of the clip that it sees of the past, coarsest first.

    `tokens` are those of pictures in one call; those of the prompt come on top, and guidance doubles all.
    """

    unit: int
    stage: int
    made: tuple[Seen, ...]
    past: tuple[Seen, ...]
    tokens: int


def plan_contexts(
    stages: PyramidStages, history: History, units: Units, frames: int, rows: int, columns: int
) -> list[Context]:
    """The contexts of a clip of so many latent frames and cells, in the order they are worked on.

    Found by letting the history cut frames that hold nothing but their number. Raises ValueError on sizes and lengths
    that do not fit.
    """
    stages.check_latent_size(rows, columns)
    known = 0 if history.start is None else history.start.shape[2]
    plan = units.plan(frames, known)
    numbers = 1 + torch.arange(frames, dtype=torch.float32).view(1, 1, -1, 1, 1).expand(-1, -1, -1, rows, columns)
    numbered = history.without_noise().normalized(
        lambda latent: torch.full((1, 1, latent.shape[2], rows, columns), BEFORE)
    )
    unit_history = numbered.begin(numbers, len(stages), units, row_generators(0, 1))
    contexts = []
    for unit, where in plan:
        stage_history = unit_history([numbers[:, :, : where.start]] if where.start else [])
        for index, stage in enumerate(stages.stages):
            past = stage_history(index)
            made = tuple(Seen(frame, stage.downscale) for frame in range(where.start, where.stop))
            tokens = len(made) * tokens_of(rows // stage.downscale, columns // stage.downscale)
            tokens += sum(count for _, _, count in parts(past, rows))
            seen = [
                Seen(round(number) - 1, downscale)
                for clip, downscale, _ in parts(past, rows)
                for number in clip[0, 0, :, 0, 0].tolist()
                if round(number) > 0
            ]
            contexts.append(Context(unit, index, made, tuple(sorted(seen, key=lambda each: -each.downscale)), tokens))
    return contexts


def parts(past: HistoryClips, rows: int) -> Iterator[tuple[Tensor, int, int]]:
    """The clips of a past, how much coarser they are than frames of so many `rows`, and their tokens."""
    if isinstance(past, HistoryLevels):
        for _, level, size in past.levels:  # of full size, in patches of `size` frames and `size` x 2 x 2 cells
            t, h, w = level.latents.shape[2:]
            yield level.latents, size, -(-t // size) * -(-h // (PATCH * size)) * -(-w // (PATCH * size))
        return
    for clip in past:
        yield clip, rows // clip.shape[3], clip.shape[2] * tokens_of(*clip.shape[3:])


def tokens_of(rows: int, columns: int) -> int:
    """Tokens of a latent frame."""
    return (rows // PATCH) * (columns // PATCH)
