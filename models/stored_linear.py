"""Linear layers that do not learn, their weights stored in fewer bits than they are computed with.

For the base of a LoRA: gradients pass through to what comes in and to what is added. The weight is worked out anew for
each product, on the way back too. Torch's own linear would keep a copy of it, as large as the weight in full, from the
way there to the way back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .checkpoint_dtypes import named_dtype
from .quantising import is_large_matrix, quantised_weight


class StoredProduct(torch.autograd.Function):
    """`x W^T + b` with `W = weight * scale` in the type of `x`; only `x` gets a gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, scale: Tensor | None, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight, scale)
        return F.linear(x, dequantised(weight, scale, x.dtype), bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        weight, scale = ctx.saved_tensors
        (gradient,) = gradients
        rows = gradient.flatten(0, -2).mm(dequantised(weight, scale, gradient.dtype))  # as torch's own linear does it
        return rows.view(*gradient.shape[:-1], -1), None, None, None


class StoredLinear(nn.Linear):
    """A linear layer with a weight stored in `dtype`, of float8 with one scale for all of it."""

    def __init__(self, layer: nn.Linear, dtype: torch.dtype) -> None:
        super().__init__(layer.in_features, layer.out_features, bias=False, device="meta")
        weight, scale = layer.weight.detach(), None
        if dtype == torch.float8_e4m3fn:
            weight, scale = quantised_weight(weight, "fp8")
        self.weight = nn.Parameter(weight.to(dtype), requires_grad=False)
        self.register_buffer("scale", scale)
        self.bias = None if layer.bias is None else nn.Parameter(layer.bias.detach(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Compute as torch's linear would with the weight in full, under autocast in its type."""
        kind = x.device.type
        mixed = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
        dtype = torch.get_autocast_dtype(kind) if mixed else x.dtype
        bias = None if self.bias is None else self.bias.to(dtype)
        product = cast("Callable[..., Tensor]", StoredProduct.apply)  # which torch has types for in some versions only
        return product(x.to(dtype), self.weight, self.scale, bias)


def dequantised(weight: Tensor, scale: Tensor | None, dtype: torch.dtype) -> Tensor:
    """The weight in `dtype`; a scale is multiplied in float32."""
    return weight.to(dtype) if scale is None else (weight.float() * scale).to(dtype)


def store_linears(network: nn.Module, dtype: str) -> None:
    """Store the weights of all linear layers inside the blocks of `network` in `dtype`: fp32, bf16 or fp8_e4m3fn."""
    wanted = named_dtype(dtype)
    if wanted is None or wanted == torch.float32:
        return
    for name, module in list(network.named_modules()):
        for child, layer in list(module.named_children()):
            key = f"{name}.{child}.weight"
            if isinstance(layer, nn.Linear) and is_large_matrix(key, layer.weight):
                setattr(module, child, StoredLinear(layer, wanted))
