"""The options of a run for one stage: what patches keep for one size or one schedule is made anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import CellType, FunctionType
from typing import Any

import comfy.patcher_extension
from torch import Tensor, nn

CALC_COND_BATCH = comfy.patcher_extension.WrappersMP.CALC_COND_BATCH


def stage_options(
    options: Mapping[str, Any], sigmas: Tensor, model: Any, whole: Tensor | None = None
) -> dict[str, Any]:
    """The `options` of a run for a stage whose schedule is `sigmas`, the first of them that of its first step.

    Caches take the first level that the network is told for the beginning of a run, and patches of guidance count
    steps. So guidance is told `whole`, the schedule of all stages, where it is given, and the network `sigmas`.
    """
    inner = {**options.get("transformer_options", {}), "sample_sigmas": sigmas if whole is None else whole}
    cache = inner.get("easycache")
    if cache is not None:  # of EasyCache and LazyCache; used on, it would skip every step after the first stage
        inner["easycache"] = cache.clone().prepare_timesteps(model.model_sampling)
    if whole is not None:
        of_all = inner.get("wrappers", {})
        of_kind = {**of_all.get(CALC_COND_BATCH, {}), "pyramid_video_schedule": [tells_network(whole, sigmas)]}
        inner["wrappers"] = {**of_all, CALC_COND_BATCH: of_kind}
    return {**options, "transformer_options": inner}


def tells_network(whole: Tensor, sigmas: Tensor) -> Callable[..., Any]:
    """A wrapper of the host that shows the network `sigmas` where its callers see `whole`."""

    def wrapper(executor: Any, model: Any, conds: Any, x: Tensor, timestep: Tensor, model_options: Any) -> Any:
        inner = model_options["transformer_options"]  # the caller's own, because patches leave word in it
        if inner.get("sample_sigmas") is not whole:  # a sampler has a schedule of its own
            return executor(model, conds, x, timestep, model_options)
        inner["sample_sigmas"] = sigmas
        try:
            return executor(model, conds, x, timestep, model_options)
        finally:
            inner["sample_sigmas"] = whole

    return wrapper


class PatchMemory:
    """What patches remember from step to step, to be forgotten where other steps begin: of another size, or none.

    That is the variables of functions in the options, such as the running mean of APG, and what caches hang on the
    network. Only some patches notice that its size is wrong.
    """

    def __init__(self, options: Mapping[str, Any], network: nn.Module | None = None) -> None:
        self.variables = [(cell, cell.cell_contents) for cell in cells_of(options)]
        self.network = network
        self.known = frozenset(vars(network) if network is not None else ())

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        self.forget()

    def forget(self) -> None:
        """Bring everything back to what it was when this object was made."""
        for cell, value in self.variables:
            cell.cell_contents = value
        if self.network is not None:
            for name in vars(self.network).keys() - self.known:
                delattr(self.network, name)


def cells_of(options: Mapping[str, Any]) -> Iterator[CellType]:
    """The variables that functions in the options have beside their arguments; several may share one."""
    for value in options.values():
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, FunctionType):
                yield from (cell for cell in each.__closure__ or () if holds_something(cell))


def holds_something(cell: CellType) -> bool:
    """Whether a variable has been given a value."""
    try:
        cell.cell_contents  # noqa: B018 raises where it has none
    except ValueError:
        return False
    return True
