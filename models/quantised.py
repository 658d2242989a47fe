"""Quantised weights, as ComfyUI's own tools write them: what a file says of its layers, and whether that fits.

Settings of a layer are read from beside its weight, from the table `_quantization_metadata` of a file's header, from
the mark of older `scaled_fp8` files, or from scales beside float8 weights alone. `quantised_formats` has the formats.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .checkpoint_files import CheckpointError, Stored, WeightFiles, is_safetensors, read_tensors
from .quantised_formats import CONF, EXACT_PRODUCTS, FORMATS, OLD_NAMES, PARTS, ROTATED, SCALE, QuantisedLayer

OLD_MARK = "scaled_fp8"  # an empty tensor, or of two numbers where products shall not be made in float8
HEADER_TABLE = "_quantization_metadata"
MOST_JSON = 1_000_000  # characters of a layer's settings


def split_quantised(
    path: Path, keys: Mapping[str, str], weights: WeightFiles
) -> tuple[dict[str, str], dict[str, QuantisedLayer]]:
    """The keys of the network alone, and how its quantised layers are stored; CheckpointError where parts are missing.

    `keys`: the network's key, the key in the file. Only what says something about a layer is read.
    """
    own: dict[str, str] = {}
    parts: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for key, name in keys.items():
        layer, _, part = key.rpartition(".")
        if layer and part in PARTS:
            parts[layer][OLD_NAMES.get(part, part)] = name
        elif key != OLD_MARK:
            own[key] = name
    said = header_settings(path, keys, weights) if parts else {}
    said |= read_settings(path, {layer: names[CONF] for layer, names in parts.items() if CONF in names}, weights)
    if not parts and not said:
        return own, {}
    mark = weights.tensors.get(keys.get(OLD_MARK, ""))
    exact = {EXACT_PRODUCTS: True} if mark is not None and mark.size == 2 else {}
    layers = {}
    for layer in (*parts, *(name for name in said if name not in parts)):
        stored = weights.tensors.get(own.get(f"{layer}.weight", ""))
        if stored is None:
            raise CheckpointError(f"{path} says how the weights of {layer} are stored, but has no {layer}.weight")
        names = {part: name for part, name in parts[layer].items() if part != CONF}
        settings = said.get(layer) or {"format": format_of(path, layer, stored), **exact}
        if settings["format"] is not None:
            layers[layer] = checked_layer(path, layer, QuantisedLayer(settings["format"], settings, names))
        else:
            check_no_scale(path, layer, names, weights)
    return own, layers


def format_of(path: Path, layer: str, stored: Stored) -> str | None:
    """The format of a layer that has scales and no settings; None for weights that are whole numbers as they are."""
    if stored.dtype is None:
        raise CheckpointError(f"{path} has scales for {layer} and does not say in what format it is stored")
    name = str(stored.dtype).removeprefix("torch.")
    return name if name in FORMATS else None


def check_no_scale(path: Path, layer: str, names: Mapping[str, str], weights: WeightFiles) -> None:
    """Weights in full beside others in float8 have the scale 1."""
    for name, scale in read_tensors(weights, [names[SCALE]] if SCALE in names else []):
        if scale.numel() != 1 or float(scale) != 1:
            raise CheckpointError(f"{path} has a scale for {layer}, whose weights are not quantised ({name})")


def header_settings(path: Path, keys: Mapping[str, str], weights: WeightFiles) -> dict[str, dict[str, Any]]:
    """What the headers of the files say about layers, by the network's names."""
    from safetensors import safe_open

    own = {name.removesuffix(".weight"): key.removesuffix(".weight") for key, name in keys.items()}
    found: dict[str, dict[str, Any]] = {}
    for file in weights.files:
        if not is_safetensors(file):
            continue
        with safe_open(file, framework="pt") as opened:
            text = (opened.metadata() or {}).get(HEADER_TABLE)
        if text is None:
            continue
        layers = json_object(text).get("layers")
        if not isinstance(layers, dict):
            raise CheckpointError(f"{path} has a damaged table of quantised layers in its header ({HEADER_TABLE})")
        found |= {own[name]: checked_settings(path, name, said) for name, said in layers.items() if name in own}
    return found


