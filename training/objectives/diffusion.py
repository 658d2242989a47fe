"""What diffusion learns from: clips at one of 1000 noise levels, and the noise or v in them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...samplers.flow import shift_sigma
from ...samplers.noise_schedule import NoiseSchedule
from ...samplers.sigma_schedule import NUM_TRAIN_TIMESTEPS
from .draw import Draw
from .noisy_clips import NoisyClips, NoisyObjective


@dataclass(frozen=True)
class DiffusionObjective(NoisyObjective):
    """The loss of diffusion on one batch (Ho et al. 2020, arXiv 2006.11239).

    With `min_snr` (5 is usual; None: all levels alike) levels with little noise count less (Hang et al. 2023, arXiv
    2303.09556): the weight of the clean estimate is min(SNR, min_snr). `shift` moves the levels that are drawn towards
    noise, as that of a flow does.
    """

    schedule: NoiseSchedule
    min_snr: float | None = 5.0
    shift: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.shift < math.inf:
            raise ValueError(f"shift is {self.shift}; expected a number above 0 (1 = all levels alike)")
        if self.min_snr is not None and not self.min_snr > 0:
            raise ValueError(f"min_snr is {self.min_snr}; expected a number above 0 (5 is usual), or none")

    def weights(self, timesteps: Tensor) -> Tensor:
        """Weight of the squared error of what the network predicts, (n,) float32.

        The error of the clean clip is that of epsilon over the SNR, and that of v over SNR + 1.
        """
        if self.min_snr is None:
            return torch.ones(len(timesteps), device=timesteps.device)
        snr = self.schedule.snr(timesteps)
        capped = snr.clamp(max=self.min_snr)
        return capped / snr if self.schedule.prediction == "epsilon" else capped / (snr + 1)

    def add_noise(self, latent: Tensor, draw: Draw) -> NoisyClips:
        """Clips at some of the 1000 timesteps, and the noise or v in them."""
        level = shift_sigma(draw.uniform(len(latent)), self.shift)
        timesteps = (level * NUM_TRAIN_TIMESTEPS).long().clamp(max=NUM_TRAIN_TIMESTEPS - 1)  # a level may round to 1
        noise = draw.normal(latent.shape)
        clips = self.schedule.add_noise(latent, noise, timesteps)
        target = self.schedule.target(latent, noise, timesteps)
        return NoisyClips(clips, timesteps.float(), target, self.weights(timesteps))
