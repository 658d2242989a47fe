"""Gradients through the host's layers of few bits, whose products are made for sampling.

ComfyUI 0.8 stops the gradient there without a word where a card multiplies in float8; newer ones stop with an error for
weights that were loaded in inference mode, as a server's are, and for forms of four bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, cast

import comfy.ops
import torch
from torch import Tensor, nn

Forward = Callable[[Tensor], Tensor]
SMOOTHING = "pre_quant_scale"  # of a layer


class QuantisedProduct(torch.autograd.Function):
    """A layer as it computes in sampling, and back the gradient through the weights that its few bits stand for.

    For y = Q(x) W' + b the gradient of x is that of y times W: rounding of the input counts as the identity
    (straight-through, Bengio et al., arXiv 1308.3432). Neither the input nor whole weights are kept.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: nn.Module, forward: Forward) -> Tensor:
        """(..., in) -> (..., out)."""
        ctx.layer = layer
        return forward(x.detach())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """(..., out) -> (..., in)."""
        return gradient @ whole_weight(ctx.layer, gradient), None, None


def whole_weight(layer: nn.Module, like: Tensor) -> Tensor:
    """(out, in): what a layer multiplies its input with, patches included, of the type and device of `like`."""
    weight, _ = comfy.ops.cast_bias_weight(layer, like)
    return (weight.dequantize() if hasattr(weight, "_qdata") else weight).to(like)


def learned_through(layer: nn.Module, forward: Forward, x: Tensor, *args: Any, **kw: Any) -> Tensor:
    """The forward of a quantised layer while its network learns."""
    if not (torch.is_grad_enabled() and x.requires_grad):
        return forward(x, *args, **kw)
    apply = cast(Any, QuantisedProduct).apply  # some versions of torch give it no types
    product: Tensor = apply(x, layer, partial(forward, *args, **kw))
    return product


@contextmanager
def smoothed_before(layer: Any) -> Iterator[None]:
    """Let a layer that smooths its input get it smoothed: additions then learn on what they are multiplied with.

    In weights, where core puts what was learned, they see it so. Of some files, one number for each feature.
    """
    smoothing = getattr(layer, SMOOTHING, None)
    if smoothing is None:
        yield
        return
    hook = layer.register_forward_pre_hook(lambda _, inputs: (inputs[0] * smoothing.to(inputs[0]), *inputs[1:]))
    setattr(layer, SMOOTHING, None)
    try:
        yield
    finally:
        hook.remove()
        setattr(layer, SMOOTHING, smoothing)


def is_quantised(layer: nn.Module) -> bool:
    """Whether a layer of the host is a linear one with weights of few bits."""
    return hasattr(layer, "in_features") and getattr(layer, "layout_type", None) is not None


@contextmanager
def gradients_through(layer: Any) -> Iterator[None]:
    """Let gradients through one quantised layer."""
    own = vars(layer).get("forward")  # of another pack
    vars(layer)["forward"] = partial(learned_through, layer, layer.forward)
    try:
        with smoothed_before(layer):
            yield
    finally:
        del vars(layer)["forward"]
        if own is not None:
            vars(layer)["forward"] = own


@contextmanager
def products_in_full() -> Iterator[None]:
    """Let layers that make float8 of their input, as those of `fp8_e4m3fn_fast`, multiply in full."""
    product = vars(comfy.ops).get("fp8_linear")
    if product is None:
        yield
        return
    comfy.ops.fp8_linear = lambda *_: None  # to the layers: not possible, and they take the other way
    try:
        yield
    finally:
        comfy.ops.fp8_linear = product


@contextmanager
def quantised_gradients(network: nn.Module) -> Iterator[None]:
    """Let gradients through all layers of `network` with weights of few bits."""
    with products_in_full(), ExitStack() as opened:
        for layer in filter(is_quantised, network.modules()):
            opened.enter_context(gradients_through(layer))
        yield
