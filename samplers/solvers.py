"""Steps along a velocity field, from noise (sigma 1) to data (sigma 0)."""

from __future__ import annotations

from torch import Tensor


def euler_step(x: Tensor, velocity: Tensor, sigma: float, sigma_next: float) -> Tensor:
    """Move `x` along `velocity` (noise - data) from noise level `sigma` to `sigma_next`."""
    return x + (sigma_next - sigma) * velocity.to(x.dtype)
