"""The options of a run for one stage: what patches of the host keep for one size is made anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import CellType, FunctionType
from typing import Any

from torch import Tensor


def stage_options(options: Mapping[str, Any], sigmas: Tensor, model: Any) -> dict[str, Any]:
    """The `options` of a run for the part of the schedule that a stage walks, `sigmas`."""
    inner = {**options.get("transformer_options", {}), "sample_sigmas": sigmas}
    cache = inner.get("easycache")
    if cache is not None:  # of EasyCache and LazyCache; used on, it would skip every step after the first stage
        inner["easycache"] = cache.clone().prepare_timesteps(model.model_sampling)
    patches = options.get("sampler_pre_cfg_function")
    anew = {"sampler_pre_cfg_function": [begun_anew(patch) for patch in patches]} if patches else {}
    return {**options, **anew, "transformer_options": inner}


def begun_anew(patch: Callable[..., Any]) -> Callable[..., Any]:
    """A guidance patch with its own copy of what it remembers, such as the running mean of APG.

    The memory of one stage has the wrong size for the next, and only some patches notice.
    """
    if not isinstance(patch, FunctionType) or not patch.__closure__:
        return patch
    cells = tuple(CellType(cell.cell_contents) for cell in patch.__closure__)
    copied = FunctionType(patch.__code__, patch.__globals__, patch.__name__, patch.__defaults__, cells)
    copied.__kwdefaults__ = patch.__kwdefaults__
    return copied
