"""What a checkpoint file or folder is: its kind, its configuration, and whether its tensors fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from . import skip_init
from .checkpoint_files import (
    COMPONENT_WEIGHTS,
    METADATA_KEY,
    CheckpointError,
    WeightFiles,
    read_json,
    scan,
    weight_files,
)
from .checkpoint_kinds import (
    KINDS,
    OFFICIAL_CLASSES,
    TEXT_ENCODERS,
    article,
    foreign_model,
    network_classes,
    own_keys,
    recognize,
    wanted,
)
from .config_from_shapes import Shapes, config_from_shapes
from .families import ModelFamily
from .latent_format import LatentFormat
from .network_config import shown
from .quantised import check_shapes, split_quantised
from .quantised_formats import FORMATS, QuantisedLayer

MINIFLUX_AXES = [16, 24, 24]  # the official loader sets them, where they fit the head

# What networks raise when they are made with sizes of the wrong type, negative, zero or beyond all memory.
CONFIG_ERRORS = (ValueError, TypeError, AttributeError, ArithmeticError, RuntimeError, LookupError)


@dataclass(frozen=True)
class CheckpointInfo:
    """What a file or folder is; nothing of its weights is read yet."""

    path: Path
    kind: str  # one of KINDS
    config: Any = None  # a config object of the kind's network; None for official text encoders
    latent_format: LatentFormat | None = None  # of transformers, and what a VAE of ours was saved with
    family: ModelFamily = ModelFamily()  # of transformers
    metadata: Mapping[str, Any] = field(default_factory=dict)  # all that our own `save` wrote
    prefix: str = ""  # of the network's keys in the file
    dtype: torch.dtype | None = None  # in which most of it is stored
    weights: WeightFiles | None = field(default=None, repr=False)  # None for official text encoders
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)  # the network's key: key in the file
    quantised: Mapping[str, QuantisedLayer] = field(default_factory=dict, repr=False)  # layers, by name

    @property
    def files(self) -> tuple[Path, ...]:
        return self.weights.files if self.weights else ()

    @property
    def stored(self) -> WeightFiles:
        """The weights in the files, of whatever has some: all but official text encoders."""
        assert self.weights is not None, f"{self.path} has no weights of its own"
        return self.weights

    def shape(self, key: str) -> tuple[int, ...]:
        """What the file says of the shape of a parameter."""
        return full_shape(key, self.stored.tensors[self.keys[key]].shape, self.quantised)

    @property
    def parameters(self) -> int:
        """How many numbers its tensors hold; 0 for official text encoders."""
        return sum(tensor.size for tensor in self.weights.tensors.values()) if self.weights else 0

    @property
    def name(self) -> str:
        return self.path.stem if self.path.is_file() else self.path.name


def full_shape(key: str, stored: tuple[int, ...], quantised: Mapping[str, QuantisedLayer]) -> tuple[int, ...]:
    """The shape of a parameter whose numbers may be packed."""
    layer = quantised.get(key.removesuffix(".weight")) if key.endswith(".weight") else None
    return FORMATS[layer.format].full_shape(stored) if layer else stored


def looks_like_component_folder(path: Path) -> bool:
    """Tell cheaply whether a folder holds one diffusers-style network: config.json and weights."""
    return (path / "config.json").is_file() and any(path.glob(f"{COMPONENT_WEIGHTS}*"))


def looks_like_official_root(path: Path) -> bool:
    """Tell cheaply whether a folder is the top of an official model with its text encoders."""
    pairs = ("text_encoder_2", "tokenizer_2"), ("text_encoder", "tokenizer")
    return any((path / name).is_dir() for name in pairs[0]) or all((path / name).is_dir() for name in pairs[1])


def inspect(path: str | Path, expected_kinds: Iterable[str] = tuple(KINDS)) -> CheckpointInfo:
    """Say what `path` is and check that its tensors fit its configuration; only headers are read.

    Raises CheckpointError, a sentence on what it looks like and what belongs here, for anything not of the expected
    kinds; FileNotFoundError when there is nothing.
    """
    path = Path(path)
    expected = set(expected_kinds)
    if path.is_dir() and not any(path.glob("*.safetensors*")) and not any(path.glob("*.bin*")):
        return inspect_top(path, expected)
    weights = scan(weight_files(path))
    found = recognize(weights.tensors)
    kind = next((kind for kind in found if kind in expected), next(iter(found), None))
    if kind not in expected:
        meaning = article(KINDS[kind]) if kind else foreign_model(weights.tensors)
        raise CheckpointError(f"{path} looks like {meaning}; this place takes {wanted(expected)}")
    if weights.metadata and weights.metadata["kind"] != kind:
        raise CheckpointError(f"{path} calls itself {weights.metadata['kind']!r} but looks like {article(KINDS[kind])}")
    keys, quantised = split_quantised(path, own_keys(weights.tensors, found[kind]), weights)
    shapes = {key: full_shape(key, weights.tensors[name].shape, quantised) for key, name in keys.items()}
    info = CheckpointInfo(
        path=path,
        kind=kind,
        config=read_config(path, kind, weights, shapes),
        latent_format=read_latent_format(path, kind, weights),
        family=read_family(path, kind, weights),
        metadata=weights.metadata,
        prefix=found[kind],
        dtype=stored_dtype(weights, keys.values()),
        weights=weights,
        keys=keys,
        quantised=quantised,
    )
    check_fit(info)
    check_format(info)
    return info


def inspect_top(path: Path, expected: set[str]) -> CheckpointInfo:
    """Say what a folder without weights of its own is: the top of an official model, or nothing of use."""
    takes = f"this place takes {wanted(expected)}"
    if looks_like_official_root(path) and expected & TEXT_ENCODERS.keys():
        from .official_text import check_folders

        kind = check_folders(path)
        if kind not in expected:
            raise CheckpointError(f"{path} looks like {article(KINDS[kind])}; {takes}")
        return CheckpointInfo(path=path, kind=kind)
    parts = sorted(part.name for part in path.iterdir() if part.is_dir() and looks_like_component_folder(part))
    if parts:
        raise CheckpointError(f"{path} is a whole model; choose a folder inside it ({', '.join(parts)}): {takes}")
    raise CheckpointError(f"{path} holds no weights; {takes}")


def read_config(path: Path, kind: str, weights: WeightFiles, shapes: Shapes) -> Any:
    """The config object: from our metadata, or the official config.json, or worked out from shapes."""
    values = weights.metadata.get("config") or folder_config(path, kind)
    if values is None:
        try:
            values = config_from_shapes(kind, str(KINDS[kind]), shapes)
        except CheckpointError as error:
            raise CheckpointError(
                f"{path} carries no description (metadata {METADATA_KEY}), which a converter may have dropped, and "
                f"{error}: take the file as its maker wrote it"
            ) from error
    config_class, _ = network_classes(kind)
    try:
        return config_class.from_dict(values)
    except CONFIG_ERRORS as error:
        raise CheckpointError(f"the configuration of {path} fits no {KINDS[kind]}: {reason(error)}") from error


def folder_config(path: Path, kind: str) -> dict[str, Any] | None:
    """Read the config.json that belongs to weights in an official folder, with the official loader's own values."""
    file = (path if path.is_dir() else path.parent) / "config.json"
    if not file.is_file() or (path.is_file() and not path.name.startswith(COMPONENT_WEIGHTS)):
        return None
    values = read_json(file)
    if (name := values.get("_class_name")) is not None and str(name) not in OFFICIAL_CLASSES:
        raise CheckpointError(f"{file} is of a {name!s:.60}; this place takes {wanted([kind])}")
    config = {**values, **KINDS[kind].loader_config}
    has_axes = "axes_dims_rope" in network_classes(kind)[0].__dataclass_fields__
    if has_axes and config.get("attention_head_dim", sum(MINIFLUX_AXES)) == sum(MINIFLUX_AXES):
        config["axes_dims_rope"] = MINIFLUX_AXES
    return {key: value for key, value in config.items() if not key.startswith("_")}


