"""What flow matching learns from: clips on the straight path to noise, and the velocity there."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...samplers.flow import TIMESTEPS, shift_sigma
from ..batch import Batch, Losses, Networks
from .draw import UNIFORM, Draw, GeneratorDraw, TimestepSampling


@dataclass(frozen=True)
class FlowObjective:
    """The loss of flow matching on one batch (Lipman et al. 2023, arXiv 2210.02747).

    Noise levels are drawn by `timesteps`; `shift` then moves them towards noise.
    """

    timesteps: TimestepSampling = UNIFORM
    shift: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.shift < math.inf:
            raise ValueError(f"shift is {self.shift}; expected a number above 0 (1 leaves the levels as they are)")

    def draw_sigmas(self, count: int, draw: Draw) -> Tensor:
        """Noise levels (count,) in 0..1, float32."""
        return shift_sigma(self.timesteps.draw_sigmas(count, draw), self.shift)

    def draw_path(self, latent: Tensor, draw: Draw) -> tuple[Tensor, Tensor, Tensor]:
        """Noise levels (b,), the noisy clips there, and the velocity there, both of the shape of `latent`."""
        sigma, noise = self.draw_sigmas(len(latent), draw), draw.normal(latent.shape)
        part = sigma.view(-1, *[1] * (latent.ndim - 1))
        return sigma, part * noise + (1 - part) * latent, noise - latent

    def __call__(self, networks: Networks, batch: Batch, generator: torch.Generator) -> Losses:
        """`loss` of the transformer for normalised latents and their texts."""
        latent, text = batch.latents, batch.text
        sigma, noisy, wanted = self.draw_path(latent, GeneratorDraw(generator, latent.device))
        velocity = networks["transformer"]((noisy,), sigma * TIMESTEPS, text.tokens, text.mask, text.pooled)
        return {"loss": (velocity.float() - wanted.float()).square().mean()}
