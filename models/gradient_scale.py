"""Gradients on another scale inside a network, for numbers of few bits: float16 rounds to 0 what is below 6e-8."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor


class ScaledGradient(torch.autograd.Function):
    """The identity, whose gradient is multiplied (Micikevicius et al., Mixed Precision Training, arXiv 1710.03740)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float) -> Tensor:
        """(...) -> the same."""
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """(...) -> `scale` times as much."""
        return gradient * ctx.scale, None


def scale_gradient(x: Tensor, scale: float) -> Tensor:
    """`x` (...), whose gradient comes to what it is made of multiplied by `scale`."""
    if scale == 1:
        return x
    scaled: Tensor = cast(Any, ScaledGradient).apply(x, scale)  # some versions of torch give it no types
    return scaled


@contextmanager
def unscaled_gradients(parameters: Iterable[Tensor], scale: float) -> Iterator[None]:
    """Divide what comes to `parameters` by `scale`, before it is added up."""
    divide = partial(torch.mul, other=1 / scale)
    hooks = [] if scale == 1 else [each.register_hook(divide) for each in parameters]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