def read_settings(path: Path, names: Mapping[str, str], weights: WeightFiles) -> dict[str, dict[str, Any]]:
    """The settings that lie beside the weights, by layer."""
    layers = {name: layer for layer, name in names.items()}
    found = {}
    for name, stored in read_tensors(weights, list(layers)):
        if stored.dtype != torch.uint8 or stored.numel() > MOST_JSON:
            raise CheckpointError(f"{path} has damaged settings of a quantised layer in {name}")
        text = stored.flatten().numpy().tobytes().decode("utf-8", "replace")
        found[layers[name]] = checked_settings(path, name, json_object(text))
    return found


def json_object(text: str) -> dict[str, Any]:
    try:
        read = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return read if isinstance(read, dict) else {}


def checked_settings(path: Path, name: str, settings: Any) -> dict[str, Any]:
    format_name = settings.get("format") if isinstance(settings, dict) else None
    if not isinstance(format_name, str):
        raise CheckpointError(f"{path} has damaged settings of a quantised layer in {name}: no format is named")
    if format_name not in FORMATS:
        raise CheckpointError(
            f"{path} stores {name} in the format {format_name[:40]!r}, which is not known here; these are: "
            f"{', '.join(FORMATS)}"
        )
    return settings


def checked_layer(path: Path, name: str, layer: QuantisedLayer) -> QuantisedLayer:
    """CheckpointError where a part is missing or belongs to another format."""
    form = FORMATS[layer.format]
    for part in form.scales:
        if part not in layer.parts:
            raise CheckpointError(f"{path} lacks {name}.{part}, without which its {layer.format} weights mean nothing")
    for part in layer.parts:
        if part not in form.scales and part not in form.extras:
            raise CheckpointError(f"{path} has {name}.{part}, which is not a part of the format {layer.format}")
    return layer


def check_shapes(path: Path, name: str, layer: QuantisedLayer, shape: tuple[int, ...], weights: WeightFiles) -> None:
    """CheckpointError unless the parts fit a weight of `shape`."""
    if len(shape) != 2:
        raise CheckpointError(
            f"{path} stores {name} in {layer.format}, which only linear layers can be; {name}.weight has {len(shape)}"
            " axes. Quantise the file again without this layer"
        )
    form, (rows, columns) = FORMATS[layer.format], shape
    group = layer.number("convrot_groupsize", 256)
    if (layer.rotated or layer.format in ROTATED) and (not group or columns % group):
        raise CheckpointError(f"{path} rotates {name} in groups of {group} columns, which do not fit its {columns}")
    for part, sizes in {**form.scales, **form.extras}.items():
        stored = weights.tensors.get(layer.parts.get(part, ""))
        if stored is not None and stored.shape not in sizes(rows, columns, layer):
            raise CheckpointError(
                f"{path} has {name}.{part} of the shape {list(stored.shape)}, which fits no {layer.format} layer of"
                f" {rows} rows and {columns} columns"
            )


def read_scales(path: Path, layers: Mapping[str, QuantisedLayer], weights: WeightFiles) -> dict[str, Tensor]:
    """The scale of each layer whose weights can be worked out here; CheckpointError for other forms and bad ones."""
    for name, layer in layers.items():
        if not layer.is_plain:
            raise CheckpointError(
                f"{path} stores {name} in {layer.format}{' with rotation' if layer.rotated else ''}, which only the"
                " layers of a newer ComfyUI compute with; take the file in fp8 or bf16 here"
            )
    names = {layer.parts[SCALE]: name for name, layer in layers.items()}
    scales = {}
    for name, scale in read_tensors(weights, list(names)):
        scales[names[name]] = checked_scale(path, name, scale)
    return scales


def checked_scale(path: Path, name: str, scale: Tensor) -> Tensor:
    numbers = scale.float()
    if not torch.isfinite(numbers).all() or (numbers < 0).any():
        raise CheckpointError(f"{path} has numbers in {name} that no scale can have: it is damaged")
    return numbers.reshape(-1, 1) if scale.numel() > 1 else numbers.reshape(())


def full_weight(path: Path, name: str, layer: QuantisedLayer, stored: Tensor, scale: Tensor) -> Tensor:
    """The weight in float32."""
    check_type(path, name, layer, stored)
    return stored.float() * scale


def check_type(path: Path, name: str, layer: QuantisedLayer, stored: Tensor) -> None:
    """CheckpointError unless the numbers of a weight are of the format's type."""
    if stored.dtype != FORMATS[layer.format].dtype:
        raise CheckpointError(f"{path} stores {name} as {stored.dtype}, not as {FORMATS[layer.format].dtype}")
