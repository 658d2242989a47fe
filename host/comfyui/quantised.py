"""Quantised transformers in the host's own layers: which of them it has, and weights under the names it reads."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import comfy.ops
import torch
from torch import Tensor, nn

from ...models.checkpoint_files import CheckpointError, read_tensors
from ...models.checkpoint_info import CheckpointInfo
from ...models.checkpoint_kinds import network_classes
from ...models.checkpoints import SMALL, kept_dtype
from ...models.quantised import check_type
from ...models.quantised_formats import CONF, EXACT_PRODUCTS, INPUT_SCALE, OLD_NAMES, QuantisedLayer, formats

MIXED_OPS = {"mixed_ops": True}  # what the host's own look at a file gives


def prepare(config: Any, info: CheckpointInfo) -> None:
    """Make the host choose layers for a quantised file; CheckpointError where it has none."""
    needed, known = formats(info.quantised.values()), known_formats()
    missing = [name for name in needed if name not in known]
    if missing:
        what = f"knows only {', '.join(known)}" if known else "knows none of ComfyUI's quantised forms"
        raise CheckpointError(
            f"{info.path} is quantised to {', '.join(missing)}, and this ComfyUI {what}: update ComfyUI and its"
            " requirements (comfy-kitchen), or take the file in bf16"
        )
    if has_mixed_layers():
        config.quant_config = dict(MIXED_OPS)
    else:
        config.scaled_fp8 = getattr(torch, needed[0])


def has_mixed_layers() -> bool:
    return hasattr(comfy.ops, "mixed_precision_ops")


def known_formats() -> list[str]:
    """The forms that this host's layers compute with."""
    if not has_mixed_layers():
        return ["float8_e4m3fn", "float8_e5m2"] if hasattr(comfy.ops, "scaled_fp8_ops") else []
    quant_ops = importlib.import_module("comfy.quant_ops")
    layout = getattr(quant_ops, "get_layout_class", lambda name: None)  # gives None without comfy-kitchen
    return [name for name, form in quant_ops.QUANT_ALGOS.items() if layout(form["comfy_tensor_layout"]) is not None]


def load_weights(network: nn.Module, info: CheckpointInfo, dtype: torch.dtype, fast: bool) -> None:
    """Give `network`, made of the layers of `prepare`, a quantised file's weights; what is in full gets `dtype`.

    fast: products in the form of the weights where the card can, also where the file asks for products in full.
    """
    exact = getattr(network_classes(info.kind)[1], "KEEPS_FLOAT32", ())
    small = sum(file.stat().st_size for file in info.files) < SMALL
    own = {name: key for key, name in info.keys.items()}
    state, full = {}, {}
    for name, stored in read_tensors(info.stored, list(own)):
        key = own[name]
        if key.endswith(".weight") and key.removesuffix(".weight") in info.quantised:
            check_type(info.path, name, info.quantised[key.removesuffix(".weight")], stored)
            state[key] = stored.clone() if small else stored
            continue
        state[key] = stored.to(kept_dtype(key, stored, dtype, exact), copy=True)
        if any(part in key for part in exact):
            full[key] = state[key]
    parts = read_parts(info)
    for name, layer in info.quantised.items():
        state |= mixed_parts(name, layer, parts, fast) if has_mixed_layers() else old_parts(name, layer, parts)
    if not has_mixed_layers():
        scales = [key for key in network.state_dict() if key.endswith(tuple(OLD_NAMES))]
        state = {key: state.get(key, torch.ones(())) for key in scales} | without(state, OLD_NAMES)
    network.load_state_dict(state, assign=True)
    for key, tensor in full.items():  # the host's layers have cast them
        owner, _, parameter = key.rpartition(".")
        setattr(network.get_submodule(owner), parameter, nn.Parameter(tensor, requires_grad=False))


def read_parts(info: CheckpointInfo) -> dict[str, Tensor]:
    """What lies beside the weights, by its key in the file; CheckpointError for scales that are no numbers."""
    parts = {}
    for key, tensor in read_tensors(
        info.stored, [key for layer in info.quantised.values() for key in layer.parts.values()]
    ):
        if tensor.is_floating_point() and not torch.isfinite(tensor.float()).all():
            raise CheckpointError(f"{info.path} has numbers in {key} that no scale can have: it is damaged")
        parts[key] = tensor.clone()
    return parts


def without(state: Mapping[str, Tensor], endings: Iterable[str]) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in state.items() if not key.endswith(tuple(endings))}


def mixed_parts(name: str, layer: QuantisedLayer, parts: Mapping[str, Tensor], fast: bool) -> dict[str, Tensor]:
    """What lies beside the weight of a layer, under the names of newer hosts."""
    own = {f"{name}.{part}": parts[key] for part, key in layer.parts.items()}
    if float(own.get(f"{name}.{INPUT_SCALE}", 0)) == 1:  # older files have it everywhere, and it says nothing
        del own[f"{name}.{INPUT_SCALE}"]
    said = {key: value for key, value in layer.settings.items() if key != EXACT_PRODUCTS or not fast}
    settings = torch.tensor(list(json.dumps(said).encode()), dtype=torch.uint8)
    return {**own, f"{name}.{CONF}": settings}


def old_parts(name: str, layer: QuantisedLayer, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same for hosts that know scaled float8 alone."""
    return {
        f"{name}.{old}": parts[layer.parts[new]].float().reshape(())
        for old, new in OLD_NAMES.items()
        if new in layer.parts
    }


def as_stored(tensor: Any) -> Any:
    """A weight as a file holds it; ComfyUI 0.8 would save the numbers in full and their scales beside them."""
    return getattr(tensor, "_qdata", tensor)
