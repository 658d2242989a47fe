"""What a training step learns from, and what it gives back: the only shapes that travel between data and objectives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from ..models.latent_format import LatentFormat
from ..models.text_features import TextFeatures

Networks = Mapping[str, Any]  # modules by name: "transformer", "vae", "discriminator" ... as an objective says
Losses = Mapping[str, Tensor]  # "loss" is minimised, the others are watched
Learned = TypeVar("Learned", contravariant=True)


@dataclass(frozen=True, eq=False)
class Batch:
    """Latents (b, c, t, h, w) and the features of their texts, row by row; `kind` where data have several kinds.

    A pyramid sees `history`, of the shape of `latents`, in the past of what it learns; None is the latents themselves.
    """

    latents: Tensor
    text: TextFeatures
    kind: str = ""
    history: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        history = None if self.history is None else self.history.to(device)
        return replace(self, latents=self.latents.to(device), text=self.text.to(device), history=history)

    def normalized(self, latent_format: LatentFormat) -> Batch:
        """The same batch brought from the VAE's scale to the transformer's."""
        history = None if self.history is None else latent_format.normalize(self.history)
        return replace(self, latents=latent_format.normalize(self.latents), history=history)


class Objective(Protocol[Learned]):
    """What networks learn from a batch: a `Batch`, or for a VAE videos (b, 3, t, h, w) in -1..1.

    Random numbers come from `generator` alone, on the CPU, so that a resumed run draws what an unbroken one would.
    """

    def __call__(self, networks: Networks, batch: Learned, generator: torch.Generator) -> Losses:
        """Losses by name; "loss" is the one that is minimised."""
        ...
