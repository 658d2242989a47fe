"""Flow matching: an ordinary differential equation from noise to data (Lipman et al. 2023, Liu et al. 2023).

The path is straight: `x = sigma * noise + (1 - sigma) * data`, velocity `noise - data`. The textbook time is 1 - sigma.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor

from .sigma_schedule import NUM_TRAIN_TIMESTEPS
from .solvers import SOLVERS, check_finite, count_calls

MOST_STEPS = 1000
TIMESTEPS = float(NUM_TRAIN_TIMESTEPS)  # the timestep of a noise level is sigma times this


@dataclass(frozen=True)
class FlowStep:
    """One model evaluation."""

    index: int  # of all evaluations of this run
    total: int
    sigma: float  # share of noise, 1 -> 0


Level = TypeVar("Level", float, Tensor)
Velocity = Callable[[Tensor, FlowStep], Tensor]  # (x, info) -> velocity of the same shape
Callback = Callable[[FlowStep, Tensor], None]  # (info, estimate of the clean clip); may raise to stop


def shift_sigma(sigma: Level, shift: float) -> Level:
    """Move a noise level towards 1 for `shift` above 1 (Esser et al. 2024, arXiv 2403.03206, section 5.3.2)."""
    return shift * sigma / (1 + (shift - 1) * sigma)


def flow_sigmas(steps: int, shift: float = 1.0) -> tuple[float, ...]:
    """The `steps + 1` noise levels from 1 to 0: an even line, shifted."""
    if not 1 <= steps <= MOST_STEPS:
        raise ValueError(f"{steps} steps; expected 1 to {MOST_STEPS} (5 to 20 are usual for flow matching)")
    if not 0 < shift < math.inf:
        raise ValueError(f"shift is {shift}; expected a number above 0 (1 leaves the levels as they are)")
    # The first as a number of its own: rounded, some shifts below 1 bring it out above 1.
    return (1.0, *(shift_sigma(1 - step / steps, shift) for step in range(1, steps)), 0.0)


@torch.no_grad()
def sample_flow(
    velocity: Velocity,
    noise: Tensor,
    sigmas: Sequence[float],
    solver: str = "euler",
    callback: Callback | None = None,
) -> Tensor:
    """Make normalised data from white `noise` of any shape, along falling noise levels `sigmas`.

    Levels that start below 1 go on from a clip that is noisy already. Computed in float32 or better; raises ValueError
    on levels that do not fall and when the run ends in NaN or infinity.
    """
    if len(sigmas) < 2 or any(not 1 >= high > low >= 0 for high, low in pairwise(sigmas)):
        raise ValueError(f"noise levels are {[round(s, 4) for s in sigmas]}; expected them to fall, from 1 to 0")
    total = count_calls(solver, len(sigmas) - 1) + (solver == "heun" and sigmas[-1] > 0)
    x = noise.to(torch.promote_types(noise.dtype, torch.float32))  # small steps vanish in 16 bits
    index = 0

    def evaluate(x: Tensor, sigma: float) -> Tensor:
        nonlocal index
        info = FlowStep(index, total, sigma)
        index += 1
        v = velocity(x, info)
        if callback is not None:
            callback(info, x - sigma * v.to(x.dtype))
        return v

    for sigma, sigma_next in pairwise(sigmas):
        x = SOLVERS[solver](evaluate, x, sigma, sigma_next)
    check_finite(x)
    return x
