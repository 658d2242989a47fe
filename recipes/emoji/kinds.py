"""Batches of several kinds of clips, such as clips of two sizes: a kind a step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch

from ...training.batch import Batch, Losses, Networks, Objective
from .recipe import EARLY, Kind
from .texts import CaptionedLatents


@dataclass(frozen=True, eq=False)
class KindsOfClips:
    """Training data of several kinds, and the share of steps that each has now."""

    kinds: Mapping[str, CaptionedLatents]
    shares: Callable[[], Mapping[str, float]]

    def draw(self, generator: torch.Generator, dropout: float) -> Batch:
        """One batch of one kind; a share `dropout` of the texts is empty."""
        kind = draw_kind(self.shares(), generator)
        return replace(self.kinds[kind].draw(generator, dropout), kind=kind)


@dataclass(frozen=True)
class KindsObjective:
    """What the objective of each kind minimises; where that is an `error` above 0, its logarithm.

    Errors of easy kinds are several times smaller; their logarithms count alike (see `relative_loss`).
    """

    objectives: Mapping[str, Objective[Batch]]
    error: bool

    def __call__(self, networks: Networks, batch: Batch, generator: torch.Generator) -> Losses:
        """The losses of the batch's kind, and its `loss` under the name of the kind where there are others."""
        losses = self.objectives[batch.kind](networks, batch, generator)
        if len(self.objectives) == 1:
            return losses
        loss = losses["loss"]
        return {**losses, "loss": loss.log() if self.error else loss, batch.kind: loss}


def shares_at(kinds: Mapping[str, Kind], done: float) -> dict[str, float]:
    """The share of the steps that each kind has after the part `done` of a run."""
    early = done < EARLY
    return {name: kind.early if early and kind.early is not None else kind.share for name, kind in kinds.items()}


def draw_kind(shares: Mapping[str, float], generator: torch.Generator) -> str:
    """One of the keys of `shares`, by their weights."""
    return list(shares)[int(torch.multinomial(torch.tensor(list(shares.values())), 1, generator=generator))]
