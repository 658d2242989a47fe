"""What a training step learns from, and what it gives back: the only shapes that travel between data and objectives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from ..models.text_features import TextFeatures

Networks = Mapping[str, Any]  # modules by name: "transformer", "vae", "discriminator" ... as an objective says
Losses = Mapping[str, Tensor]  # "loss" is minimised, the others are watched
Learned = TypeVar("Learned", contravariant=True)


@dataclass(frozen=True, eq=False)
class Batch:
    """Latents (b, c, t, h, w) and the features of their texts, row by row; `kind` where data have several kinds."""

    latents: Tensor
    text: TextFeatures
    kind: str = ""

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        return replace(self, latents=self.latents.to(device), text=self.text.to(device))


class Objective(Protocol[Learned]):
    """What networks learn from a batch: a `Batch`, or for a VAE videos (b, 3, t, h, w) in -1..1.

    Random numbers come from `generator` alone, on the CPU, so that a resumed run draws what an unbroken one would.
    """

    def __call__(self, networks: Networks, batch: Learned, generator: torch.Generator) -> Losses:
        """Losses by name; "loss" is the one that is minimised."""
        ...
