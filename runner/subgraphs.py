"""What the node that stands for a subgraph has typed in, and for which widgets inside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .specs import NodeSpec
from .ui_graph import Graph, Value
from .widgets import Path, has_widget, sent, socket_name, stored_values


def typed_into(
    holder: dict[str, Any], path: Path, graph: Graph, inner: Graph, specs: Mapping[str, NodeSpec]
) -> tuple[dict[str, Value], dict[tuple[str, str], Value]]:
    """The values of the node `holder` of `graph`, which stands for `inner`: by inputs, and by node and widget inside.

    There are three ways, of editors of different age: values of the inputs that lead to a widget; a list
    `proxyWidgets` of widgets inside, each with its value; and what that list left over when a newer editor read it.
    What the subgraph around `graph` has typed into the same widgets wins.
    """
    given: dict[str, Value] = {}
    typed: dict[tuple[str, str], Value] = {}
    values, named = holder.get("widgets_values"), holder.get("widgets_values_named")
    if isinstance(values, dict):
        named, values = {**values, **(named or {})}, []
    values, named = values or [], named or {}
    promoted = [name for name in inner.input_names if leads_to_widget(inner, name, specs)]
    properties = holder.get("properties") or {}
    proxies = [entry for entry in properties.get("proxyWidgets") or [] if isinstance(entry, list) and len(entry) > 1]

    def value_at(index: int, name: str) -> Value | None:
        places = [(*path, "widgets_values", index)] if index < len(values) else []
        value = values[index] if places else None
        if name in named and (value is None or len(values) != len(promoted)) and not proxies:
            value = named[name]
        places += [(*path, "widgets_values_named", name)] if name in named else []
        return None if value is None else Value(sent(value, None), tuple(places), True)

    for index, name in enumerate(promoted):
        value = value_at(index, name) or value_inside(inner, name, specs)
        if value is not None:
            given[name] = value
    for index, (node_id, name, *_) in enumerate(proxies):
        node_id, value = str(node_id), value_at(index, str(name))
        if value is None:
            continue
        if node_id == "-1":
            given[name] = value
        elif (linked := input_linked_to(inner, node_id, name)) is not None:
            given[linked] = value
        else:
            typed[node_id, name] = value
    for index, entry in enumerate(properties.get("proxyWidgetErrorQuarantine") or []):
        node_id, name = entry["originalEntry"][:2]
        if str(node_id) == "-1" and "hostValue" in entry:
            place = (*path, "properties", "proxyWidgetErrorQuarantine", index, "hostValue")
            given[name] = Value(sent(entry["hostValue"], None), (place,), True)
    names = {**dict.fromkeys(given), **dict.fromkeys(promoted)}
    for (node_id, name), value in graph.typed.items():  # typed in further outside
        if node_id == inner.holder:
            inside = [entry for entry in proxies if name in (entry[1], f"{entry[0]}: {entry[1]}")]
            if name in names or not inside:
                given[name] = value
            else:
                typed[str(inside[0][0]), inside[0][1]] = value
    return given, typed


def value_inside(inner: Graph, name: str, specs: Mapping[str, NodeSpec]) -> Value | None:
    """What the first widget holds that an input of a subgraph leads to: the node outside begins with it."""
    for node, path, entry in targets(inner, name):
        deeper = inner.inner.get(str(node["id"]))
        if deeper is not None:
            if leads_to_widget(deeper, entry["name"], specs):
                if deeper.begun is None:
                    deeper.begun, _ = typed_into(node, path, inner, deeper, specs)
                return deeper.begun.get(entry["name"])
            continue
        for stored in stored_values(node, specs.get(node["type"]), path):
            if stored.name == socket_name(entry) and stored.places:
                return Value(stored.value, stored.places, True)
    return None


def leads_to_widget(inner: Graph, name: str, specs: Mapping[str, NodeSpec]) -> bool:
    """Whether an input of a subgraph is linked to a widget in it, however deep."""
    if name not in inner.ends_in_widget:
        inner.ends_in_widget[name] = any(
            is_widget(inner, node, entry, specs) for node, _, entry in targets(inner, name)
        )
    return inner.ends_in_widget[name]


def is_widget(inner: Graph, node: dict[str, Any], entry: dict[str, Any], specs: Mapping[str, NodeSpec]) -> bool:
    """Whether the input `entry` of a node in a subgraph is a widget, or leads to one in a subgraph further in."""
    if entry.get("widget"):
        return True
    spec = specs.get(node["type"])
    if spec is not None and entry["name"] in spec.inputs and has_widget(spec.inputs[entry["name"]]):
        return True
    deeper = inner.inner.get(str(node["id"]))
    return deeper is not None and leads_to_widget(deeper, entry["name"], specs)


def input_linked_to(inner: Graph, node_id: str, widget: str) -> str | None:
    """The input of a subgraph that is linked to a widget of a node in it."""
    for name in inner.input_names:
        if any(str(node["id"]) == node_id and socket_name(entry) == widget for node, _, entry in targets(inner, name)):
            return name
    return None


def targets(inner: Graph, name: str) -> Iterator[tuple[dict[str, Any], Path, dict[str, Any]]]:
    """The nodes, where they lie, and their entries, that an input of a subgraph is linked to."""
    for wire in inner.entering.get(inner.input_names.index(name), ()):
        if wire.target in inner.nodes:
            node, path = inner.nodes[wire.target]
            yield from ((node, path, entry) for entry in node.get("inputs") or [] if entry.get("link") == wire.id)
