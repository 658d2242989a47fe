"""The sizes of a network as its `config.json` has them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from typing import Any, ClassVar, TypeVar

Config = TypeVar("Config", bound="NetworkConfig")


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes and rules under the names of the official `config.json`, which is read with `from_dict`."""

    HARMLESS: ClassVar[frozenset[str]] = frozenset()  # keys that change no result
    FIXED: ClassVar[dict[str, object]] = {}  # keys that have one known value
    MODEL: ClassVar[str] = ""  # what people call such a network

    def __post_init__(self) -> None:
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
        return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in kept.items()})

    def to_dict(self) -> dict[str, Any]:
        """Return the config as JSON knows it; `from_dict` reads it back."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @property
    def width(self) -> int:
        """Features of a token inside the network."""
        return self.num_attention_heads * self.attention_head_dim
