"""GELU in its tanh form (Hendrycks and Gimpel 2016, arXiv 1606.08415, section 2).

On a CPU torch works out the hyperbolic tangent slowly. `(1 + tanh(u)) / 2` is the sigmoid of `2 u`, which takes a
third of that, in pieces that stay in a core's own cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

SLOPE = 2 * math.sqrt(2 / math.pi)  # u = SLOPE / 2 * (x + CUBIC x^3)
CUBIC = 0.044715
PIECE = 2**16  # numbers that a thread works on at once: 256 KiB


def gelu(x: Tensor, out: Tensor | None = None) -> Tensor:
    """Return `x (..., n) * sigmoid(2 u)`, in `out` where that is given: rows of the same shape, perhaps of a wider one.

    With an `out` there is no gradient. The numbers are the same with and without one.
    """
    if x.device.type == "cpu" and x.dtype is torch.float32 and not torch.compiler.is_compiling():
        if out is None and torch.is_grad_enabled():
            apply: Callable[[Tensor], Tensor] = Learned.apply  # which some versions of torch give no types
            return apply(x)
        return by_sigmoid(x, x.new_empty(x.shape) if out is None else out)
    if out is None:
        return F.gelu(x, approximate="tanh")
    if x.device.type == "mps":  # before macOS 15 its kernel takes a strided `out` for a dense one
        return out.copy_(F.gelu(x, approximate="tanh"))
    return torch.ops.aten.gelu.out(x, approximate="tanh", out=out)


class Learned(torch.autograd.Function):
    """`by_sigmoid`, with the gradient of torch's own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return by_sigmoid(x, x.new_empty(x.shape))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return torch.ops.aten.gelu_backward(gradient, x, approximate="tanh")


def by_sigmoid(x: Tensor, out: Tensor) -> Tensor:
    width = x.shape[-1]
    rows = max(1, PIECE * torch.get_num_threads() // width)
    slope = x.new_tensor(SLOPE)
    for part, result in zip(x.reshape(-1, width).split(rows), out.view(-1, width).split(rows), strict=True):
        twice_u = torch.addcmul(slope, part, part, value=SLOPE * CUBIC).mul_(part)
        torch.mul(twice_u.sigmoid_(), part, out=result)
    return out
