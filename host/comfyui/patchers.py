"""The host's own patcher around a network of ours, so that whatever memory management this host has serves it."""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.sd
import torch
from torch import nn

from ...models.fingerprint import some_numbers

try:
    from comfy.model_prefetch import cleanup_prefetched_modules
except ImportError:  # a host that does not stream, or does it without
    cleanup_prefetched_modules = None

Again = tuple[Callable[..., Any], tuple[Any, ...]]  # what reads a network once more and answers its patcher


def patcher_of(
    model: nn.Module,
    network: nn.Module,
    load: torch.device,
    offload: torch.device,
    again: Again,
    disable_dynamic: bool = False,
) -> Any:
    """A patcher of the class that this host gives its own models; newer ones stream the weights of `network` with it.

    Those cast a weight to the type that it had when the network was made, and some of ours are in another one since
    (norms beside float8, float32 beside bfloat16): the types are noted again. disable_dynamic: the class that does not
    stream, for what newer hosts can do with whole weights only.
    """
    note_types = getattr(comfy.model_management, "archive_model_dtypes", None)
    if note_types is not None:
        note_types(network)
    plain = comfy.model_patcher.ModelPatcher
    kind = plain if disable_dynamic else getattr(comfy.model_patcher, "CoreModelPatcher", plain)
    return readable_again(kind(model, load_device=load, offload_device=offload), again)


def readable_again(patcher: Any, again: Again) -> Any:
    """Tell newer hosts how to read the weights of a patcher once more.

    They do so for whoever needs a copy of its own: hooks and compilers, which cannot use streamed weights (then with
    `disable_dynamic`), training, other cards.
    """
    patcher.cached_patcher_init = again
    return patcher


class PyramidCLIP(comfy.sd.CLIP):
    """A CLIP whose clones encode with the network of their own patcher.

    Where a newer host reads that once more, to hook it, its class would go on to encode with the former one.
    """

    def clone(self, *args: Any, **kw: Any) -> PyramidCLIP:
        made = super().clone(*args, **kw)
        made.__class__ = type(self)
        made.cond_stage_model = made.patcher.model
        return made


def streams(patcher: Any) -> bool:
    """Whether the host brings the weights of a patcher to the device while they are used, as far as there is room."""
    return bool(getattr(patcher, "is_dynamic", bool)())


def free_memory(patcher: Any, device: torch.device) -> int:
    """Bytes on `device` that a forward may fill; streamed weights, of any model, make way for it."""
    ask = comfy.model_management.get_free_memory
    return int((getattr(patcher, "get_free_memory", ask) if streams(patcher) else ask)(device))


def free_beside_weights(patcher: Any, device: torch.device) -> int:
    """The same less what is wanted there for the network's own weights, if those would make way."""
    return free_memory(patcher, device) - (patcher.model_size() if streams(patcher) else 0)


def release_memory(network: nn.Module) -> None:
    """Give back to the device what nothing uses any more, after a call of `network` for which it was too full.

    Newer hosts leave beside a layer what they have brought of its weights, for one call. Where that was cut short, the
    next would take it, though its place holds other weights by then.
    """
    if cleanup_prefetched_modules is not None:
        for module in network.modules():
            cleanup_prefetched_modules(module, [module])
    gc.collect()
    comfy.model_management.soft_empty_cache()


def patches_digest(patcher: Any) -> str:
    """A digest of what LoRAs and hooks add to the weights, which need not hold it yet; empty where there is nothing."""
    patches = [each for each in (patcher.patches, *getattr(patcher, "hook_patches", {}).values()) if each]
    return f"-{hashlib.sha256(b''.join(parts_of(patches))).hexdigest()[:12]}" if patches else ""


def parts_of(value: Any) -> Iterator[bytes]:
    """What tells a patch from others: its numbers, names and strengths, however the host has put them together."""
    if isinstance(value, torch.Tensor):
        yield some_numbers(value)
    elif isinstance(value, dict):
        for name in sorted(value, key=str):
            yield str(name).encode()
            yield from parts_of(value[name])
    elif isinstance(value, list | tuple):
        for each in value:
            yield from parts_of(each)
    elif hasattr(value, "weights"):  # a LoRA of newer hosts is an object
        yield type(value).__name__.encode()
        yield from parts_of(value.weights)
    else:
        yield repr(value).encode()
