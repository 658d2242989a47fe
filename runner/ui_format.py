"""Turns a UI-format graph (what the editor saves) into the API format (what runs), as the editor does it.

Gone afterwards: notes, reroutes, primitive, Set and Get nodes, muted and bypassed nodes, subgraphs. A subgraph's nodes
get ids as ComfyUI gives them, `outer:inner`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .browser_nodes import GETTER, PRIMITIVE, REROUTES, SETTER, VIRTUAL, is_everywhere, name_of
from .bypass import passed_on, sockets_of
from .errors import LONGEST_NAME, WorkflowError, plain
from .specs import NodeSpec
from .subgraphs import typed_into
from .ui_graph import BYPASSED, MUTED, SUBGRAPH_INPUT, Graph, Value, ValuePlace, graph_of
from .widgets import Path, sent, socket_name, stored_values

# Far above any graph that is drawn. Subgraphs that use each other double with every level.
MOST_NODES, MOST_LINKS, MOST_INPUTS = 10_000, 50_000, 1_000
CYCLE = object()


@dataclass
class Converted:
    """The API form of a graph, and what only its UI form knows."""

    prompt: dict[str, dict[str, Any]] = field(default_factory=dict)
    places: dict[tuple[str, str], ValuePlace] = field(default_factory=dict)  # where the UI form holds a value
    names: dict[str, str] = field(default_factory=dict)  # by which names of files call a node
    literal: set[tuple[str, str]] = field(default_factory=set)  # inputs whose text is sent as it is written
    off: dict[str, str] = field(default_factory=dict)  # labels and types of nodes that are muted or bypassed


def convert(ui: dict[str, Any], specs: Mapping[str, NodeSpec], source: str) -> Converted:
    """Give the API form of `ui`; WorkflowError when links or nodes are broken."""
    try:
        converter = _Converter(ui, specs)
        converter.add_nodes(converter.open_graph(ui, ()))
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, OverflowError) as error:
        raise WorkflowError(f"{source} is damaged: a node or link has not the form that the editor writes") from error
    if converter.problems:
        raise WorkflowError(converter.problems)
    made = converter.made
    shared = Counter(place.values[0] for place in made.places.values())
    made.places = {key: place for key, place in made.places.items() if shared[place.values[0]] == 1}
    return made


class _Converter:
    def __init__(self, ui: dict[str, Any], specs: Mapping[str, NodeSpec]) -> None:
        self.specs = specs
        self.opened = Counter()  # nodes and links, those in subgraphs as often as they are used
        self.sources: dict[tuple[str, int, str], Any] = {}  # what `source` found, by graph, link and wanted type
        subgraphs = (ui.get("definitions") or {}).get("subgraphs") or []
        self.subgraphs = {graph["id"]: (graph, ("definitions", "subgraphs", i)) for i, graph in enumerate(subgraphs)}
        self.made = Converted()
        self.problems: list[str] = []

    def open_graph(self, data: dict[str, Any], path: Path, **use: Any) -> Graph:
        for what, most in (("nodes", MOST_NODES), ("links", MOST_LINKS)):
            self.opened[what] += len(data.get(what) or [])
            if self.opened[what] > most:
                raise WorkflowError(f"the graph has more than {most} {what} when all its subgraphs are opened")
        if len(data.get("inputs") or []) > MOST_INPUTS:
            raise WorkflowError(f"the subgraph {data.get('name', '?')!r} has more than {MOST_INPUTS} inputs")
        graph = graph_of(data, path, **use)
        depth = graph.prefix.count(":")
        for node_id, (node, _) in graph.nodes.items():
            if node["type"] in self.subgraphs:
                if depth > len(self.subgraphs):
                    raise WorkflowError(f"the subgraph {data.get('name', '?')!r} contains itself")
                inner, inner_path = self.subgraphs[node["type"]]
                prefix = f"{graph.prefix}{node_id}:"
                graph.inner[node_id] = self.open_graph(inner, inner_path, prefix=prefix, outer=graph, holder=node_id)
        return graph

    def add_nodes(self, graph: Graph) -> None:
        for node_id, (node, path) in graph.nodes.items():
            # A subgraph that is muted inside another still runs in the editor, though nothing comes out of it.
            if node.get("mode") in (MUTED, BYPASSED) and not (graph.outer and node_id in graph.inner):
                if node["type"] not in VIRTUAL:
                    spec = self.specs.get(node["type"])
                    title = node.get("title") or (spec.display_name if spec else node["type"])
                    self.made.off[plain(f"node {graph.prefix}{node_id} ({title})"[:LONGEST_NAME])] = node["type"]
                continue
            if node_id in graph.inner:
                inner = graph.inner[node_id]
                inner.given, inner.typed = typed_into(node, path, graph, inner, self.specs)
                self.add_nodes(inner)
            elif not self.is_browser_only(graph, node_id, node):
                self.add_node(graph, node_id, node, path)

    def is_browser_only(self, graph: Graph, node_id: str, node: dict[str, Any]) -> bool:
        """Whether a node is nothing to run: it exists in the browser only, or is unknown and has nothing to link."""
        class_type = node["type"]
        if not isinstance(class_type, str):
            raise TypeError(class_type)
        if is_everywhere(class_type):
            linked = [entry for entry in node.get("inputs") or [] if entry.get("link") is not None]
            if linked:
                self.problems.append(
                    f"node {graph.prefix}{node_id} ({class_type}) gives its inputs to other nodes by links that exist "
                    "only while the browser queues the graph; in ComfyUI turn them into real links by the node's menu, "
                    "or export the workflow in API format"
                )
            return True
        if class_type in self.specs:
            return False
        return class_type in VIRTUAL or not (node.get("inputs") or node.get("outputs") or node_id in graph.linked)

    def add_node(self, graph: Graph, node_id: str, node: dict[str, Any], path: Path) -> None:
        class_type = node["type"]
        api_id = graph.prefix + node_id
        spec = self.specs.get(class_type)
        title = node.get("title") or (spec.display_name if spec else class_type)
        if not (isinstance(class_type, str) and isinstance(title, str)):
            raise TypeError(class_type, title)
        if len(node.get("inputs") or []) > MOST_INPUTS:
            raise WorkflowError(f"node {api_id} ({title}) has more than {MOST_INPUTS} inputs")
        inputs: dict[str, Any] = {}
        sockets = {socket_name(entry): (i, entry) for i, entry in enumerate(node.get("inputs") or [])}
        for stored in stored_values(node, spec, path):
            outside = graph.typed.get((node_id, stored.name))
            inputs[stored.name] = stored.value if outside is None else outside.value
            linked = stored.name in sockets and sockets[stored.name][1].get("link") is not None
            socket = (*path, "inputs", sockets[stored.name][0]) if linked else None
            places = stored.places if outside is None else outside.places
            if places:
                self.made.places[api_id, stored.name] = ValuePlace(places, socket, graph.path)
        for name, (_, entry) in sockets.items():
            if entry.get("link") is None:
                continue
            where = f"node {api_id} ({title}), input {name!r}"
            found = self.source(graph, entry["link"], str(entry.get("type", "*")), where)
            if isinstance(found, Value):
                inputs[name] = found.value
                self.made.places[api_id, name] = ValuePlace(found.places)
                if found.is_literal:
                    self.made.literal.add((api_id, name))
            elif found is not None:
                inputs[name] = found
        if isinstance(called := (node.get("properties") or {}).get("Node name for S&R"), str):
            self.made.names[api_id] = called
        meta = {"title": title}
        if spec is None and (pack := _pack_of(node)):
            meta["pack"] = pack
        self.made.prompt[api_id] = {"class_type": class_type, "inputs": inputs, "_meta": meta}

    def source(self, graph: Graph, link_id: int, wanted: str, where: str) -> list | Value | None:
        """Follow a link back to the node that runs: its API link, a value in its place, or None for nothing.

        `wanted` is the type of the input at its end. A way that several nodes share is gone once.
        """
        step = (graph.prefix, link_id, wanted)
        if step not in self.sources:
            self.sources[step] = CYCLE  # for as long as the way is not at its end
            self.sources[step] = self.follow(graph, link_id, wanted, where)
        found = self.sources[step]
        if found is CYCLE:
            self.problems.append(f"{where} hangs on reroutes that form a cycle")
            return None
        return list(found) if isinstance(found, list) else found

    def follow(self, graph: Graph, link_id: int, wanted: str, where: str) -> list | Value | None:
        wire = graph.wires.get(link_id)
        if wire is None:
            self.problems.append(f"{where} names link {link_id}, which is not in the file")
            return None
        if wire.origin == SUBGRAPH_INPUT:
            return self.from_outside(graph, wire.origin_slot, where)
        if wire.origin not in graph.nodes:
            self.problems.append(f"{where} is linked to node {graph.prefix}{wire.origin}, which is not in the file")
            return None
        node, path = graph.nodes[wire.origin]
        class_type = node["type"]
        if node.get("mode") == MUTED:
            return None
        if node.get("mode") == BYPASSED:
            onward = passed_on(node, self.known_inputs(graph, wire.origin), wire.origin_slot, wanted)
            return None if onward is None else self.source(graph, onward, wanted_beyond(node, onward), where)
        if wire.origin in graph.inner:
            inner = graph.inner[wire.origin]
            handed = inner.handed_out.get(wire.origin_slot)
            return None if handed is None else self.source(inner, handed, wanted, where)
        if class_type in self.specs or class_type not in VIRTUAL:
            return [graph.prefix + wire.origin, wire.origin_slot]
        if class_type == PRIMITIVE:
            return Value(sent(node["widgets_values"][0], None), ((*path, "widgets_values", 0),))
        if class_type == GETTER:
            return self.from_setter(graph, name_of(node), wanted, where)
        if class_type in (*REROUTES, SETTER):
            onward = next((entry.get("link") for entry in node.get("inputs") or []), None)
            return None if onward is None else self.source(graph, onward, wanted, where)
        return None

    def known_inputs(self, graph: Graph, node_id: str) -> dict[str, str] | None:
        """The inputs of a node in the editor, by name, with their types."""
        node, _ = graph.nodes[node_id]
        if node_id in graph.inner:
            return {entry["name"]: entry["type"] for entry in graph.inner[node_id].definition.get("inputs") or []}
        spec = self.specs.get(node["type"])
        return None if spec is None else sockets_of(spec)

    def from_setter(self, graph: Graph, name: str, wanted: str, where: str) -> list | Value | None:
        """What the Set node of a name is given, in this graph or the nearest around it."""
        place: Graph | None = graph
        while place is not None:
            if name in place.setters:
                onward = next((entry.get("link") for entry in place.setters[name].get("inputs") or []), None)
                return None if onward is None else self.source(place, onward, wanted, where)
            place = place.outer
        self.problems.append(f"{where} comes from a Get node of {name!r}, but no Set node keeps anything of that name")
        return None

    def from_outside(self, graph: Graph, slot: int, where: str) -> list | Value | None:
        """What a subgraph is given at one of its inputs: a link, or a value typed into the node that stands for it."""
        entry = graph.definition["inputs"][slot]
        sockets = graph.outer.nodes[graph.holder][0].get("inputs") or []
        outer = next((socket for socket in sockets if socket["name"] == entry["name"]), {})
        if outer.get("link") is None:
            return graph.given.get(entry["name"])
        found = self.source(graph.outer, outer["link"], str(entry.get("type", "*")), where)
        # A primitive node only reaches the widget of the node outside; the editor sends what stands in the widget here.
        return found if not isinstance(found, Value) or found.is_literal else None


def wanted_beyond(node: dict[str, Any], link_id: int) -> str:
    """The type of the input of a node that has a link."""
    return next(str(entry["type"]) for entry in node["inputs"] if entry.get("link") == link_id)


def _pack_of(node: dict[str, Any]) -> str:
    """The node pack that a node came from, as newer editors note it."""
    properties = node.get("properties")
    found = [properties.get(key) for key in ("cnr_id", "aux_id")] if isinstance(properties, dict) else []
    return next((name for name in found if isinstance(name, str)), "")
