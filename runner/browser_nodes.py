"""Nodes that exist in the browser only: what becomes of them when a workflow runs without one."""

from __future__ import annotations

from typing import Any

# Text, frames and buttons beside a graph.
DECORATION = frozenset(
    (
        "Note",
        "MarkdownNote",
        "Note Plus (mtb)",
        "Label (rgthree)",
        "Bookmark (rgthree)",
        "Fast Muter (rgthree)",
        "Fast Bypasser (rgthree)",
        "Fast Groups Muter (rgthree)",
        "Fast Groups Bypasser (rgthree)",
        "Fast Actions Button (rgthree)",
        "Mute / Bypass Relay (rgthree)",
        "Mute / Bypass Repeater (rgthree)",
        "Random Unmuter (rgthree)",
        "Node Collector (rgthree)",
    )
)
REROUTES = ("Reroute", "Reroute (rgthree)")
PRIMITIVE, SETTER, GETTER = "PrimitiveNode", "SetNode", "GetNode"
VIRTUAL = frozenset((*DECORATION, *REROUTES, PRIMITIVE, SETTER, GETTER))
EVERYWHERE = ("Anything Everywhere", "Prompts Everywhere", "Seed Everywhere")  # how their types begin


def is_everywhere(class_type: str) -> bool:
    """Whether a node links itself to others by a script, when the browser queues the graph."""
    return class_type.startswith(EVERYWHERE)


def name_of(node: dict[str, Any]) -> str:
    """Under which name a Set node keeps what it is given, and a Get node gives it."""
    values = node.get("widgets_values") or [""]
    return str(values.get("Constant", "") if isinstance(values, dict) else values[0])
