"""What a node takes and gives, read from its class or from a server's `/object_info`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

CHOICE_WITH_MORE = "COMFY_DYNAMICCOMBO_V3"  # newer ComfyUI's list whose choices bring inputs of their own
EMPTY = {"INT": 0, "FLOAT": 0.0, "STRING": "", "BOOLEAN": False}  # what a widget without a default begins with
# The types whose values are typed into a node, and how a sentence calls them.
WIDGET_TYPES = {
    "INT": "a whole number",
    "FLOAT": "a number",
    "STRING": "text",
    "BOOLEAN": "true or false",
    "COMBO": "one of its choices",
}


@dataclass(frozen=True)
class InputSpec:
    """One input: its type, and for a list of choices the choices."""

    name: str
    type: str  # "COMBO" for a list of choices
    options: Mapping[str, Any]
    required: bool
    choices: tuple[Any, ...] | None = None
    # Of a list whose choices bring inputs of their own: those of each choice, called `name.theirs`.
    brought: Mapping[Any, Mapping[str, InputSpec]] = field(default_factory=dict)

    @property
    def is_widget(self) -> bool:
        """True when the value is typed into the node, so that the file stores it among the node's values."""
        return self.type in WIDGET_TYPES and not self.options.get("forceInput")

    @property
    def takes_files(self) -> bool:
        """True when the value names a file in the input folder, which the editor uploads there."""
        return any(self.options.get(f"{kind}_upload") for kind in ("image", "animated_image", "video", "audio"))

    @property
    def default(self) -> Any:
        """What a new node has here, or None."""
        if "default" in self.options:
            return self.options["default"]
        return self.choices[0] if self.choices else EMPTY.get(self.type)


@dataclass(frozen=True)
class NodeSpec:
    """One kind of node."""

    class_type: str
    display_name: str
    description: str
    inputs: Mapping[str, InputSpec]
    outputs: tuple[str, ...]
    is_output: bool
    is_closed: bool = True  # takes no inputs but these; nodes of other packs may take more than they list


def spec_of_class(class_type: str, node: type, display_name: str | None = None) -> NodeSpec:
    """Read a node class in ComfyUI's V1 form."""
    description = getattr(node, "DESCRIPTION", "") or (node.__doc__ or "").strip()
    return NodeSpec(
        class_type,
        display_name or class_type,
        description,
        _inputs_of(node.INPUT_TYPES()),
        tuple(map(_type_name, getattr(node, "RETURN_TYPES", ()))),
        bool(getattr(node, "OUTPUT_NODE", False)),
    )


def spec_of_info(class_type: str, info: Mapping[str, Any], is_closed: bool) -> NodeSpec:
    """Read one entry of a server's `/object_info`, which does not say whether the node is closed."""
    groups = info.get("input") or {}
    grows = any(
        isinstance(definition, (tuple, list)) and definition[:1] == [CHOICE_WITH_MORE]
        for group in groups.values()
        for definition in (group or {}).values()
    )
    return NodeSpec(
        class_type,
        info.get("display_name") or class_type,
        info.get("description") or "",
        _inputs_of(groups),
        tuple(map(_type_name, info.get("output") or ())),
        bool(info.get("output_node")),
        is_closed and not grows,
    )


def _inputs_of(groups: Mapping[str, Any], prefix: str = "") -> dict[str, InputSpec]:
    return {
        prefix + name: _input_spec(prefix + name, definition, group == "required")
        for group in ("required", "optional")
        for name, definition in (groups.get(group) or {}).items()
    }


def _input_spec(name: str, definition: Any, required: bool) -> InputSpec:
    kind, *rest = definition if isinstance(definition, (tuple, list)) else (definition,)
    options = rest[0] if rest and isinstance(rest[0], Mapping) else {}
    if isinstance(kind, (tuple, list)):
        return InputSpec(name, "COMBO", options, required, tuple(kind))
    if kind == CHOICE_WITH_MORE:
        brought = {
            choice["key"]: _inputs_of(choice.get("inputs") or {}, f"{name}.") for choice in options.get("options", ())
        }
        return InputSpec(name, "COMBO", options, required, tuple(brought), brought)
    choices = tuple(options["options"]) if kind == "COMBO" and "options" in options else None
    return InputSpec(name, str(kind), options, required, choices)


def _type_name(kind: Any) -> str:
    return "COMBO" if isinstance(kind, (tuple, list)) else str(kind)
