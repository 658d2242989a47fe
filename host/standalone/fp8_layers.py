"""The layers of `layers`, whose linears with weights in float8 also multiply in float8.

What comes in gets one scale, so that its largest number becomes the largest of the type. The scale stays on the device.
"""

from __future__ import annotations

import logging
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from ...models.out_of_memory import is_out_of_memory, tried
from . import layers
from .layers import Conv2d, Conv3d, LayerNorm, RMSNorm

__all__ = ["Conv2d", "Conv3d", "LayerNorm", "Linear", "RMSNorm", "has_fp8_products"]

FP8 = torch.float8_e4m3fn
ALIGNED = 16  # rows and columns of a weight must be multiples of it
FIRST_CAPABILITY = 8, 9  # Ada
TOLERANCE = 0.1  # relative, of a product of normal numbers; three bits of fraction leave about 0.04

log = logging.getLogger(__name__)


class Linear(layers.Linear):
    def forward(self, x: Tensor) -> Tensor:
        fits = x.numel() and not self.in_features % ALIGNED and not self.out_features % ALIGNED
        if self.weight.dtype != FP8 or not fits:
            return super().forward(x)
        product = fp8_product(x.flatten(0, -2), self.weight)
        if self.bias is not None:
            product += layers.at_use(self.bias, x)
        return product.unflatten(0, x.shape[:-1])


def fp8_product(x: Tensor, weight: Tensor) -> Tensor:
    """`x (n, k)` rounded to float8, times the transpose of `weight (m, k)` in float8: `(n, m)` in the type of `x`."""
    most = torch.finfo(FP8).max
    largest = torch.linalg.vector_norm(x, torch.inf)  # without a copy of all absolute values
    scale = (largest / most).clamp_min(torch.finfo(x.dtype).tiny)
    rounded = (x / scale).clamp(-most, most).to(FP8)  # the quotient may round up past the largest number
    whole = F.ScalingType.TensorWise
    one = torch.ones((), device=x.device)
    return F.scaled_mm(rounded, weight.t(), scale.float(), whole, one, whole, output_dtype=x.dtype)


def has_fp8_products(device: torch.device) -> bool:
    """Whether the device itself multiplies in float8, and torch has a way to ask it to."""
    if device.type != "cuda" or not hasattr(F, "scaled_mm"):
        return False
    return torch.cuda.get_device_capability(device) >= FIRST_CAPABILITY and tried(product_is_right, device)


@lru_cache(maxsize=16)
def product_is_right(device: torch.device) -> bool:
    """Try a small product; makes the device wait once a process."""
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(32, 64, generator=generator).bfloat16() for _ in range(2))
    exact = x.float() @ weight.float().t()
    try:
        found = fp8_product(x.to(device), weight.to(device).to(FP8)).cpu().float()
    except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:
        if is_out_of_memory(error):
            raise
        log.info("Pyramid Video: no products in float8 on %s (%s); weights are only stored in it", device, error)
        return False
    return bool((found - exact).norm() < TOLERANCE * exact.norm())
