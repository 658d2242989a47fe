"""DDIM and ancestral sampling of diffusion models (Song et al. 2021, arXiv 2010.02502)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .noise import Generators, white_noise
from .noise_schedule import NoiseSchedule
from .sigma_schedule import NUM_TRAIN_TIMESTEPS
from .solvers import check_finite

FINISHED = -1  # the timestep after the last: all data, no noise


@dataclass(frozen=True)
class DDIMStep:
    """One model evaluation."""

    index: int
    total: int
    timestep: int  # 999 (noise) to 0


ModelCall = Callable[[Tensor, DDIMStep], Tensor]  # (x, info) -> noise or v, as the schedule says
Callback = Callable[[DDIMStep, Tensor], None]  # (info, estimate of the clean clip); may raise to stop
Renoise = Callable[[Tensor], Tensor]  # like -> white noise


def ddim_timesteps(steps: int) -> tuple[int, ...]:
    """The timesteps of `steps` steps, evenly spaced and counted back from the noisiest, which is always among them.

    Schedules that start elsewhere never see pure noise in training's sense (arXiv 2305.08891, section 3.3).
    """
    if not 1 <= steps <= NUM_TRAIN_TIMESTEPS:
        raise ValueError(f"{steps} steps; expected 1 to {NUM_TRAIN_TIMESTEPS} (50 to 250 are usual for DDIM)")
    return tuple(round(NUM_TRAIN_TIMESTEPS - index * NUM_TRAIN_TIMESTEPS / steps) - 1 for index in range(steps))


@torch.no_grad()
def sample_ddim(
    model: ModelCall,
    noise: Tensor,
    schedule: NoiseSchedule,
    timesteps: Sequence[int],
    *,
    eta: float = 0.0,
    generators: Generators = (),
    renoise: Renoise | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Make normalised data (b, ...) from white `noise`, along falling `timesteps`.

    `eta` 0 is DDIM, the same clip for the same noise; 1 is ancestral sampling, with fresh noise in every step; between
    them the noise is scaled (equation 16). It comes from `generators` (one per row), or from `renoise`. Raises
    ValueError on an eta or timesteps that do not fit, and when the run ends in NaN or infinity.
    """
    check_eta(eta)
    ends = [*timesteps[1:], FINISHED]
    if (
        not timesteps
        or timesteps[0] >= NUM_TRAIN_TIMESTEPS
        or any(high <= low for high, low in zip(timesteps, ends, strict=True))
    ):
        raise ValueError(
            f"timesteps are {list(timesteps)}; expected them to fall, between {NUM_TRAIN_TIMESTEPS - 1} and 0"
        )
    if renoise is None:

        def renoise(like: Tensor) -> Tensor:
            return white_noise(like, generators)

    x = noise.to(torch.promote_types(noise.dtype, torch.float32))
    for index, (timestep, timestep_next) in enumerate(zip(timesteps, ends, strict=True)):
        info = DDIMStep(index, len(timesteps), timestep)
        alpha_cumprod = schedule.alphas_cumprod[timestep]
        alpha_cumprod_next = 1.0 if timestep_next == FINISHED else schedule.alphas_cumprod[timestep_next]
        clean, direction = schedule.predict_x0_and_eps(x, model(x, info).to(x.dtype), alpha_cumprod)
        if callback is not None:
            callback(info, clean)
        spread = eta * fresh_spread(alpha_cumprod, alpha_cumprod_next)
        x = math.sqrt(alpha_cumprod_next) * clean + math.sqrt(max(0.0, 1 - alpha_cumprod_next - spread**2)) * direction
        if spread > 0:
            x = x + spread * renoise(x)
    check_finite(x)
    return x


def check_eta(eta: float) -> None:
    """Raise ValueError unless `eta` is 0 to 1."""
    if not 0 <= eta <= 1:
        raise ValueError(f"eta is {eta}; expected 0 (DDIM) to 1 (ancestral)")


def fresh_spread(alpha_cumprod: float, alpha_cumprod_next: float) -> float:
    """Deviation of the fresh noise in an ancestral step (equation 16 with eta 1); 0 in the last."""
    return math.sqrt((1 - alpha_cumprod_next) / (1 - alpha_cumprod) * (1 - alpha_cumprod / alpha_cumprod_next))
