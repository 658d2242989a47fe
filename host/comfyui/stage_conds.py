"""Prompts, start images and masks at the size of a stage.

Each model's own code in the host brings most of them to the size of the latent that it is shown. What it takes as it is
and lays beside the latent (guides, frames to control by) is made smaller here before.

So are reference latents of the clip's own size. Wan's models join most of them to the clip as a frame. Those that edit
pictures (FLUX, Qwen-Image, Krea 2) give the cells of a reference the places of the picture's own cells: one of the same
size lies over it, and would lie over a corner of it if it stayed as large. One of another size does not lie over it at
full size either, and what it means there says nothing of its size in a stage: it stays.
"""

from __future__ import annotations

from typing import Any

import comfy.samplers
import torch
from torch import Tensor
from torch.nn import functional as F

from ...samplers.spectral import Size, resample_picture, size_of
from .picture_info import kinds_of

# What the host resizes itself, or keeps at no size.
HOSTS_OWN = {"concat_latent_image", "concat_mask", "mask", "area", "control", "hooks", "cross_attn", "pooled_output"}
OWN_PICTURES = {"minimax_refs"}  # with their size beside them, and places that are the same at any size
OWN_SCALE = {"camera_conditions", "pose_video_latent"}  # more or fewer cells than the latent, as the model likes


def stage_conds(
    guider: Any, model: Any, like: Tensor, picture: Tensor, full: Size, patch: int, **rest: Any
) -> dict[str, list[Any]]:
    """The guider's prompts processed by the host for one of its models, for a stage.

    `like` is the latent of the stage (packed where the host packs), `picture` its picture, `full` the size that the
    prompts were made for, `patch` how many cells a network takes at once, `rest` what the host's `process_conds` takes
    besides.
    """
    size, kept_keys = size_of(picture), keys_as_they_are(model)
    conds = {
        name: [
            with_hooks_of(fit_to_size(cond, full, size, patch, kept_keys), now)
            for cond, now in zip(kept, guider.conds[name], strict=False)
        ]
        for name, kept in guider.original_conds.items()
    }
    return comfy.samplers.process_conds(model, like, conds, like.device, **rest)


def keys_as_they_are(model: Any) -> set[str]:
    """What a model's code in the host takes of a prompt at any size."""
    # HiDream joins the picture that it edits to the right edge of its own.
    beside = {"concat_latent_image"} if "HiDream" in kinds_of(model) else set()
    return (HOSTS_OWN | OWN_PICTURES) - beside


def with_hooks_of(cond: dict[str, Any], processed: dict[str, Any]) -> dict[str, Any]:
    """A prompt with the hooks that the host registered for this run; those it refused are gone."""
    cond = {key: value for key, value in cond.items() if key != "hooks"}
    return {**cond, "hooks": processed["hooks"]} if processed.get("hooks") is not None else cond


def fit_to_size(cond: dict[str, Any], full: Size, size: Size, patch: int, kept_keys: set[str]) -> dict[str, Any]:
    """A prompt, as the guider was given it, for a picture of `size` instead of `full` latent cells."""
    if full == size:
        return cond.copy()
    fitted = {key: value if key in kept_keys else fit_value(key, value, full, size) for key, value in cond.items()}
    if isinstance(fitted.get("keyframe_idxs"), Tensor):
        fitted["keyframe_idxs"] = fit_positions(cond["keyframe_idxs"], full, size)
    if fitted.get("guide_attention_entries"):
        fitted["guide_attention_entries"] = [fit_guide(each, full, size) for each in cond["guide_attention_entries"]]
    if cond.get("generated_keyframes"):
        fitted["generated_keyframes"] = fit_keyframes(cond["generated_keyframes"], full, size)
    if cond.get("gligen", ("none",))[0] == "position":
        fitted["gligen"] = fit_boxes(cond["gligen"], full, size)
    if cond.get("area"):
        fitted["area"] = fit_area(cond["area"], full, size, patch)
    return fitted


def fit_value(key: str, value: Any, full: Size, size: Size) -> Any:
    """Tensors with the rows and columns of the full latent, wherever they are in `value`, at the size of the stage.

    What holds none of them stays the same object: a sampler may leave word in it.
    """
    if full == size:
        return value
    if type(value) in (list, tuple):
        fitted = type(value)(fit_value(key, each, full, size) for each in value)
        return value if all(one is other for one, other in zip(fitted, value, strict=True)) else fitted
    if type(value) is dict:
        named = {name: fit_value(f"{key}.{name}", each, full, size) for name, each in value.items()}
        return value if all(named[name] is each for name, each in value.items()) else named
    if not isinstance(value, Tensor) or value.ndim < 4 or not value.is_floating_point():
        return value
    if key not in OWN_SCALE and tuple(value.shape[-2:]) != full:
        return value
    rows, columns = value.shape[-2:]
    wanted = scaled(rows, full[0], size[0]), scaled(columns, full[1], size[1])
    by_area = "mask" in key or key == "camera_conditions"
    return resize_mask(value, wanted) if by_area else resample_picture(value, wanted)