def read_latent_format(path: Path, kind: str, weights: WeightFiles) -> LatentFormat | None:
    """What the file says, or the official numbers of a transformer."""
    values = weights.metadata.get("latent_format")
    if values is None:
        return KINDS[kind].latent_format
    try:
        return LatentFormat.from_dict(values)
    except (ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"the description of {path} has a damaged latent format: {error}") from error


def read_family(path: Path, kind: str, weights: WeightFiles) -> ModelFamily:
    """What the file says of its training; files that say nothing hold pyramids."""
    values = weights.metadata.get("family") or {}
    find_variant = KINDS[kind].variant
    if find_variant is not None and not values:
        values = {"variant": find_variant(path)}
    try:
        return ModelFamily.from_dict(values)
    except (ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"the description of {path} has a damaged family: {error}") from error


def stored_dtype(weights: WeightFiles, keys: Iterable[str]) -> torch.dtype | None:
    """The float type that holds most numbers."""
    sizes: Counter[torch.dtype] = Counter()
    for stored in map(weights.tensors.__getitem__, keys):
        if stored.dtype is not None:
            sizes[stored.dtype] += stored.size
    return sizes.most_common(1)[0][0] if sizes else None


def check_fit(info: CheckpointInfo) -> None:
    """Compare keys and shapes with those of the network; CheckpointError names the first that differ."""
    assert info.weights is not None  # as `inspect` has read them
    what = f"{info.path} looks like {article(KINDS[info.kind])}"
    _, network_class = network_classes(info.kind)
    try:
        check_layers(info)
        needed = network_class(info.config, ops=skip_init, device="meta").state_dict()
    except CONFIG_ERRORS as error:
        raise CheckpointError(
            f"the configuration of {info.path} fits no {KINDS[info.kind]}: {reason(error)}"
        ) from error
    if missing := [key for key in needed if key not in info.keys]:
        raise CheckpointError(f"{what} but lacks {len(missing)} of {len(needed)} tensors: {first_few(missing)}")
    if unexpected := [key for key in info.keys if key not in needed]:
        raise CheckpointError(f"{what} but has {len(unexpected)} tensors too many: {first_few(unexpected)}")
    for key, tensor in needed.items():
        shape, layer = info.shape(key), info.quantised.get(key.removesuffix(".weight"))
        wanted_shape = tuple(tensor.shape)
        if layer is not None and key.endswith(".weight"):
            check_shapes(info.path, key.removesuffix(".weight"), layer, wanted_shape, info.weights)
            form = FORMATS[layer.format]
            wanted_shape = form.full_shape(form.stored_shape(*wanted_shape))
        if shape != wanted_shape:
            raise CheckpointError(
                f"{what} but {key} has the shape {list(shape)} where its configuration asks for {list(tensor.shape)};"
                " is its config.json that of another model?"
            )


def check_layers(info: CheckpointInfo) -> None:
    """Refuse more layers than there are tensors: making a billion of them to compare would not end."""
    for name, value in info.config.to_dict().items():
        counts = value if isinstance(value, list) else [value]
        if ("layers" in name or "blocks" in name) and sum(counts) > len(info.keys):
            raise ValueError(f"{name} is {shown(value)}, but there are only {len(info.keys)} tensors")


def check_format(info: CheckpointInfo) -> None:
    """CheckpointError where the latent format has numbers for other channels than the network."""
    channels = getattr(info.config, "latent_channels", None)
    if info.latent_format is not None and info.latent_format.channels not in (None, channels):
        raise CheckpointError(
            f"the description of {info.path} has a damaged latent format: numbers for {info.latent_format.channels} "
            f"channels, and the network has {channels}"
        )


def first_few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def reason(error: Exception) -> str:
    """What is wrong with a configuration: our own words, for those of Python and torch speak of their code."""
    return str(error) if isinstance(error, ValueError) else "it has sizes or values that no such network can have"
