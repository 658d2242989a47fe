"""Writing a transformer with quantised weights, in the formats that ComfyUI and `quantised` read."""

from __future__ import annotations

import json
import re
from pathlib import Path

import torch
from torch import Tensor

from . import checkpoints
from .checkpoint_files import read_tensors
from .checkpoint_kinds import network_classes
from .quantised_formats import CONF, EXACT_PRODUCTS, FORMATS, SCALE

FORMS = {"fp8": "float8_e4m3fn", "int8": "int8_tensorwise"}  # name on the command line: format
IN_A_BLOCK = re.compile(r"(^|\.)\w*blocks\.\d+\.")  # what lies outside the blocks is small and needs precision


def quantise(source: Path, target: Path, form: str = "fp8") -> Path:
    """Write the transformer `source` to the safetensors file `target` with its large matrices in `form`.

    fp8: one scale a matrix, so that its largest number becomes the largest of float8_e4m3fn (448). int8: a scale for
    every row, its largest number becoming 127. All else is kept in bfloat16, what the network wants in float32 in that.
    Products are to be made in full: the host's layers would round what comes into them too, which costs up to 10 dB.
    CheckpointError for other files, ValueError for other names, FileExistsError where `target` is.
    """
    if form not in FORMS:
        raise ValueError(f"{form!r} is not a form to quantise to; expected one of {', '.join(FORMS)}")
    if target.suffix != ".safetensors":
        raise ValueError(f"{target} must end in .safetensors")
    if target.exists():
        raise FileExistsError(f"{target} exists; name another file")
    info = checkpoints.inspect(source, checkpoints.TRANSFORMERS)
    if info.quantised:
        raise checkpoints.CheckpointError(f"{source} is quantised already; start from its bf16 or fp32 weights")
    exact = getattr(network_classes(info.kind)[1], "KEEPS_FLOAT32", ())
    own = {name: key for key, name in info.keys.items()}
    settings = torch.tensor(list(json.dumps({"format": FORMS[form], EXACT_PRODUCTS: True}).encode()), dtype=torch.uint8)
    tensors: dict[str, Tensor] = {}
    for name, stored in read_tensors(info.stored, list(own)):
        key = own[name]
        if is_large_matrix(key, stored) and not any(part in key for part in exact):
            tensors[key], scale = quantised_weight(stored, form)
            layer = key.removesuffix(".weight")
            tensors[f"{layer}.{SCALE}"], tensors[f"{layer}.{CONF}"] = scale, settings.clone()
        else:
            dtype = checkpoints.kept_dtype(key, stored, torch.bfloat16, exact)
            tensors[key] = stored.to(dtype, copy=True)
    return checkpoints.save(
        target, tensors, info.kind, info.config, info.latent_format, {"family": info.family.to_dict()}, replace=False
    )


def is_large_matrix(key: str, stored: Tensor) -> bool:
    return key.endswith(".weight") and stored.ndim == 2 and IN_A_BLOCK.search(key) is not None


def quantised_weight(weight: Tensor, form: str) -> tuple[Tensor, Tensor]:
    """The numbers of a weight `(rows, columns)` and the scale they are multiplied with."""
    dtype, numbers = FORMATS[FORMS[form]].dtype, weight.float()
    largest = numbers.abs().amax() if form == "fp8" else numbers.abs().amax(1, keepdim=True)
    most = torch.finfo(dtype).max if dtype.is_floating_point else torch.iinfo(dtype).max
    scale = (largest / most).clamp_min(torch.finfo(torch.float32).tiny)
    scaled = (numbers / scale).clamp_(-most, most)
    return (scaled if dtype.is_floating_point else scaled.round_()).to(dtype), scale
