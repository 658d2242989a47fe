"""What every stage of every unit sees, known before anything runs: which frames, at which size, how many tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .history import PyramidHistory, history_clips
from .pyramid import newest, plan_units
from .stages import PyramidStages

PATCH = 2  # latent cells per edge of a token


@dataclass(frozen=True)
class Seen:
    """A latent frame in front of the network, at the size it has there."""

    frame: int  # of the clip
    rows: int  # latent cells
    columns: int

    @property
    def tokens(self) -> int:
        return (self.rows // PATCH) * (self.columns // PATCH)


@dataclass(frozen=True)
class Context:
    """One stage of one unit: the frames it makes, and what it sees of the past, oldest first."""

    unit: int
    stage: int
    made: tuple[Seen, ...]
    past: tuple[Seen, ...]

    @property
    def tokens(self) -> int:
        """Picture tokens in one call; those of the prompt come on top, guidance asks for all of them twice."""
        return sum(seen.tokens for seen in (*self.made, *self.past))


def plan_contexts(
    stages: PyramidStages, history: PyramidHistory, frames: int, rows: int, columns: int, frames_per_unit: int = 1
) -> list[Context]:
    """The contexts of a clip of so many latent frames and cells, in the order they are worked on.

    Found by letting the sampler's own rules cut frames that hold nothing but their number. Raises ValueError on sizes
    and lengths that do not fit.
    """
    stages.check_latent_size(rows, columns, PATCH)
    known = 0 if history.start is None else history.start.shape[2]
    side = stages.stages[0].downscale  # the smallest frame that every stage can halve
    numbers = torch.arange(frames, dtype=torch.float32).view(1, 1, -1, 1, 1).expand(-1, -1, -1, side, side)

    def seen(clip: Tensor) -> tuple[Seen, ...]:
        size = rows * clip.shape[-2] // side, columns * clip.shape[-1] // side
        return tuple(Seen(round(number), *size) for number in clip[0, 0, :, 0, 0].tolist())

    contexts = []
    for unit, where in plan_units(frames, known, frames_per_unit):
        past = newest([numbers[:, :, : where.start]] if where.start else [], history.depth, len(stages))
        for stage, rung in enumerate(stages.stages):
            clips = history_clips(past, stage, frames_per_unit) if past else ()
            size = rows // rung.downscale, columns // rung.downscale
            made = tuple(Seen(frame, *size) for frame in range(where.start, where.stop))
            contexts.append(Context(unit, stage, made, tuple(each for clip in clips for each in seen(clip))))
    return contexts
