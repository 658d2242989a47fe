"""Batches of several kinds of clips, such as clips of two sizes: a kind a step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from ...training.batch import Batch, Losses, Networks, Objective
from .texts import CaptionedLatents


@dataclass(frozen=True, eq=False)
class KindsOfClips:
    """Training data of several kinds, told apart by the shape of their latents, and the share of steps of each."""

    kinds: Mapping[str, CaptionedLatents]
    shares: Callable[[], Mapping[str, float]]  # now; kinds without a share are left out

    def draw(self, generator: torch.Generator, dropout: float) -> Batch:
        """One batch of one kind; a share `dropout` of the texts is empty."""
        return self.kinds[draw_kind(self.shares(), generator)].draw(generator, dropout)

    def kind_of(self, batch: Batch) -> str:
        """Which kind a batch is of."""
        shape = batch.latents.shape[1:]
        return next(kind for kind, data in self.kinds.items() if data.latents.shape[1:] == shape)


@dataclass(frozen=True)
class KindsObjective:
    """The logarithm of what `objective` minimises, which counts alike for every kind, and the loss of each kind."""

    objective: Objective[Batch]
    clips: KindsOfClips

    def __call__(self, networks: Networks, batch: Batch, generator: torch.Generator) -> Losses:
        """`loss`, and the loss of `objective` under the name of the kind."""
        error = self.objective(networks, batch, generator)["loss"]
        return {"loss": error.log(), self.clips.kind_of(batch): error}


def draw_kind(shares: Mapping[str, float], generator: torch.Generator) -> str:
    """One of the keys of `shares`, by their weights."""
    return list(shares)[int(torch.multinomial(torch.tensor(list(shares.values())), 1, generator=generator))]
