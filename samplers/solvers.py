"""Steps along a velocity field, from noise (sigma 1) to data (sigma 0)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .names import SOLVER_NAMES

Velocity = Callable[[Tensor, float], Tensor]  # (x, sigma) -> velocity (noise - data), in any floating type
Solver = Callable[[Velocity, Tensor, float, float], Tensor]  # (velocity, x, sigma, sigma_next) -> x at sigma_next


def euler_step(x: Tensor, velocity: Tensor, sigma: float, sigma_next: float) -> Tensor:
    """Move `x` along `velocity` (noise - data) from noise level `sigma` to `sigma_next`."""
    return x + (sigma_next - sigma) * velocity.to(x.dtype)


def euler(velocity: Velocity, x: Tensor, sigma: float, sigma_next: float) -> Tensor:
    """First order: follow the velocity at the start of the step."""
    return euler_step(x, velocity(x, sigma), sigma, sigma_next)


def heun(velocity: Velocity, x: Tensor, sigma: float, sigma_next: float) -> Tensor:
    """Second order: follow the mean of the velocities at both ends; the last step, onto the data, is Euler's.

    As in Karras et al. 2022 (arXiv 2206.00364, algorithm 1): at sigma 0 there is no noise left to predict.
    """
    first = velocity(x, sigma).to(x.dtype)
    if sigma_next == 0:
        return euler_step(x, first, sigma, sigma_next)
    second = velocity(euler_step(x, first, sigma, sigma_next), sigma_next).to(x.dtype)
    return euler_step(x, (first + second) / 2, sigma, sigma_next)


def midpoint(velocity: Velocity, x: Tensor, sigma: float, sigma_next: float) -> Tensor:
    """Second order: follow the velocity half-way through the step."""
    middle = (sigma + sigma_next) / 2
    return euler_step(x, velocity(euler(velocity, x, sigma, middle), middle), sigma, sigma_next)


SOLVERS: dict[str, Solver] = dict(zip(SOLVER_NAMES, (euler, heun, midpoint), strict=True))


def count_calls(solver: str, steps: int) -> int:
    """The number of model evaluations in `steps` steps. ValueError names the solvers there are."""
    if solver not in SOLVERS:
        raise ValueError(f"unknown solver {solver!r}; expected one of {', '.join(SOLVERS)}")
    return {"euler": steps, "heun": 2 * steps - 1, "midpoint": 2 * steps}[solver]


def check_finite(x: Tensor) -> None:
    """Raise ValueError when a run ended in NaN or infinity; checked once, because reading it makes a GPU wait."""
    if not torch.isfinite(x).all():
        raise ValueError(
            "sampling ended in NaN or infinity: use bfloat16 or float32 weights (float16 overflows), and check that "
            "model, latent and text hold no NaN"
        )
