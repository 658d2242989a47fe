"""The options of a run for one stage: what patches keep for one size or one schedule is made anew."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import CellType, FunctionType
from typing import Any

import comfy.patcher_extension
from torch import Tensor, nn
from torch.nn import functional as F

from ...samplers.spectral import Size
from .stage_conds import fit_value

CALC_COND_BATCH = comfy.patcher_extension.WrappersMP.CALC_COND_BATCH


def stage_options(
    options: Mapping[str, Any], sigmas: Tensor, model: Any, run_schedule: Tensor | None = None
) -> dict[str, Any]:
    """The `options` of a run for a stage whose schedule is `sigmas`, the first of them that of its first step.

    Caches take the first level that the network is shown for the beginning of a run, and patches of guidance count
    steps. So guidance sees `run_schedule`, that of all stages, where it is given, and the network `sigmas`.
    """
    inner = {
        **options.get("transformer_options", {}),
        "sample_sigmas": sigmas if run_schedule is None else run_schedule,
    }
    cache = inner.get("easycache")
    if cache is not None:  # of EasyCache and LazyCache; used on, it would skip every step after the first stage
        inner["easycache"] = cache.clone().prepare_timesteps(model.model_sampling)
    if run_schedule is not None:
        of_all = inner.get("wrappers", {})
        of_kind = {
            **of_all.get(CALC_COND_BATCH, {}),
            "pyramid_video_schedule": [shows_network_schedule(run_schedule, sigmas)],
        }
        inner["wrappers"] = {**of_all, CALC_COND_BATCH: of_kind}
    return {**options, "transformer_options": inner}


def fit_wrappers(options: Mapping[str, Any], full: Size, size: Size) -> Mapping[str, Any]:
    """The `options` of a run of `full` latent cells for a stage of `size`: what wrappers hold of that size is smaller.

    So is the beginning of a clip that InfiniteTalk lays over every input of the network.
    """
    inner = options.get("transformer_options", {})
    wrappers = {
        kind: {name: [fit_wrapper(each, full, size) for each in several] for name, several in named.items()}
        for kind, named in inner.get("wrappers", {}).items()
    }
    return {**options, "transformer_options": {**inner, "wrappers": wrappers}} if wrappers else options


def fit_patches(options: Mapping[str, Any], full: Size, size: Size, patch: int) -> Mapping[str, Any]:
    """The `options` of a run for a stage whose networks take `patch` cells at once: what patches hold is smaller.

    SUPIR is refused: its picture is in several patches, and in guidance.
    """
    inner = options.get("transformer_options", {})
    if full == size or not inner.get("patches"):
        return options
    refuse_supir(inner["patches"])
    tokens, now = ((rows // patch, columns // patch) for rows, columns in (full, size))
    patches = {
        name: [fit_speakers(each, tokens, now) for each in several] for name, several in inner["patches"].items()
    }
    return {**options, "transformer_options": {**inner, "patches": patches}}


def refuse_supir(patches: Mapping[str, Sequence[Any]]) -> None:
    """Say so where the blocks of SUPIR hold its picture, at the size of the run."""
    owners = (getattr(each, "__self__", None) for several in patches.values() for each in several)
    if any(type(owner).__name__ == "SUPIRPatch" for owner in owners):
        raise ValueError(
            "a pyramid cannot make the picture smaller that SUPIR brings back: take 'SUPIRApply' off the model, or "
            "sample with the plain sampler"
        )


def fit_speakers(patch: Any, tokens: Size, now: Size) -> Any:
    """The patch of InfiniteTalk that knows which tokens of the picture each speaker has; any other stays itself."""
    masks = getattr(patch, "ref_target_masks", None)  # (speakers, rows x columns)
    if not isinstance(masks, Tensor) or masks.ndim != 2 or masks.shape[1] != tokens[0] * tokens[1]:
        return patch
    made = copy.copy(patch)
    picture = masks.unflatten(1, tokens)[None].float()
    made.ref_target_masks = F.interpolate(picture, size=now, mode="nearest")[0].flatten(1).to(masks.dtype)
    return made


def fit_wrapper(wrapper: Any, full: Size, size: Size) -> Any:
    """A wrapper of the host; itself where it holds nothing of that size."""
    held = getattr(wrapper, "__dict__", {})
    fitted = fit_value("wrapper", held, full, size)
    if fitted is held:
        return wrapper
    made = copy.copy(wrapper)
    vars(made).update(fitted)
    return made


def shows_network_schedule(run_schedule: Tensor, sigmas: Tensor) -> Callable[..., Any]:
    """A wrapper of the host that shows the network `sigmas` where its callers see `run_schedule`."""

    def wrapper(executor: Any, model: Any, conds: Any, x_in: Tensor, timestep: Tensor, model_options: Any) -> Any:
        inner = model_options["transformer_options"]  # the caller's own, because patches leave word in it
        if inner.get("sample_sigmas") is not run_schedule:  # a sampler has a schedule of its own
            return executor(model, conds, x_in, timestep, model_options)
        inner["sample_sigmas"] = sigmas
        try:
            return executor(model, conds, x_in, timestep, model_options)
        finally:
            inner["sample_sigmas"] = run_schedule

    return wrapper


def clean_up(patcher: Any) -> None:
    """Let patches drop what they keep for a run, such as the keys of references, as the host has them do at its end."""
    if hasattr(patcher, "model_patches_call_function"):  # not in older hosts, where none keeps anything
        patcher.model_patches_call_function("cleanup")


@contextmanager
def emptied(options: Mapping[str, Any]) -> Iterator[None]:
    """Let go, at the end, what a cache of the host's in the options of one run has kept of it."""
    try:
        yield
    finally:
        cache = options["transformer_options"].get("easycache")
        if cache is not None:
            cache.reset()


class PatchMemory:
    """What patches remember from step to step, to be forgotten where other steps begin: of another size, or none.

    That is the variables of functions in the options, such as the running mean of APG, and what caches hang on the
    network, in the place of what was there before too. Only some patches notice that its size is wrong.
    """

    def __init__(self, options: Mapping[str, Any], network: nn.Module | None = None) -> None:
        self.variables = [(cell, cell.cell_contents) for cell in cells_of(options)]
        self.network = network = getattr(network, "_orig_mod", network)  # caches hang on that which was compiled
        self.known = dict(vars(network)) if network is not None else {}

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        self.forget()

    def forget(self) -> None:
        """Bring everything back to what it was when this object was made."""
        for cell, value in self.variables:
            cell.cell_contents = value
        if self.network is not None:
            now = vars(self.network)
            for name in now.keys() - self.known.keys():
                del now[name]
            now.update({name: value for name, value in self.known.items() if now.get(name) is not value})


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
