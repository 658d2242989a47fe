"""A block: what it is called, what it takes and what it gives, said once.

ComfyUI's mappings are read from here, and from them its v3 schema (`host`), the tables of the help pages and the
English locale (`texts`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..models.plain_text import make_harmless
from .bounds import faults

Choices = Sequence[str] | Callable[[], Sequence[str]]  # a function where the choices are files, which come and go


@dataclass(frozen=True)
class Input:
    """An input: its name, ComfyUI's type of it, the text that explains it, and ComfyUI's options of a widget."""

    name: str
    type: str
    tooltip: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    choices: Choices | None = None

    def tip(self, text: str) -> Input:
        """The same input with its tooltip."""
        return replace(self, tooltip=text)

    def mapped(self) -> tuple[str | list[str], dict[str, Any]]:
        """The input as INPUT_TYPES gives it."""
        choices = self.choices() if callable(self.choices) else self.choices
        return self.type if choices is None else list(choices), {**self.options, "tooltip": self.tooltip}


def Wire(name: str, type: str) -> Input:
    """Something that only comes over a link."""
    return Input(name, type)


def Int(name: str, default: int, low: int, high: int, step: int | None = None, **options: Any) -> Input:
    """A whole number from `low` to `high`."""
    return Input(name, "INT", options={**number(default, low, high, step), **options})


def Float(name: str, default: float, low: float, high: float, step: float | None = None, *, exact=False) -> Input:
    """A number from `low` to `high`; the page rounds it to its step unless it is `exact`."""
    return Input(name, "FLOAT", options={**number(default, low, high, step), **({"round": False} if exact else {})})


def Bool(name: str, default: bool) -> Input:
    """A switch."""
    return Input(name, "BOOLEAN", options={"default": default})


def Text(name: str, default: str = "", **options: Any) -> Input:
    """A line of text, or more of them with `multiline`."""
    return Input(name, "STRING", options={"default": default, **options})


def Choice(name: str, choices: Choices, default: str | None = None) -> Input:
    """One of a list; without a default its first."""
    return Input(name, "COMBO", options={} if default is None else {"default": default}, choices=choices)


def number(default: float, low: float, high: float, step: float | None) -> dict[str, float]:
    return {"default": default, "min": low, "max": high, **({} if step is None else {"step": step})}


@dataclass(frozen=True)
class Output:
    """An output: ComfyUI's type, the text that explains it, and its name where that is not the type."""

    type: str
    tooltip: str
    name: str = ""


class Block:
    """What all blocks have. A block names the method that does its work in FUNCTION; it takes the inputs by name.

    What is not wired comes to it as None, and a widget that is not given with its default.
    """

    ID: str  # in saved workflows: it never changes
    NAME: str
    CATEGORY: str
    DESCRIPTION: str
    ALIASES: str  # further words that the search finds it by, divided by commas
    REQUIRED: Sequence[Input] = ()
    OPTIONAL: Sequence[Input] = ()  # saved workflows hold widgets in order: new ones go to the end of this
    OUTPUTS: Sequence[Output]
    FUNCTION: str

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, Any]]:
        """The inputs as ComfyUI's mappings hold them."""
        groups = {"required": cls.REQUIRED, **({"optional": cls.OPTIONAL} if cls.OPTIONAL else {})}
        return {group: {each.name: each.mapped() for each in inputs} for group, inputs in groups.items()}

    @classmethod
    def inputs(cls) -> list[Input]:
        """All inputs, in the order of the page."""
        return [*cls.REQUIRED, *cls.OPTIONAL]


def registered(block: type[Block]) -> type[Block]:
    """Give a block the attributes that ComfyUI reads, and guard the method that does its work; returns the block."""
    block.RETURN_TYPES = tuple(output.type for output in block.OUTPUTS)
    if any(output.name for output in block.OUTPUTS):
        block.RETURN_NAMES = tuple(output.name or output.type for output in block.OUTPUTS)
    block.OUTPUT_TOOLTIPS = tuple(output.tooltip for output in block.OUTPUTS)
    block.SEARCH_ALIASES = [alias.strip() for alias in block.ALIASES.split(",")]
    setattr(block, block.FUNCTION, guarded(getattr(block, block.FUNCTION), block.inputs()))
    return block


def guarded(run: Callable[..., Any], inputs: Iterable[Input]) -> Callable[..., Any]:
    """Complete what is given to a block, refuse numbers out of range, and make what it raises harmless to show.

    The host gives the inputs by name; in Python they may also be given in order.
    """
    groups = {"optional": {each.name: (each.type, each.options) for each in inputs}}
    missing = {each.name: each.options.get("default") for each in inputs}

    @functools.wraps(run)
    def called(self, *args: Any, **kwargs: Any) -> Any:
        given = {**dict(zip(missing, args, strict=False)), **kwargs}
        try:
            for fault in faults(groups, given):
                raise ValueError(fault)
            return run(self, **{**missing, **given})
        except Exception as error:
            make_harmless(error)
            raise

    return called
