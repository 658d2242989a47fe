"""What makes a network of the host open to gradients for a while: the host builds, loads and calls it for sampling."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

import comfy.ldm.modules.attention
import comfy.model_management
import torch
from torch import Tensor, nn

from ...models.changes_in_place import changes_in_place
from .quantised_gradients import quantised_gradients
from .rotation_gradients import give_rotations_gradients

MEMORY_TIMES = 3.0  # what a step needs beside the weights, in what sampling the same latent needs: a first guess
IN_PLACE = "modified by an inplace operation"  # torch's words
CHANGED: WeakSet[nn.Module] = WeakSet()  # networks that have changed in place what a gradient needed
UNLOADED = 8  # in how many parts weights make way for a step that needs more


@contextmanager
def more_memory(model: Any) -> Iterator[None]:
    """Let the host keep more memory free than sampling needs."""
    usual = model.memory_usage_factor
    model.memory_usage_factor = MEMORY_TIMES * usual
    try:
        yield
    finally:
        model.memory_usage_factor = usual


def unload_some(patcher: Any) -> bool:
    """Bring a part of a model's weights from its device to memory; False where none of them can go."""
    if patcher.load_device == patcher.offload_device or patcher.loaded_size() <= 0:
        return False
    return patcher.partially_unload(patcher.offload_device, patcher.model_size() // UNLOADED) > 0


def no_room(patcher: Any) -> str:
    """Why no weights of a model can make way for a step."""
    if patcher.load_device == patcher.offload_device:
        return "ComfyUI keeps all weights of the model there (--highvram and --gpu-only do that)"
    return "no weights of the model are left there that could make way"


def attend_plainly(model: Any) -> None:
    """Let a clone of a MODEL attend with torch's own kernels: others, such as SageAttention, give no gradients."""

    def attend(function: Callable[..., Tensor], *args: Any, **kw: Any) -> Tensor:
        return comfy.ldm.modules.attention.attention_pytorch(*args, **kw)

    model.model_options.setdefault("transformer_options", {})["optimized_attention_override"] = attend


@contextmanager
def in_training() -> Iterator[None]:
    """Tell the networks of a host that asks that gradients are wanted, so that they take other ways.

    Weights that are not on the card come by the stream that computes: the host's own streams for them may put the next
    ones into their place while a gradient still reads them, because they wait for forwards alone.
    """
    give_rotations_gradients()
    wanted = {"in_training": True, "NUM_STREAMS": 0}
    management = vars(comfy.model_management)
    usual = {name: management[name] for name in wanted if name in management}
    management.update({name: wanted[name] for name in usual})
    try:
        with plain_attention():
            yield
    finally:
        management.update(usual)


@contextmanager
def plain_attention() -> Iterator[None]:
    """Let networks that hand no options to their attention, which `attend_plainly` does not reach, take torch's own."""
    chosen = comfy.ldm.modules.attention.optimized_attention
    names = "optimized_attention", "optimized_attention_masked"
    modules = [vars(module) for name, module in list(sys.modules.items()) if name.startswith("comfy.ldm.")]
    places = [(names_in, name) for names_in in modules for name in names if names_in.get(name) is chosen]
    try:
        for names_in, name in places:
            names_in[name] = comfy.ldm.modules.attention.attention_pytorch
        yield
    finally:
        for names_in, name in places:
            names_in[name] = chosen


class ChangedInPlace(Exception):
    """A network has changed what a gradient needed. It is known from now on, and the step can be made again."""


@contextmanager
def open_to_gradients(network: nn.Module) -> Iterator[Callable[[], None]]:
    """Let a network be learned through: ordinary tensors for those of inference mode, and changes in place.

    The tensors share their memory with those that were there, which come back. Some networks add in place to what a
    gradient still needs. Torch says so when it has happened, in the first step; from the next time on such a network
    is watched, and what is needed copied before. To watch it always would cost several times the work of the processor
    that calls the card. What is yielded forgets what was copied: to be called between two steps.
    """
    kept: list[tuple[dict[str, Any], str, Any]] = []
    for module in network.modules():
        holders: list[dict[str, Any]] = [vars(module)["_parameters"], vars(module)["_buffers"], vars(module)]
        for holder in holders:
            for name, value in holder.items():
                if type(value) in (Tensor, nn.Parameter) and value.is_inference():
                    kept.append((holder, name, value))
    try:
        for holder, name, value in kept:
            holder[name] = ordinary(value)
        with quantised_gradients(network):
            if network not in CHANGED:
                yield lambda: None
            else:
                with changes_in_place() as forget:
                    yield forget
    except RuntimeError as error:
        if network in CHANGED or IN_PLACE not in str(error):
            raise
        CHANGED.add(network)
        raise ChangedInPlace from error
    finally:
        for holder, name, value in kept:
            holder[name] = value


def ordinary(tensor: Tensor) -> Tensor:
    """A tensor that gradients may be computed with, of the same memory as one of inference mode."""
    alias = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
    alias.set_(tensor.untyped_storage(), tensor.storage_offset(), tensor.shape, tensor.stride())
    return nn.Parameter(alias, requires_grad=False) if isinstance(tensor, nn.Parameter) else alias
