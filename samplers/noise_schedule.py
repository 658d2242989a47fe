"""Noise schedules of diffusion: how much of the data is left at each of 1000 timesteps, and what the network predicts.

At timestep t (0 = hardly any noise) `x = sqrt(a) * data + sqrt(1 - a) * noise`, `a = alphas_cumprod[t]` the product of
1 - beta up to t (Ho et al. 2020, arXiv 2006.11239). Everything here is float64 on the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ..models.families import ModelFamily
from .names import PREDICTIONS, SCHEDULES
from .sigma_schedule import NUM_TRAIN_TIMESTEPS

LINEAR_BETAS = (1e-4, 0.02)
LARGEST_BETA = 0.999
COSINE_OFFSET = 0.008
LEAST_SIGNAL = 4.9e-8  # of the data at a timestep without any: its sigma would be infinite


@dataclass(frozen=True)
class NoiseSchedule:
    """The timesteps, and whether the network predicts the noise or v (Salimans and Ho 2022, arXiv 2202.00512)."""

    alphas_cumprod: tuple[float, ...]  # share of the data's variance at each timestep, falling
    prediction: str = "v"

    def __post_init__(self) -> None:
        if self.prediction not in PREDICTIONS:
            raise ValueError(f"unknown prediction {self.prediction!r}; expected one of {', '.join(PREDICTIONS)}")
        if self.prediction == "epsilon" and self.alphas_cumprod[-1] == 0:
            raise ValueError(
                "a schedule of zero terminal SNR cannot predict epsilon: at the last timestep the input is the noise, "
                "and nothing of the data could be learned there. Choose prediction v, or a schedule without it"
            )

    @property
    def sigmas(self) -> Tensor:
        """The deviation of the noise at each timestep where the data keeps its size, (1000,): `sqrt((1 - a) / a)`.

        In this scaling k-diffusion and ComfyUI hold a state, as `data + sigma * noise`.
        """
        alphas = torch.tensor(self.alphas_cumprod, dtype=torch.float64).clamp_min(LEAST_SIGNAL)
        return ((1 - alphas) / alphas).sqrt()

    def alpha_cumprod(self, timesteps: Tensor, like: Tensor) -> Tensor:
        """`alphas_cumprod` at `timesteps` (n,), to multiply `like` (n, ...) with, in its type and place.

        `timesteps` may be on the CPU or beside `like`.
        """
        shares = signal_table(self.alphas_cumprod, like.dtype, like.device)[timesteps]
        return shares.view(-1, *[1] * (like.ndim - 1))

    def add_noise(self, data: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Data (n, ...) with the noise of its `timesteps` (n,)."""
        a = self.alpha_cumprod(timesteps, data)
        return a.sqrt() * data + (1 - a).sqrt() * noise

    def target(self, data: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What the network is to predict: the noise, or `v = sqrt(a) * noise - sqrt(1 - a) * data`."""
        if self.prediction == "epsilon":
            return noise
        a = self.alpha_cumprod(timesteps, data)
        return a.sqrt() * noise - (1 - a).sqrt() * data

    def predict_x0_and_eps(self, x: Tensor, output: Tensor, alpha_cumprod: float) -> tuple[Tensor, Tensor]:
        """The clean estimate and the noise that the network's `output` means for `x`."""
        signal, spread = math.sqrt(alpha_cumprod), math.sqrt(1 - alpha_cumprod)
        if self.prediction == "epsilon":
            return (x - spread * output) / signal, output
        return signal * x - spread * output, spread * x + signal * output

    def snr(self, timesteps: Tensor) -> Tensor:
        """Signal-to-noise ratio a / (1 - a) at `timesteps` (n,), float32."""
        return snr_table(self.alphas_cumprod, timesteps.device)[timesteps]


# Steps of a training look into the same tables again and again; a copy each time would make a device wait.
@lru_cache(maxsize=8)
def signal_table(alphas_cumprod: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """`alphas_cumprod` (1000,) on a device, rounded once."""
    with torch.inference_mode(False), torch.no_grad():  # a table made while sampling must also serve training
        return torch.tensor(alphas_cumprod, dtype=torch.float64).to(device=device, dtype=dtype)


@lru_cache(maxsize=8)
def snr_table(alphas_cumprod: tuple[float, ...], device: torch.device) -> Tensor:
    """The signal-to-noise ratio of every timestep (1000,), float32."""
    with torch.inference_mode(False), torch.no_grad():
        a = torch.tensor(alphas_cumprod, dtype=torch.float64)
        return (a / (1 - a)).float().to(device)


def make_schedule(name: str = "linear", prediction: str = "v", zero_terminal_snr: bool = False) -> NoiseSchedule:
    """Build a schedule of 1000 timesteps; `zero_terminal_snr` leaves nothing of the data at the last one."""
    if name == "linear":
        low, high = LINEAR_BETAS
        betas = [low + (high - low) * timestep / (NUM_TRAIN_TIMESTEPS - 1) for timestep in range(NUM_TRAIN_TIMESTEPS)]
    elif name == "cosine":
        betas = [
            min(1 - cosine_alpha_cumprod(t + 1) / cosine_alpha_cumprod(t), LARGEST_BETA)
            for t in range(NUM_TRAIN_TIMESTEPS)
        ]
    else:
        raise ValueError(f"unknown noise schedule {name!r}; expected one of {', '.join(SCHEDULES)}")
    alphas_cumprod, share = [], 1.0
    for beta in betas:
        share *= 1 - beta
        alphas_cumprod.append(share)
    if zero_terminal_snr:
        alphas_cumprod = rescale_zero_terminal_snr(alphas_cumprod)
    return NoiseSchedule(tuple(alphas_cumprod), prediction)


def schedule_of(family: ModelFamily) -> NoiseSchedule:
    """The schedule that a diffusion model was trained with."""
    return make_schedule(family.schedule, family.prediction, family.zero_terminal_snr)


def cosine_alpha_cumprod(timestep: int) -> float:
    """Share of the data's variance after `timestep` steps (Nichol and Dhariwal 2021, arXiv 2102.09672, equation 17)."""
    return math.cos((timestep / NUM_TRAIN_TIMESTEPS + COSINE_OFFSET) / (1 + COSINE_OFFSET) * math.pi / 2) ** 2


def rescale_zero_terminal_snr(alphas_cumprod: Sequence[float]) -> list[float]:
    """Shift and stretch the signal so that it ends at 0 (Lin et al. 2024, arXiv 2305.08891, algorithm 1)."""
    roots = [math.sqrt(alpha_cumprod) for alpha_cumprod in alphas_cumprod]
    stretch = roots[0] / (roots[0] - roots[-1])
    return [((root - roots[-1]) * stretch) ** 2 for root in roots]
