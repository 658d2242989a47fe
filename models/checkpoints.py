"""Checkpoints: find out what a file or folder is, build its network without a second copy, save our own.

It reads official component folders (safetensors, shards or .bin, with config.json), single files without config, and
what `save` writes: safetensors that carry their description in the metadata.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from . import skip_init
from .checkpoint_files import METADATA_KEY, CheckpointError, read_tensors
from .checkpoint_info import (
    CheckpointInfo,
    inspect,
    looks_like_component_folder,
    looks_like_official_root,
)
from .checkpoint_kinds import KINDS, TEXT_ENCODERS, TRAINABLE, TRANSFORMERS, VAES, network_classes
from .files import write_beside, write_new
from .knowledge import knowledge_of
from .quantised import full_weight, read_scales
from .text_encoder import Tokenizer

__all__ = [
    "KINDS",
    "METADATA_KEY",
    "TEXT_ENCODERS",
    "TRAINABLE",
    "TRANSFORMERS",
    "VAES",
    "CheckpointError",
    "CheckpointInfo",
    "build",
    "compute_dtype",
    "inspect",
    "load",
    "load_state_dict",
    "load_tokenizer",
    "looks_like_component_folder",
    "looks_like_official_root",
    "save",
]

SMALL = 1_000_000_000  # bytes; smaller checkpoints are copied out of the file and searched for NaN
SAVED = tuple(name for name, kind in KINDS.items() if kind.classes is not None)
FLOAT8 = (torch.float8_e4m3fn, torch.float8_e5m2)


def compute_dtype(info: CheckpointInfo) -> torch.dtype:
    """The type to load in when no other is given: as stored, unless plain layers cannot compute with that safely.

    float16 overflows in the official transformers and float8 only stores: transformers become bfloat16, others float32.
    """
    if info.dtype in (None, torch.float16, *FLOAT8):
        return torch.bfloat16 if info.kind in TRANSFORMERS else torch.float32
    return info.dtype


def load_state_dict(
    info: CheckpointInfo, device: torch.device | str | None = None, dtype: torch.dtype | None = None
) -> dict[str, Tensor]:
    """Read the weights under the network's own keys, floats cast to `dtype` (None: each as it is stored).

    Quantised weights are worked out, as far as that can be done without the host's layers (CheckpointError else).
    float8 is for matrices only; norms, biases and position tables are small and need precision: they become bfloat16.
    What a network says must stay in float32 does, whatever `dtype` is.
    Matrices of large files stay memory-mapped where nothing has to be cast or moved; a file whose matrices are cast is
    let go. Checkpoints below 1 GB are copied out, so that the file may change later, and searched for NaN and infinity;
    in larger ones the sampler finds those.
    """
    if info.weights is None:
        raise ValueError(f"{info.path} holds official text encoders; those are loaded by `load_official_text`")
    small = sum(file.stat().st_size for file in info.files) < SMALL
    own = {name: key for key, name in info.keys.items()}
    exact = getattr(network_classes(info.kind)[1], "KEEPS_FLOAT32", ())
    scales = read_scales(info.path, info.quantised, info.weights)
    state = {}
    for name, found in read_tensors(info.weights, list(own)):
        layer, _, part = own[name].rpartition(".")
        quantised = layer in scales and part == "weight"
        stored = full_weight(info.path, name, info.quantised[layer], found, scales[layer]) if quantised else found
        tensor = stored.to(kept_dtype(own[name], stored, dtype, exact))
        if small:
            check_finite(stored, tensor, name, info.path)
        if tensor is stored and (small or tensor.ndim != 2):  # one bias left in the map would keep all of it in memory
            tensor = tensor.clone()
        state[own[name]] = tensor.to(device or "cpu")
    return state


def kept_dtype(key: str, stored: Tensor, dtype: torch.dtype | None, exact: Iterable[str] = ()) -> torch.dtype:
    """The type one tensor is cast to; keys with a part in `exact` become float32."""
    if not stored.is_floating_point():
        return stored.dtype
    if any(part in key for part in exact):
        return torch.float32
    if dtype is None:
        return stored.dtype
    matrix = stored.ndim == 2 and key.endswith(".weight")
    return torch.bfloat16 if dtype in FLOAT8 and not matrix else dtype


def check_finite(stored: Tensor, cast: Tensor, name: str, path: Path) -> None:
    """Refuse NaN and infinity, in the file or made by the cast."""
    if not stored.is_floating_point() or torch.isfinite(cast.float()).all():
        return
    made = "" if not torch.isfinite(stored.float()).all() else f" when cast from {stored.dtype} to {cast.dtype}"
    raise CheckpointError(f"{path} holds NaN or infinite numbers in {name}{made}")


def build(
    info: CheckpointInfo,
    ops: Any = skip_init,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> nn.Module:
    """Make the network of a checkpoint in eval mode; the tensors that are read become its parameters.

    dtype: None for that of `compute_dtype`; float8 only stores, so it needs `ops` that cast at use.
    """
    dtype = dtype or compute_dtype(info)
    if dtype in FLOAT8 and ops in (nn, skip_init):
        raise ValueError(f"plain layers cannot compute in {dtype}; take bfloat16 or float32, or layers that cast")
    _, network_class = network_classes(info.kind)
    network = network_class(info.config, ops=ops, device="meta", dtype=dtype)
    network.load_state_dict(load_state_dict(info, device, dtype), strict=True, assign=True)
    return network.eval()


def load(
    path: str | Path,
    expected_kinds: Iterable[str],
    ops: Any = skip_init,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> tuple[nn.Module, CheckpointInfo]:
    """Inspect and build in one go."""
    info = inspect(path, expected_kinds)
    return build(info, ops, device, dtype), info


def load_tokenizer(info: CheckpointInfo) -> Tokenizer:
    """The tokenizer that a text encoder of ours was saved with."""
    try:
        tokenizer = Tokenizer.from_json(info.metadata["tokenizer"])
    except Exception as error:  # the tokenizers library raises plain Exception for broken JSON
        raise CheckpointError(f"{info.path} carries no usable tokenizer; save the text encoder with one") from error
    if tokenizer.vocab_size > info.config.vocab_size or tokenizer.max_tokens > info.config.max_tokens:
        raise CheckpointError(
            f"{info.path} carries the tokenizer of another text encoder: {tokenizer.vocab_size} words and texts of"
            f" {tokenizer.max_tokens} tokens, not {info.config.vocab_size} and {info.config.max_tokens}"
        )
    tokenizer.vocabulary = knowledge_of(info.path).vocabulary
    return tokenizer


def save(
    path: str | Path,
    weights: nn.Module | Mapping[str, Tensor],
    kind: str,
    config: Any,
    latent_format: Any = None,
    extra: Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = None,
    replace: bool = True,
) -> Path:
    """Write one safetensors file that says itself what it is; returns its path.

    config, latent_format: dictionaries or objects with `to_dict`. extra: more JSON for the metadata, for a text encoder
    `{"tokenizer": tokenizer.to_json()}`. dtype: type to store floats in, None for as they are. An older file stays
    until the new one is whole; without `replace` it stays for good, and the new one gets a number. OSError when it
    fails, ValueError where float16 is too narrow.
    """
    path = Path(path)
    if kind not in SAVED:
        raise ValueError(f"{kind!r} is not a kind that is saved; expected one of {', '.join(SAVED)}")
    if path.suffix != ".safetensors":
        raise ValueError(f"{path} must end in .safetensors")
    state = weights.state_dict() if isinstance(weights, nn.Module) else weights
    tensors = {key: stored_form(key, tensor, dtype) for key, tensor in state.items()}
    described = {"kind": kind, "config": plain(config), "latent_format": plain(latent_format), **(extra or {})}
    return write_tensors(path, tensors, described, replace)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], described: Mapping[str, Any], replace: bool) -> Path:
    """Write tensors with their description; returns where they lie."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    def write(part: Path) -> None:
        save_file(dict(tensors), part, metadata={METADATA_KEY: json.dumps(described)})

    try:
        if not replace:
            return write_new(path, write)
        with write_beside(path) as part:
            write(part)
    except SafetensorError as error:
        raise OSError(f"{path} could not be written: {error}") from error
    return path


def stored_form(key: str, tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    tensor = tensor.detach().cpu()
    stored = tensor.to(dtype if dtype and tensor.is_floating_point() else tensor.dtype).contiguous()
    if dtype == torch.float16 and (stored.isinf() & tensor.isfinite()).any():
        raise ValueError(f"{key} has numbers up to {tensor.abs().max():.3g}, too large for fp16: save in bf16 or fp32")
    return stored


def plain(value: Any) -> Any:
    return value.to_dict() if hasattr(value, "to_dict") else value
