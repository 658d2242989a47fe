"""DDIM and ancestral sampling of diffusion models (Song et al. 2021, arXiv 2010.02502)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .noise import Generators, white_noise
from .noise_schedule import LEVELS, NoiseSchedule
from .solvers import check_finite

FINISHED = -1  # the level after the last: all data, no noise


@dataclass(frozen=True)
class DiffusionCall:
    """One question to the model."""

    index: int
    total: int
    level: int  # 999 (noise) to 0, what the network is told


Answer = Callable[[Tensor, DiffusionCall], Tensor]  # (x, call) -> noise or v, as the schedule says
OnCall = Callable[[DiffusionCall, Tensor], None]  # (call, estimate of the clean clip); may raise to stop
Renoise = Callable[[Tensor], Tensor]  # like -> white noise


def ddim_levels(steps: int) -> tuple[int, ...]:
    """The levels of `steps` steps, evenly spaced and counted back from the noisiest, which is always among them.

    Schedules that start elsewhere never see pure noise in training's sense (arXiv 2305.08891, section 3.3).
    """
    if not 1 <= steps <= LEVELS:
        raise ValueError(f"{steps} steps; expected 1 to {LEVELS} (50 to 250 are usual for DDIM)")
    return tuple(round(LEVELS - index * LEVELS / steps) - 1 for index in range(steps))


@torch.no_grad()
def sample_ddim(
    answer: Answer,
    noise: Tensor,
    schedule: NoiseSchedule,
    levels: Sequence[int],
    *,
    eta: float = 0.0,
    generators: Generators = (),
    renoise: Renoise | None = None,
    on_call: OnCall | None = None,
) -> Tensor:
    """Make normalised data (b, ...) from white `noise`, along falling `levels`.

    `eta` 0 is DDIM, the same clip for the same noise; 1 is ancestral sampling, with fresh noise in every step; between
    them the noise is scaled (equation 16). It comes from `generators` (one per row), or from `renoise`. Raises
    ValueError on an eta or levels that do not fit, and when the run ends in NaN or infinity.
    """
    check_eta(eta)
    ends = [*levels[1:], FINISHED]
    if not levels or levels[0] >= LEVELS or any(high <= low for high, low in zip(levels, ends, strict=True)):
        raise ValueError(f"levels are {list(levels)}; expected them to fall, between {LEVELS - 1} and 0")
    if renoise is None:

        def renoise(like: Tensor) -> Tensor:
            return white_noise(like, generators)

    x = noise.to(torch.promote_types(noise.dtype, torch.float32))
    for index, (level, level_next) in enumerate(zip(levels, ends, strict=True)):
        call = DiffusionCall(index, len(levels), level)
        alpha = schedule.alphas[level]
        alpha_next = 1.0 if level_next == FINISHED else schedule.alphas[level_next]
        clean, direction = schedule.split(x, answer(x, call).to(x.dtype), alpha)
        if on_call is not None:
            on_call(call, clean)
        spread = eta * fresh_spread(alpha, alpha_next)
        x = math.sqrt(alpha_next) * clean + math.sqrt(max(0.0, 1 - alpha_next - spread**2)) * direction
        if spread > 0:
            x = x + spread * renoise(x)
    check_finite(x)
    return x


def check_eta(eta: float) -> None:
    """Raise ValueError unless `eta` is 0 to 1."""
    if not 0 <= eta <= 1:
        raise ValueError(f"eta is {eta}; expected 0 (DDIM) to 1 (ancestral)")


def fresh_spread(alpha: float, alpha_next: float) -> float:
    """Deviation of the fresh noise in an ancestral step (equation 16 with eta 1); 0 in the last."""
    return math.sqrt((1 - alpha_next) / (1 - alpha) * (1 - alpha / alpha_next))