def scaled(cells: int, whole: int, now: int) -> int:
    """How many cells are as large a part of `now` as `cells` are of `whole`; one at least."""
    return max(1, round(cells * now / whole))


def resize_mask(mask: Tensor, size: Size) -> Tensor:
    """A mask (..., h, w) at another size: the mean of the area of each cell."""
    flat = mask.float().reshape(-1, 1, *mask.shape[-2:])
    if flat.device.type == "mps":  # which has no areas that are not whole cells
        flat = flat.cpu()
    return F.interpolate(flat, size=size, mode="area").reshape(*mask.shape[:-2], *size).to(mask)


def fit_positions(positions: Tensor, full: Size, size: Size) -> Tensor:
    """Positions (b, axes, tokens, ...) of guide frames: those of the corner, which are those of a smaller picture."""
    tokens = full[0] * full[1]
    if positions.shape[2] % tokens:
        raise ValueError(
            f"a guide has {positions.shape[2]} positions, which are not whole frames of {full[0]} x {full[1]} latent "
            "cells: a pyramid cannot make it smaller. Use the plain sampler, or give the guide at the size of the video"
        )
    grid = positions.unflatten(2, (-1, *full))
    return grid[:, :, :, : size[0], : size[1]].flatten(2, 4)


def fit_guide(entry: dict[str, Any], full: Size, size: Size) -> dict[str, Any]:
    """What a model keeps of one guide: its tokens and its shape."""
    frames, *shape = entry["latent_shape"]
    if tuple(shape) != full:
        raise ValueError(
            f"a guide of {shape[0]} x {shape[1]} latent cells in a video of {full[0]} x {full[1]}: a pyramid cannot "
            "make it smaller. Use the plain sampler, or give the guide at the size of the video"
        )
    return {**entry, "latent_shape": [frames, *size], "pre_filter_count": frames * size[0] * size[1]}


def fit_keyframes(slots: dict[str, int], full: Size, size: Size) -> dict[str, int]:
    """Where LTX makes keyframes behind a clip; those of another size stay, which the model then refuses."""
    same = slots["tokens_per_frame"] == full[0] * full[1]
    return {**slots, "tokens_per_frame": size[0] * size[1]} if same else slots


def fit_boxes(gligen: tuple[Any, ...], full: Size, size: Size) -> tuple[Any, ...]:
    """Things in their places (what, rows, columns, first row, first column), in cells that need not be whole."""
    kind, model, things = gligen
    rows, columns = (now / whole for whole, now in zip(full, size, strict=True))
    return kind, model, [(what, h * rows, w * columns, y * rows, x * columns) for what, h, w, y, x in things]


def fit_area(area: tuple[Any, ...], full: Size, size: Size, patch: int) -> tuple[Any, ...]:
    """An area (extents, then offsets; rows and columns last in both) of the stage, in cells or as shares of it.

    Its edges lie between patches: some networks take no part of one.
    """
    in_shares = area[0] == "percentage"
    numbers = list(area[1:] if in_shares else area)
    half = len(numbers) // 2
    for place, cells, whole in zip((half - 2, half - 1), size, (1, 1) if in_shares else full, strict=True):
        patches = cells // patch
        start, extent = numbers[half + place], numbers[place]
        first = min(round(start / whole * patches), patches - 1)
        last = max(round((start + extent) / whole * patches), first + 1)
        unit = 1 / patches if in_shares else patch
        numbers[place], numbers[half + place] = (last - first) * unit, first * unit
    return ("percentage", *numbers) if in_shares else tuple(numbers)


def fit_mask(mask: Tensor | None, streams: Any, stage: Any) -> Tensor | None:
    """The mask of what is to be made, packed as the latent is, at the size of a stage."""
    if mask is None:
        return None
    picture, *others = streams.split(mask)
    return stage.join([resize_mask(picture, stage.size), *others])


def fit_latent(latent: Tensor, streams: Any, stage: Any) -> Tensor:
    """The latent that a run starts from, at the size of a stage; an empty one stays empty."""
    picture, *others = streams.split(latent)
    if not torch.count_nonzero(picture):
        small = picture.new_zeros(stage.shapes[0])
    else:
        small = resample_picture(picture, stage.size)
    return stage.join([small, *others])
