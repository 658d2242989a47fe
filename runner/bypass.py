"""Which input a bypassed node passes on to one of its outputs; the rules are the editor's."""

from __future__ import annotations

from typing import Any

from .specs import NodeSpec
from .widgets import has_widget, socket_name


def passed_on(node: dict[str, Any], known: dict[str, str] | None, slot: int, wanted: str) -> int | None:
    """The link at the input that a bypassed node passes on at output `slot` to an input of type `wanted`.

    `known` are the inputs of such a node in the editor, as far as they are known, by name with their types: files
    leave out the open ones that have a widget. None where the input that fits is open.
    """
    inputs = live_inputs(node, known or {})
    if wanted in ("*", ""):
        return inputs[slot if slot < len(inputs) else 0].get("link") if inputs else None
    given = str(node["outputs"][slot]["type"])
    beside = inputs[slot : slot + 1]
    exact = [entry for entry in inputs if entry["type"] == wanted]
    fitting = [entry for entry in inputs if connects(entry["type"], given) and connects(entry["type"], wanted)]
    beside = [entry for entry in beside if connects(entry["type"], given) and connects(entry["type"], wanted)]
    return next((entry.get("link") for entry in (*beside, *exact, *fitting)), None)


def live_inputs(node: dict[str, Any], known: dict[str, str]) -> list[dict[str, Any]]:
    """The inputs of a node in the order in which the editor has them."""
    entries = {socket_name(entry): entry for entry in node.get("inputs") or []}
    first = [entries.pop(name, None) or {"name": name, "type": kind, "link": None} for name, kind in known.items()]
    return [*first, *entries.values()]


def sockets_of(spec: NodeSpec) -> dict[str, str]:
    """The inputs of a node in the editor: those without a widget first."""
    ordered = sorted(spec.inputs.values(), key=has_widget)
    return {input_.name: input_.type for input_ in ordered if not input_.options.get("socketless")}


def connects(given: Any, taken: Any) -> bool:
    """Whether the editor lets two types be linked."""
    kinds = [{kind.strip().lower() for kind in str(side).split(",")} for side in (given, taken)]
    return any(kind & {"*", "", "0"} for kind in kinds) or bool(kinds[0] & kinds[1])
