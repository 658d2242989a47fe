"""What flow matching and diffusion learn alike: a network is shown noisy clips, and its answer has an error."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..batch import Batch, Losses, Networks
from .draw import Draw, GeneratorDraw


@dataclass(frozen=True)
class NoisyClips:
    """Clips of a batch at levels of noise that were drawn, and what the network should say of them."""

    clips: Tensor  # (b, c, t, h, w)
    timesteps: Tensor  # (b,) 0..1000, passed to the network
    target: Tensor  # (b, c, t, h, w)
    weights: Tensor | None = None  # (b,) of the squared errors; None: all alike

    def loss(self, errors: Tensor) -> Tensor:
        """The loss of differences from the target (b, ...) of all numbers of the clips, or of some."""
        squared = errors.float().square().flatten(1).mean(1)
        return (squared if self.weights is None else self.weights * squared).mean()


class NoisyObjective:
    """The loss on one batch of a family whose network is shown whole clips with noise in them."""

    def add_noise(self, latent: Tensor, draw: Draw) -> NoisyClips:
        """Normalised clips (b, c, t, h, w) at levels that are drawn."""
        raise NotImplementedError

    def __call__(self, networks: Networks, batch: Batch, generator: torch.Generator) -> Losses:
        """`loss` of the transformer for normalised latents and their texts."""
        text = batch.text
        noisy = self.add_noise(batch.latents, GeneratorDraw(generator, batch.latents.device))
        answer = networks["transformer"]((noisy.clips,), noisy.timesteps, text.tokens, text.mask, text.pooled)
        return {"loss": noisy.loss(answer.float() - noisy.target.float())}
