"""What flow matching learns from: clips on the straight path to noise, and the velocity there."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from ...samplers.flow import TIMESTEPS, shift_sigma
from .draw import UNIFORM, Draw, TimestepSampling
from .noisy_clips import NoisyClips, NoisyObjective


@dataclass(frozen=True)
class FlowObjective(NoisyObjective):
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

    def add_noise(self, latent: Tensor, draw: Draw) -> NoisyClips:
        """Clips on the straight way to noise, and the velocity there."""
        sigma, noise = self.draw_sigmas(len(latent), draw), draw.normal(latent.shape)
        part = sigma.view(-1, *[1] * (latent.ndim - 1))
        return NoisyClips(part * noise + (1 - part) * latent, sigma * TIMESTEPS, noise - latent)
