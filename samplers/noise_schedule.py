"""Noise schedules of diffusion: how much of the data is left at each of 1000 levels, and what the network predicts.

At level t (0 = hardly any noise) `x = sqrt(a) * data + sqrt(1 - a) * noise`, `a` the cumulative product of 1 - beta (Ho
et al. 2020, arXiv 2006.11239). Everything here is float64 on the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..models.families import ModelFamily

LEVELS = 1000
SCHEDULES = ("linear", "cosine")
PREDICTIONS = ("epsilon", "v")
LINEAR_BETAS = (1e-4, 0.02)
LARGEST_BETA = 0.999
COSINE_OFFSET = 0.008


@dataclass(frozen=True)
class NoiseSchedule:
    """The levels, and whether the network predicts the noise or v (Salimans and Ho 2022, arXiv 2202.00512)."""

    alphas: tuple[float, ...]  # share of the data's variance at each level, falling
    prediction: str = "v"

    def __post_init__(self) -> None:
        if self.prediction not in PREDICTIONS:
            raise ValueError(f"unknown prediction {self.prediction!r}; expected one of {', '.join(PREDICTIONS)}")
        if self.prediction == "epsilon" and self.alphas[-1] == 0:
            raise ValueError(
                "a schedule of zero terminal SNR cannot predict epsilon: at the last level the input is the noise, and "
                "nothing of the data could be learned there. Choose prediction v, or a schedule without it"
            )

    def alpha(self, levels: Tensor, like: Tensor) -> Tensor:
        """Shares of variance at `levels` (n,), to multiply `like` (n, ...) with, in its type and place."""
        shares = torch.tensor(self.alphas, dtype=torch.float64)[levels.cpu()]
        return shares.view(-1, *[1] * (like.ndim - 1)).to(like)

    def noisy(self, data: Tensor, noise: Tensor, levels: Tensor) -> Tensor:
        """Data (n, ...) with the noise of its `levels` (n,)."""
        a = self.alpha(levels, data)
        return a.sqrt() * data + (1 - a).sqrt() * noise

    def target(self, data: Tensor, noise: Tensor, levels: Tensor) -> Tensor:
        """What the network shall predict."""
        if self.prediction == "epsilon":
            return noise
        a = self.alpha(levels, data)
        return a.sqrt() * noise - (1 - a).sqrt() * data

    def split(self, x: Tensor, answer: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
        """The clean estimate and the noise that `answer` means, for `x` with the share `alpha` of the data."""
        signal, spread = math.sqrt(alpha), math.sqrt(1 - alpha)
        if self.prediction == "epsilon":
            return (x - spread * answer) / signal, answer
        return signal * x - spread * answer, spread * x + signal * answer

    def snr(self, levels: Tensor) -> Tensor:
        """Signal-to-noise ratio a / (1 - a) at `levels` (n,), float32."""
        a = torch.tensor(self.alphas, dtype=torch.float64)[levels.cpu()]
        return (a / (1 - a)).float().to(levels.device)


def make_schedule(name: str = "linear", prediction: str = "v", zero_terminal_snr: bool = False) -> NoiseSchedule:
    """Build a schedule of 1000 levels; `zero_terminal_snr` leaves nothing of the data at the last one."""
    if name == "linear":
        low, high = LINEAR_BETAS
        betas = [low + (high - low) * level / (LEVELS - 1) for level in range(LEVELS)]
    elif name == "cosine":
        betas = [min(1 - cosine_share(t + 1) / cosine_share(t), LARGEST_BETA) for t in range(LEVELS)]
    else:
        raise ValueError(f"unknown noise schedule {name!r}; expected one of {', '.join(SCHEDULES)}")
    alphas, share = [], 1.0
    for beta in betas:
        share *= 1 - beta
        alphas.append(share)
    return NoiseSchedule(tuple(without_terminal_signal(alphas) if zero_terminal_snr else alphas), prediction)


def schedule_of(family: ModelFamily) -> NoiseSchedule:
    """The schedule that a diffusion model was trained with."""
    return make_schedule(family.schedule, family.prediction, family.zero_terminal_snr)


def cosine_share(level: int) -> float:
    """Share of the data's variance after `level` levels (Nichol and Dhariwal 2021, arXiv 2102.09672, equation 17)."""
    return math.cos((level / LEVELS + COSINE_OFFSET) / (1 + COSINE_OFFSET) * math.pi / 2) ** 2


def without_terminal_signal(alphas: Sequence[float]) -> list[float]:
    """Shift and stretch the signal so that it ends at 0 (Lin et al. 2024, arXiv 2305.08891, algorithm 1)."""
    roots = [math.sqrt(alpha) for alpha in alphas]
    stretch = roots[0] / (roots[0] - roots[-1])
    return [((root - roots[-1]) * stretch) ** 2 for root in roots]
