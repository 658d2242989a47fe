"""What a training asks of a model that its host loads and calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

Noise = Callable[[tuple[int, ...]], Tensor]  # shape -> standard normal numbers


@dataclass(frozen=True, eq=False)
class ModelClip:
    """What is learned at a time: a latent (1, c, t, h, w) in the VAE's scale, and what the host made of its text.

    `start`, of the same shape, is what an image-to-video model is shown of it. One that `starts_in_place` is shown with
    its first latent frame as it is; what is learned are the frames after it.
    """

    latent: Tensor
    conditioning: Any
    start: Tensor | None = None
    starts_in_place: bool = False


class ModelInTraining(Protocol):
    """A model of a host, on its device and open to gradients."""

    @property
    def network(self) -> nn.Module:
        """The network whose layers get additions; its own weights do not learn."""
        ...

    @property
    def name(self) -> str:
        """What its host calls this kind of model."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        ...

    @property
    def is_flow(self) -> bool:
        """Whether it goes from noise to data along straight lines."""
        ...

    @property
    def gradient_scale(self) -> float:
        """What gradients are multiplied with inside the network, 1 where its numbers hold them as they are.

        Those of the weights that learn have to be divided by it.
        """
        ...

    def begin_step(self) -> None:
        """Called before each step: what an earlier one has kept for its gradient may go."""
        ...

    def loss(self, clip: ModelClip, level: float, noise: Noise) -> Tensor:
        """The squared error of what the model predicts for a clip, a scalar.

        `level` is in 0..1, from data to noise, before the shift or schedule of the model.
        """
        ...
