"""The formats of quantised weights that ComfyUI writes: types, the parts beside a weight, and their shapes.

A layer's `weight` is then small numbers, and tensors beside it say what they mean: `comfy_quant` (a JSON object as
bytes, `{"format": ...}`), `weight_scale` and others. Older files call them `scale_weight` and `scale_input`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

CONF, SCALE, INPUT_SCALE = "comfy_quant", "weight_scale", "input_scale"
OLD_NAMES = {"scale_weight": SCALE, "scale_input": INPUT_SCALE}
EXACT_PRODUCTS = "full_precision_matrix_mult"

Sizes = Callable[[int, int, "QuantisedLayer"], set[tuple[int, ...]]]


@dataclass(frozen=True)
class QuantisedLayer:
    """How the weight of one linear layer is stored."""

    format: str  # a key of FORMATS
    settings: Mapping[str, Any] = field(default_factory=dict)  # its JSON object
    parts: Mapping[str, str] = field(default_factory=dict)  # name of a part: its key in the file

    def number(self, name: str, default: int) -> int:
        """A setting that is a count, from where ComfyUI looks for it."""
        inner = self.settings.get("params")
        found = self.settings.get(name, (inner if isinstance(inner, dict) else {}).get(name, default))
        return found if type(found) is int and found > 0 else 0

    @property
    def rotated(self) -> bool:
        """Whether the weights were rotated before they were rounded."""
        inner = self.settings.get("params")
        return bool(self.settings.get("convrot", isinstance(inner, dict) and inner.get("convrot", False)))

    @property
    def is_plain(self) -> bool:
        """Whether a weight is its number times a scale, so that it can be worked out without the host's layers."""
        return FORMATS[self.format].plain and not self.rotated


@dataclass(frozen=True)
class StoredFormat:
    """A format that ComfyUI 0.33 knows: the shapes of its parts for a layer of some rows and columns."""

    dtype: torch.dtype
    scales: Mapping[str, Sizes]  # parts that must be there
    extras: Mapping[str, Sizes] = field(default_factory=dict)  # parts that may be there
    packed: int = 1  # numbers in a byte
    multiple: int = 1  # rows and columns are filled up to a multiple of this
    plain: bool = False  # a weight is its number times a scale

    def stored_shape(self, rows: int, columns: int) -> tuple[int, int]:
        return up(rows, self.multiple), up(columns, self.multiple) // self.packed

    def full_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape that the layer seems to have, of what is stored."""
        return (*shape[:-1], shape[-1] * self.packed) if len(shape) == 2 else shape


def up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def one(rows: int, columns: int, layer: QuantisedLayer) -> set[tuple[int, ...]]:
    return {(), (1,), (1, 1)}


def each_row(rows: int, columns: int, layer: QuantisedLayer) -> set[tuple[int, ...]]:
    return {(rows,), (rows, 1)}


def one_or_each_row(rows: int, columns: int, layer: QuantisedLayer) -> set[tuple[int, ...]]:
    return one(rows, columns, layer) | each_row(rows, columns, layer)


def each_column(rows: int, columns: int, layer: QuantisedLayer) -> set[tuple[int, ...]]:
    return {(columns,), (1, columns)}


def blocks_of(size: int) -> Sizes:
    return lambda rows, columns, layer: {(up(rows, 128), up(-(-columns // size), 4))}


def groups(rows: int, columns: int, layer: QuantisedLayer) -> set[tuple[int, ...]]:
    size = layer.number("group_size", 16)
    return {(rows, columns // size)} if size and columns % size == 0 else set()


def codebook(rows: int, columns: int, layer: QuantisedLayer) -> set[tuple[int, ...]]:
    return {(16,)}


ONE_INPUT = {INPUT_SCALE: one}
FORMATS: Mapping[str, StoredFormat] = {
    "float8_e4m3fn": StoredFormat(torch.float8_e4m3fn, {SCALE: one}, ONE_INPUT, plain=True),
    "float8_e5m2": StoredFormat(torch.float8_e5m2, {SCALE: one}, ONE_INPUT, plain=True),
    "int8_tensorwise": StoredFormat(torch.int8, {SCALE: one_or_each_row}, plain=True),
    "mxfp8": StoredFormat(torch.float8_e4m3fn, {SCALE: blocks_of(32)}, ONE_INPUT, multiple=32),
    "nvfp4": StoredFormat(
        torch.uint8,
        {SCALE: blocks_of(16), "weight_scale_2": one},
        ONE_INPUT | {"pre_quant_scale": each_column},
        packed=2,
        multiple=16,
    ),
    "convrot_w4a4": StoredFormat(torch.int8, {SCALE: each_row}, packed=2),
    "asym_w4a8_int8": StoredFormat(
        torch.int8, {"weight_s_rel": groups}, {"weight_s_channel": each_row, "weight_codebook": codebook}, packed=2
    ),
}
ROTATED = ("convrot_w4a4", "asym_w4a8_int8")  # always in groups of columns, int8 where its settings say so
PARTS = {CONF, *OLD_NAMES, *(part for form in FORMATS.values() for part in (*form.scales, *form.extras))}


def formats(layers: Iterable[QuantisedLayer]) -> list[str]:
    """The names of the formats, each once."""
    return sorted({layer.format for layer in layers})
