"""Gradients of the host's fused rotary embeddings, which are registered without: they are made for sampling.

Each is written out in plain operations here, and the gradient is that of those. Networks that check whether the host
trains take other ways; older ones, MiniMax H3, Ernie and JoyImage do not.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

KERNELS = "comfy_kitchen"  # where the host's operations are
_given: set[str] = set()  # operations that have a gradient from here


def turn(x: Tensor, freqs_cis: Tensor, split_half: bool = False, rotated: int = 0) -> Tensor:
    """Pairs of numbers of `x` (..., n) turned by matrices (..., n / 2, 2, 2); of the first `rotated` ones, 0 all.

    A pair are neighbours, or with `split_half` a number of the first half and one of the second.
    """
    rotated = rotated or x.shape[-1]
    moving, rest = x[..., :rotated].to(freqs_cis.dtype), x[..., rotated:]
    pairs = torch.stack(moving.chunk(2, -1), -1) if split_half else moving.unflatten(-1, (-1, 2))
    turned = (freqs_cis * pairs.unsqueeze(-2)).sum(-1)
    flat = torch.cat(turned.unbind(-1), -1) if split_half else turned.flatten(-2)
    return torch.cat([flat.to(x.dtype), rest], -1)


def normed(x: Tensor, scale: Tensor, epsilon: float) -> Tensor:
    """The root mean square norm of each head."""
    return F.rms_norm(x.float(), x.shape[-1:], scale.float(), epsilon).to(x.dtype)


def normed_turn(
    split_half: bool, x: Tensor, freqs_cis: Tensor, scale: Tensor, epsilon: float, rotated: int = 0
) -> tuple[Tensor, ...]:
    """One of them, normed and turned."""
    return (turn(normed(x, scale, epsilon), freqs_cis, split_half, rotated),)


def normed_turns(
    split_half: bool,
    q: Tensor,
    k: Tensor,
    freqs_cis: Tensor,
    q_scale: Tensor,
    k_scale: Tensor | None,
    epsilon: float,
    rotated: int = 0,
) -> tuple[Tensor, ...]:
    """Queries and keys, normed and turned."""
    k_scale = q_scale if k_scale is None else k_scale
    return tuple(
        turn(normed(x, scale, epsilon), freqs_cis, split_half, rotated) for x, scale in ((q, q_scale), (k, k_scale))
    )


# By the name of the operation: how many of its first inputs get a gradient, and what it computes.
ROTATIONS: dict[str, tuple[int, Callable[..., tuple[Tensor, ...]]]] = {
    "apply_rope1": (1, lambda x, freqs_cis: (turn(x, freqs_cis),)),
    "apply_rope_split_half1": (1, lambda x, freqs_cis: (turn(x, freqs_cis, True),)),
    "apply_rope": (2, lambda q, k, freqs_cis: (turn(q, freqs_cis), turn(k, freqs_cis))),
    "apply_rope_split_half": (2, lambda q, k, freqs_cis: (turn(q, freqs_cis, True), turn(k, freqs_cis, True))),
    "rms_rope1": (1, partial(normed_turn, False)),
    "rms_rope_split_half1": (1, partial(normed_turn, True)),
    "rms_rope": (2, partial(normed_turns, False)),
    "rms_rope_split_half": (2, partial(normed_turns, True)),
}


def give_rotations_gradients() -> None:
    """Register the gradients of those that this host has, once in a process."""
    kernels = getattr(torch.ops, KERNELS, None)
    for name, (learned, plain) in ROTATIONS.items():
        if name not in _given and hasattr(kernels, name):
            _given.add(name)
            back, keep = autograd_of(learned, plain)
            torch.library.register_autograd(f"{KERNELS}::{name}", back, setup_context=keep)


def autograd_of(learned: int, plain: Callable[..., tuple[Tensor, ...]]) -> tuple[Any, ...]:
    """Backward of an operation that computes `plain`, for its first `learned` inputs; and what keeps what it needs."""

    def keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        tensors = [each for each in inputs if isinstance(each, Tensor)]
        ctx.save_for_backward(*tensors)
        ctx.others = [None if isinstance(each, Tensor) else (each,) for each in inputs]

    def back(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        tensors = iter(ctx.saved_tensors)
        inputs = [next(tensors) if other is None else other[0] for other in ctx.others]
        begun = [each.detach().requires_grad_() for each in inputs[:learned]]
        with torch.enable_grad():
            outputs = plain(*begun, *inputs[learned:])
        found = torch.autograd.grad(outputs, begun, gradients)
        return (*found, *[None] * (len(inputs) - learned))

    return back, keep
