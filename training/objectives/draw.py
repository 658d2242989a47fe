"""The random numbers of a training step, and how often each part of the path from noise to data is learned."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..presets import TIMESTEP_SAMPLINGS


class Draw(Protocol):
    """A source of random numbers."""

    def normal(self, shape: Sequence[int]) -> Tensor: ...

    def uniform(self, count: int) -> Tensor: ...


@dataclass(frozen=True)
class GeneratorDraw:
    """Random numbers from a `torch.Generator`, moved to `device`."""

    generator: torch.Generator
    device: torch.device | str = "cpu"

    def normal(self, shape: Sequence[int]) -> Tensor:
        """Standard normal numbers, float32."""
        return torch.randn(*shape, generator=self.generator, device=self.generator.device).to(self.device)

    def uniform(self, count: int) -> Tensor:
        """`count` uniform numbers in 0..1, float32."""
        return torch.rand(count, generator=self.generator, device=self.generator.device).to(self.device)


@dataclass(frozen=True)
class TimestepSampling:
    """Noise levels that are `uniform` in 0..1, or `logit_normal`: a normal number through the logistic function.

    The second learns the middle of the path more often (Esser et al. 2024, arXiv 2403.03206, section 3.1); a `mean`
    above 0 means more noise. Levels outside of `least`..`most` are not drawn, those inside as often as without limits
    in proportion to each other.
    """

    name: str = "uniform"
    mean: float = 0.0
    deviation: float = 1.0
    least: float = 0.0
    most: float = 1.0

    def __post_init__(self) -> None:
        if self.name not in TIMESTEP_SAMPLINGS:
            known = ", ".join(TIMESTEP_SAMPLINGS)
            raise ValueError(f"unknown sampling of timesteps {self.name!r}; expected one of {known}")
        if not (math.isfinite(self.mean) and 0 < self.deviation < math.inf):
            raise ValueError(
                f"mean {self.mean} and deviation {self.deviation} of the timesteps must be numbers, the second above 0"
            )
        if not 0 <= self.least < self.most <= 1:
            raise ValueError(f"noise levels from {self.least} to {self.most}; expected two numbers that rise, in 0..1")

    def draw_sigmas(self, count: int, draw: Draw) -> Tensor:
        """Noise levels (count,) in 0..1, float32."""
        if self.name == "uniform":
            return self.least + (self.most - self.least) * draw.uniform(count)
        number = draw.normal((count,))
        if (self.least, self.most) != (0, 1):
            number = self.within_limits(number)
        return torch.sigmoid(self.mean + self.deviation * number)

    def within_limits(self, number: Tensor) -> Tensor:
        """Normal numbers (n,) as those between the limits, of the same rank among them: cdf^-1(a + (b - a) cdf(x))."""
        limits = torch.tensor((self.least, self.most), dtype=torch.float64)
        below, above = torch.special.ndtr((torch.logit(limits) - self.mean) / self.deviation).tolist()
        share = below + (above - below) * torch.special.ndtr(number.double())
        return torch.special.ndtri(share).to(number)


UNIFORM = TimestepSampling()
