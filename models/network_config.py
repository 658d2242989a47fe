"""The sizes of a network as its `config.json` has them."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from typing import Any, ClassVar, TypeVar

from .families import PYRAMID_FLOW

LARGEST_SIZE = 1 << 20  # of anything in a network that a config counts; vocabularies come nearest to it
MAY_BE_ZERO = ("single_layers", "summary", "pooled")  # parts of the names of counts of what a network can be without

Config = TypeVar("Config", bound="NetworkConfig")


@dataclass(frozen=True)
class JSONConfig:
    """Sizes that a `config.json` holds."""

    def to_dict(self) -> dict[str, Any]:
        """Return the config as JSON knows it; `from_dict` reads it back."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


@dataclass(frozen=True)
class NetworkConfig(JSONConfig):
    """Sizes and rules under the names of the official `config.json`, which is read with `from_dict`.

    What depends on the kind of a transformer alone is said by its class, so that nobody has to compare kinds.
    """

    made_for: ClassVar[str] = PYRAMID_FLOW  # whose stages and history it takes
    unit_frames: ClassVar[int] = 1  # latent frames that are made at once
    text_tokens: ClassVar[int | None] = None  # every text is filled up with zeros to it; None: padding is masked
    live_widths: ClassVar[float] = 16.5  # numbers alive at once for each token in work, in widths of the network

    HARMLESS: ClassVar[frozenset[str]] = frozenset()  # keys that change no result
    FIXED: ClassVar[dict[str, object]] = {}  # keys that have one known value
    MODEL: ClassVar[str] = ""  # what people call such a network
    OPTIONAL: ClassVar[frozenset[str]] = frozenset()  # counts of layers that may be 0, where others are left

    num_attention_heads: int = 1
    attention_head_dim: int = 64

    def __post_init__(self) -> None:
        check_sizes(self)
        for key, value in self.FIXED.items():
            if getattr(self, key) != value:
                raise ValueError(
                    f"the {self.MODEL} transformer's {key} is {getattr(self, key)!r}; only {value!r} is known here"
                )

    @classmethod
    def from_dict(cls: type[Config], values: dict[str, Any]) -> Config:
        """Read a config, leaving out keys that change no result; a ValueError names a key not known here."""
        known = {each.name for each in fields(cls)}
        kept = {key: value for key, value in values.items() if key not in cls.HARMLESS and not key.startswith("_")}
        for key in kept.keys() - known:
            near = get_close_matches(key, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"{cls.__name__} does not know the config key {key!r}{hint}")
        settings: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in kept.items()}
        return cls(**settings)

    @property
    def width(self) -> int:
        """Features of a token inside the network."""
        return self.num_attention_heads * self.attention_head_dim

    @property
    def live_numbers(self) -> float:
        """Numbers alive at once for each latent cell in work, beside the weights."""
        from .layers import PATCH  # and torch, which a config needs for nothing else

        return self.live_widths * self.width / PATCH**2


def check_sizes(config: Any) -> None:
    """Raise ValueError unless the fields of a config have their types and sizes that a network can have."""
    for field in fields(config):
        value, kind = getattr(config, field.name), str(field.type)
        if value is None and kind.endswith("None"):
            continue
        listed = kind.startswith("tuple")
        if listed and not isinstance(value, tuple | list):
            raise ValueError(f"{field.name} is {shown(value)}; expected a list")
        optional = field.name in getattr(config, "OPTIONAL", ())
        least = 0 if optional or any(part in field.name for part in MAY_BE_ZERO) else 1
        for entry in value if listed else [value]:
            if fault := entry_fault(entry, kind.removeprefix("tuple[").split(",")[0].split(" ")[0], least):
                raise ValueError(f"{field.name} is {shown(value)}; expected {'a list of ' * listed}{fault}")


def entry_fault(value: Any, kind: str, least: int) -> str:
    """What was expected instead of a value that is not of a kind, else nothing."""
    if kind == "int":
        return "" if type(value) is int and least <= value <= LARGEST_SIZE else f"{least} to {LARGEST_SIZE:,}"
    if kind == "float":
        return "" if type(value) in (int, float) and math.isfinite(value) else "a number"
    if kind == "bool":
        return "" if type(value) is bool else "true or false"
    return "" if isinstance(value, str) else "text"


def shown(value: Any) -> str:
    """A value as a sentence can hold it."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
