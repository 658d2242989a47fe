"""The repeated blocks of any transformer or U-Net, found by how it is built and not by its name.

Networks keep their blocks in lists of modules. There a LoRA goes beside the linear layers, and there a gradient
checkpoint saves what is between two blocks instead of all that is inside one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten
from torch.utils.checkpoint import checkpoint

# What turns time and text vectors into scales and shifts: it is large and a LoRA of it spoils more than it teaches.
MODULATION = re.compile(r"(^|[._])(mod|modulation|adaln\w*|norm\w*|emb|embed\w*|time\w*)([._]|$)", re.IGNORECASE)
MODULATION_LISTS = re.compile(r"(^|[._])guidance")  # Chroma has a network for all of its scales and shifts
ATTENTION = re.compile(r"attn|attention", re.IGNORECASE)
TARGETS: dict[str, Callable[[str], bool]] = {  # which of the linear layers in blocks
    "attention": lambda name: bool(ATTENTION.search(name)),
    "mlp": lambda name: not ATTENTION.search(name),
    "all": lambda name: True,
}


def outermost_lists(network: nn.Module, prefix: str = "") -> dict[str, nn.ModuleList]:
    """The lists of modules of a network that are in no other one, by name."""
    found: dict[str, nn.ModuleList] = {}
    for name, module in network.named_children():
        if isinstance(module, nn.ModuleList):
            found[prefix + name] = module
        else:
            found |= outermost_lists(module, f"{prefix}{name}.")
    return found


def block_layers(network: nn.Module, targets: str) -> dict[str, nn.Module]:
    """The linear layers in the blocks of a network that `targets`, a key of `TARGETS`, means, by name.

    A host's layers for quantised weights are no `nn.Linear`, but say their sizes in the same words. ValueError where
    there are none.
    """
    chosen = {}
    for prefix, blocks in outermost_lists(network).items():
        if MODULATION_LISTS.search(prefix):
            continue
        for name, layer in blocks.named_modules():
            is_linear = hasattr(layer, "in_features") and hasattr(layer, "out_features")
            if is_linear and not MODULATION.search(name) and TARGETS[targets](f"{prefix}.{name}"):
                chosen[f"{prefix}.{name}"] = layer
    if not chosen:
        hint = "" if targets == "all" else "; try 'all'"
        raise ValueError(f"this {type(network).__name__} has no layers in blocks that {targets!r} means{hint}")
    return chosen


def called_blocks(network: nn.Module) -> list[nn.Module]:
    """The modules in the lists of a network that it calls: a U-Net walks through its sequences layer by layer."""
    blocks = [block for blocks in outermost_lists(network).values() for block in blocks]
    layers = [layer for block in blocks for layer in (block if isinstance(block, nn.Sequential) else [block])]
    return list(dict.fromkeys(layers))  # some share one


@contextmanager
def gradient_checkpoints(network: nn.Module) -> Iterator[None]:
    """Compute every block of a network once more on the way back, instead of keeping what is inside it.

    A block may change what it is given in place; it gets copies, so that the second time is as the first.
    """
    blocks = called_blocks(network)
    own = [vars(block).get("forward") for block in blocks]  # of those whose forward somebody has changed
    for block in blocks:
        block.forward = checkpointed(block.forward)
    try:
        yield
    finally:
        for block, forward in zip(blocks, own, strict=True):
            if forward is None:
                del block.forward  # the one of its class is seen again
            else:
                block.forward = forward


def checkpointed(forward: Any) -> Any:
    """A forward that keeps only its inputs, and computes the rest once more on the way back.

    Dicts are options: networks and patches write into them from block to block, so the second time sees them as they
    were. No gradient may come back to a tensor in one, or come from a dict that a block returns. A gradient does come
    back to the tensors of a dataclass, as Chroma has for scales and shifts.
    """

    def run(*args: Any, **kw: Any) -> Any:
        leaves, shape = tree_flatten((list(args), list(kw.values())), is_leaf=lambda each: isinstance(each, dict))
        places: list[tuple[int, str]] = [(place, "") for place, leaf in enumerate(leaves) if is_number(leaf)]
        places += [(place, name) for place, leaf in enumerate(leaves) for name in number_fields(leaf)]
        options = {place: dict(leaf) for place, leaf in enumerate(leaves) if isinstance(leaf, dict)}
        names = list(kw)
        returned: list[Any] = []

        def compute(anchor: Tensor, *tensors: Tensor) -> tuple[Any, ...]:
            filled = list(leaves)
            if torch.is_grad_enabled():  # the second time
                for place, kept in options.items():
                    filled[place] = dict(kept)
            for (place, name), tensor in zip(places, tensors, strict=True):
                copy = tensor.clone()
                filled[place] = replace(filled[place], **{name: copy}) if name else copy
            if torch.is_grad_enabled():  # a cache in the options may hold what holds this: nobody could let go of it
                options.clear()
                leaves.clear()
            given, named = tree_unflatten(filled, shape)
            outputs, returned[:] = flat_outputs(forward(*given, **dict(zip(names, named, strict=True))))
            return tuple(each + anchor.to(each) if is_number(each) else each for each in outputs)

        # A checkpoint wants something to learn in what goes in and in what comes out, and there may be nothing, as in
        # front of the first addition: the anchor is a zero that would.
        tensors = [getattr(leaves[place], name) if name else leaves[place] for place, name in places]
        anchor = torch.zeros((), device=tensors[0].device if tensors else None, requires_grad=True)
        outputs = checkpoint(compute, anchor, *tensors, use_reentrant=True, preserve_rng_state=False)
        return tree_unflatten(list(outputs), returned[0])

    return run


def is_number(value: Any) -> bool:
    """Whether a gradient may come back to a value."""
    return isinstance(value, Tensor) and value.is_floating_point()


def number_fields(value: Any) -> list[str]:
    """The fields of a dataclass that a gradient may come back to; none of anything else."""
    if not is_dataclass(value) or isinstance(value, type):
        return []
    return [each.name for each in fields(value) if is_number(getattr(value, each.name))]


def flat_outputs(result: Any) -> tuple[tuple[Any, ...], list[Any]]:
    """The leaves of a result, and its shape in a list."""
    leaves, shape = tree_flatten(result, is_leaf=lambda each: isinstance(each, dict))
    return tuple(leaves), [shape]
