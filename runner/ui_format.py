"""Turns a UI-format graph (what the editor saves) into the API format (what runs).

Gone afterwards: notes, reroutes, primitive nodes, muted and bypassed nodes, subgraphs. A subgraph's nodes get ids as
ComfyUI gives them, `outer:inner`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import WorkflowError
from .specs import InputSpec, NodeSpec

Path = tuple[Any, ...]  # keys and indices from the root of the file

MUTED, BYPASSED = 2, 4
VIRTUAL_TYPES = ("Note", "MarkdownNote", "Reroute", "PrimitiveNode")
SEED_CONTROLS = ("fixed", "increment", "decrement", "randomize")
SUBGRAPH_INPUT, SUBGRAPH_OUTPUT = -10, -20  # the ids that a subgraph's border has in its own links
# Far above any graph that is drawn. Subgraphs that use each other double with every level.
MOST_NODES, MOST_LINKS, MOST_INPUTS = 10_000, 50_000, 1_000
CYCLE = object()


@dataclass(frozen=True)
class ValuePlace:
    """Where a UI-format file holds the value of one input."""

    value: Path
    socket: Path | None = None  # the input entry whose link would win over the value
    graph: Path = ()  # the graph whose table holds that link

    def write(self, ui: dict[str, Any], value: Any) -> None:
        """Store `value`, and cut the link that would hide it."""
        *parents, last = self.value
        _at(ui, parents)[last] = value
        if self.socket is None:
            return
        socket, graph = _at(ui, self.socket), _at(ui, self.graph)
        link_id, socket["link"] = socket["link"], None
        graph["links"] = [link for link in graph.get("links", []) if _wire(link).id != link_id]
        for node in graph["nodes"]:
            for output in node.get("outputs") or []:
                if link_id in (output.get("links") or []):
                    output["links"].remove(link_id)


@dataclass(frozen=True)
class _Wire:
    id: int
    origin: str
    origin_slot: int
    target: str
    target_slot: int


@dataclass
class _Graph:
    """The root graph, or one use of a subgraph."""

    nodes: dict[str, tuple[dict[str, Any], Path]]
    wires: dict[int, _Wire]
    path: Path
    prefix: str = ""
    outer: _Graph | None = None
    holder: str = ""  # id, in `outer`, of the node that stands for this graph
    definition: dict[str, Any] = field(default_factory=dict)
    inner: dict[str, _Graph] = field(default_factory=dict)
    handed_out: dict[int, int] = field(default_factory=dict)  # output slot of a subgraph and the link that ends there


def convert(
    ui: dict[str, Any], specs: Mapping[str, NodeSpec], source: str
) -> tuple[dict[str, dict[str, Any]], dict[tuple[str, str], ValuePlace]]:
    """Give the API form of `ui`, and where `ui` holds each value; WorkflowError when links or nodes are broken."""
    try:
        converter = _Converter(ui, specs)
        root = converter.open_graph(ui, ())
        converter.add_nodes(root)
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, OverflowError) as error:
        raise WorkflowError(f"{source} is damaged: a node or link has not the form that the editor writes") from error
    if converter.problems:
        raise WorkflowError(converter.problems)
    shared = Counter(place.value for place in converter.places.values())
    places = {key: place for key, place in converter.places.items() if shared[place.value] == 1}
    return converter.prompt, places


class _Converter:
    def __init__(self, ui: dict[str, Any], specs: Mapping[str, NodeSpec]) -> None:
        self.specs = specs
        self.opened = Counter()  # nodes and links, those in subgraphs as often as they are used
        self.sources: dict[tuple[str, int], Any] = {}  # what `source` found, by graph and link
        subgraphs = (ui.get("definitions") or {}).get("subgraphs") or []
        self.subgraphs = {graph["id"]: (graph, ("definitions", "subgraphs", i)) for i, graph in enumerate(subgraphs)}
        self.prompt: dict[str, dict[str, Any]] = {}
        self.places: dict[tuple[str, str], ValuePlace] = {}
        self.problems: list[str] = []

    def open_graph(self, data: dict[str, Any], path: Path, **use: Any) -> _Graph:
        for what, most in (("nodes", MOST_NODES), ("links", MOST_LINKS)):
            self.opened[what] += len(data.get(what) or [])
            if self.opened[what] > most:
                raise WorkflowError(f"the graph has more than {most} {what} when all its subgraphs are opened")
        nodes = {str(node["id"]): (node, (*path, "nodes", i)) for i, node in enumerate(data["nodes"])}
        if len(nodes) < len(data["nodes"]):
            twice, _ = Counter(str(node["id"]) for node in data["nodes"]).most_common(1)[0]
            raise WorkflowError(f"two nodes have the id {twice}; give one of them, and its links, another")
        wires = {wire.id: wire for wire in map(_wire, data.get("links") or [])}
        graph = _Graph(nodes, wires, path, definition=data, **use)
        graph.handed_out = {wire.target_slot: wire.id for wire in wires.values() if wire.target == str(SUBGRAPH_OUTPUT)}
        depth = graph.prefix.count(":")
        for node_id, (node, _) in nodes.items():
            if node["type"] in self.subgraphs:
                if depth > len(self.subgraphs):
                    raise WorkflowError(f"the subgraph {data.get('name', '?')!r} contains itself")
                inner, inner_path = self.subgraphs[node["type"]]
                prefix = f"{graph.prefix}{node_id}:"
                graph.inner[node_id] = self.open_graph(inner, inner_path, prefix=prefix, outer=graph, holder=node_id)
        return graph

    def add_nodes(self, graph: _Graph) -> None:
        for node_id, (node, path) in graph.nodes.items():
            if node.get("mode") in (MUTED, BYPASSED) or node["type"] in VIRTUAL_TYPES:
                continue
            if node_id in graph.inner:
                self.add_nodes(graph.inner[node_id])
            else:
                self.add_node(graph, node_id, node, path)

    def add_node(self, graph: _Graph, node_id: str, node: dict[str, Any], path: Path) -> None:
        class_type = node["type"]
        api_id = graph.prefix + node_id
        spec = self.specs.get(class_type)
        title = node.get("title") or (spec.display_name if spec else class_type)
        if not (isinstance(class_type, str) and isinstance(title, str)):
            raise TypeError(class_type, title)
        if len(node.get("inputs") or []) > MOST_INPUTS:
            raise WorkflowError(f"node {api_id} ({title}) has more than {MOST_INPUTS} inputs")
        inputs: dict[str, Any] = {}
        sockets = {_socket_name(entry): (i, entry) for i, entry in enumerate(node.get("inputs") or [])}
        for name, value, value_path in _stored_values(node, spec, path):
            inputs[name] = value
            linked = name in sockets and sockets[name][1].get("link") is not None
            socket = (*path, "inputs", sockets[name][0]) if linked else None
            if value_path is not None:
                self.places[api_id, name] = ValuePlace(value_path, socket, graph.path)
        for name, (_, entry) in sockets.items():
            if entry.get("link") is None:
                continue
            found = self.source(graph, entry["link"], f"node {api_id} ({title}), input {name!r}")
            if isinstance(found, _Value):
                inputs[name] = found.value
                self.places[api_id, name] = ValuePlace(found.path)
            elif found is not None:
                inputs[name] = found
        self.prompt[api_id] = {"class_type": class_type, "inputs": inputs, "_meta": {"title": title}}

    def source(self, graph: _Graph, link_id: int, where: str) -> list | _Value | None:
        """Follow a link back to the node that runs: its API link, a primitive's value, or None for nothing.

        A way that several nodes share is gone once.
        """
        step = (graph.prefix, link_id)
        if step not in self.sources:
            self.sources[step] = CYCLE  # for as long as the way is not at its end
            self.sources[step] = self.follow(graph, link_id, where)
        found = self.sources[step]
        if found is CYCLE:
            self.problems.append(f"{where} hangs on reroutes that form a cycle")
            return None
        return list(found) if isinstance(found, list) else found

    def follow(self, graph: _Graph, link_id: int, where: str) -> list | _Value | None:
        wire = graph.wires.get(link_id)
        if wire is None:
            self.problems.append(f"{where} names link {link_id}, which is not in the file")
            return None
        if wire.origin == str(SUBGRAPH_INPUT):
            return self.from_outside(graph, wire.origin_slot, where)
        if wire.origin not in graph.nodes:
            self.problems.append(f"{where} is linked to node {graph.prefix}{wire.origin}, which is not in the file")
            return None
        node, path = graph.nodes[wire.origin]
        if node.get("mode") == MUTED:
            return None
        if node.get("mode") == BYPASSED or node["type"] == "Reroute":
            onward = _link_through(node, wire.origin_slot)
            return None if onward is None else self.source(graph, onward, where)
        if node["type"] == "PrimitiveNode":
            return _Value(node["widgets_values"][0], (*path, "widgets_values", 0))
        if wire.origin in graph.inner:
            inner = graph.inner[wire.origin]
            handed = inner.handed_out.get(wire.origin_slot)
            return None if handed is None else self.source(inner, handed, where)
        return [graph.prefix + wire.origin, wire.origin_slot]

    def from_outside(self, graph: _Graph, slot: int, where: str) -> list | _Value | None:
        """What a subgraph is given at one of its inputs: a link, or a value typed into the node that stands for it."""
        holder, path = graph.outer.nodes[graph.holder]
        name = graph.definition["inputs"][slot]["name"]
        entries = holder.get("inputs") or []
        entry = next((entry for entry in entries if entry["name"] == name), None)
        if entry is None:
            return None
        if entry.get("link") is not None:
            return self.source(graph.outer, entry["link"], where)
        promoted = [other["name"] for other in entries if other.get("widget")]
        values = holder.get("widgets_values") or []
        if name in promoted and promoted.index(name) < len(values):
            index = promoted.index(name)
            return _Value(values[index], (*path, "widgets_values", index))
        return None


@dataclass(frozen=True)
class _Value:
    value: Any
    path: Path


def _stored_values(node: dict[str, Any], spec: NodeSpec | None, path: Path) -> Iterator[tuple[str, Any, Path | None]]:
    """Name, value and place of each value stored in a node; the order of the list is that of the inputs."""
    stored = node.get("widgets_values") or []
    if isinstance(stored, dict):
        known = spec.inputs if spec else stored
        yield from ((name, value, (*path, "widgets_values", name)) for name, value in stored.items() if name in known)
        return
    index = 0
    for name, widget in _widgets(node, spec):
        if index < len(stored):
            yield name, stored[index], (*path, "widgets_values", index)
            index += 1
            has_control = index < len(stored) and widget is not None and widget.is_seed
            if has_control and stored[index] in SEED_CONTROLS:
                index += 1
        elif widget is not None and (default := _default(widget)) is not None:
            yield name, default, None  # an input that is newer than the file


def _widgets(node: dict[str, Any], spec: NodeSpec | None) -> Iterator[tuple[str, InputSpec | None]]:
    if spec is not None:
        yield from ((name, widget) for name, widget in spec.inputs.items() if widget.is_widget)
        return
    yield from ((_socket_name(entry), None) for entry in node.get("inputs") or [] if entry.get("widget"))


def _default(widget: InputSpec) -> Any:
    if "default" in widget.options:
        return widget.options["default"]
    return widget.choices[0] if widget.choices else None


def _socket_name(entry: dict[str, Any]) -> str:
    return (entry.get("widget") or {}).get("name") or entry["name"]


def _link_through(node: dict[str, Any], slot: int) -> int | None:
    """The link that a bypassed node or a reroute passes on: the input at the same place, else the first of its type."""
    inputs, outputs = node.get("inputs") or [], node.get("outputs") or []
    if node["type"] == "Reroute":
        return inputs[0].get("link")
    kind = outputs[slot]["type"]
    same_place = inputs[slot : slot + 1]
    for entry in [*same_place, *inputs]:
        if entry.get("link") is not None and (entry["type"] == kind or "*" in (entry["type"], kind)):
            return entry["link"]
    return None


def _wire(link: Any) -> _Wire:
    """One entry of a table of links; the root graph has lists, subgraphs have names."""
    if isinstance(link, dict):
        ends = (link["origin_id"], link["origin_slot"], link["target_id"], link["target_slot"])
        return _Wire(link["id"], str(ends[0]), int(ends[1]), str(ends[2]), int(ends[3]))
    link_id, origin, origin_slot, target, target_slot = link[:5]
    return _Wire(link_id, str(origin), int(origin_slot), str(target), int(target_slot))


def _at(data: Any, path: Any) -> Any:
    for key in path:
        data = data[key]
    return data
