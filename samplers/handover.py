"""A state of a small stage in a latent of full size: how a pyramid goes on in another sampler, such as Wan's second.

The low corner of its coefficients is the state. The others are those of the run's noise that later jumps need, damped
so far that no state of full size looks alike: a sampler that is given such a latent knows what it is, and which stage
left it. It lives through files and blocks that carry latents, and decodes to a picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from .spectral import Size, resample, size_of

DAMPING = 64.0
LARGEST_DEVIATION = 4 / DAMPING  # of damped coefficients, as a share of the level; those of a state are near 1


@dataclass(frozen=True, eq=False)
class Handover:
    """The state of a stage, and a noise of full size that holds what later jumps take from it."""

    stage: int
    state: Tensor
    noise: Tensor


def hand_over(state: Tensor, noise: Tensor, level: float) -> Tensor:
    """A latent of the size of `noise` that holds a smaller `state` at `level`."""
    size = size_of(noise)
    if size_of(state) == size:
        return state
    above = noise - resample(resample(noise, size_of(state)), size)
    return resample(state, size) + level / DAMPING * above


def take_over(latent: Tensor, level: float, sizes: Sequence[Size]) -> Handover | None:
    """What `hand_over` put into a latent at `level`; None where it is a state of full size.

    ValueError where a stage of none of the `sizes` left it.
    """
    full = size_of(latent)
    for stage, size in enumerate(sizes):
        if size == full:
            return None
        state = resample(latent, size)
        above = latent - resample(state, full)
        if outer_deviation(above, full, size) < LARGEST_DEVIATION * level:
            inner = (max(1, size[0] - 1), max(1, size[1] - 1))
            edge = state - resample(resample(state, inner), size)
            if outer_deviation(edge, size, inner) < LARGEST_DEVIATION * level:
                raise ValueError(
                    f"this latent was left by a smaller stage than the {size[0]} x {size[1]} cells of these stages: "
                    "wire the same 'Pyramid stages (any model)' into both samplers"
                )
            return Handover(stage, state, above * (DAMPING / level))
    return None


def outer_deviation(rest: Tensor, size: Size, without: Size) -> float:
    """Deviation of the coefficients of `size` that are not in its corner `without`; `rest` holds those alone."""
    share = 1 - without[0] * without[1] / (size[0] * size[1])
    return float((rest.float().square().mean() / share).sqrt()) if share > 0 else math.inf
