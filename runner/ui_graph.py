"""The parts of a UI-format file: graphs, their nodes and links, and where a value lies in it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from .browser_nodes import SETTER, name_of
from .errors import WorkflowError
from .widgets import Path

MUTED, BYPASSED = 2, 4
SUBGRAPH_INPUT, SUBGRAPH_OUTPUT = "-10", "-20"  # the ids that a subgraph's border has in its own links

VALUES = (list, dict, type(None))  # how a node holds what is typed into it


@dataclass(frozen=True)
class ValuePlace:
    """Where a UI-format file holds the value of one input."""

    values: tuple[Path, ...]  # a list and, of newer editors, the same by name
    socket: Path | None = None  # the input entry whose link would win over the value
    graph: Path = ()  # the graph whose table holds that link

    def write(self, ui: dict[str, Any], value: Any) -> None:
        """Store `value`, and cut the link that would hide it."""
        for *parents, last in self.values:
            at(ui, parents)[last] = value
        if self.socket is None:
            return
        socket, graph = at(ui, self.socket), at(ui, self.graph)
        link_id, socket["link"] = socket["link"], None
        graph["links"] = [link for link in graph.get("links", []) if wire_of(link).id != link_id]
        for node in graph["nodes"]:
            for output in node.get("outputs") or []:
                if link_id in (output.get("links") or []):
                    output["links"].remove(link_id)


@dataclass(frozen=True)
class Value:
    """A value that stands in for a link."""

    value: Any
    places: tuple[Path, ...]
    is_literal: bool = False  # typed into the node of a subgraph: the editor makes no choices in its text


@dataclass(frozen=True)
class Wire:
    """One link."""

    id: int
    origin: str
    origin_slot: int
    target: str
    target_slot: int


@dataclass
class Graph:
    """The root graph, or one use of a subgraph."""

    nodes: dict[str, tuple[dict[str, Any], Path]]
    wires: dict[int, Wire]
    path: Path
    definition: dict[str, Any]
    prefix: str = ""
    outer: Graph | None = None
    holder: str = ""  # id, in `outer`, of the node that stands for this graph
    inner: dict[str, Graph] = field(default_factory=dict)
    given: dict[str, Value] = field(default_factory=dict)  # by inputs of this subgraph, what its node has typed in
    typed: dict[tuple[str, str], Value] = field(default_factory=dict)  # by node and widget here, the same
    # What was found once: every level around this graph asks for it again, and for each of its inputs.
    begun: dict[str, Value] | None = None  # `given`, as far as its own node says it
    ends_in_widget: dict[str, bool] = field(default_factory=dict)  # by inputs of this subgraph

    def __post_init__(self) -> None:
        wires = self.wires.values()
        self.linked = {end for wire in wires for end in (wire.origin, wire.target)}
        self.handed_out = {wire.target_slot: wire.id for wire in wires if wire.target == SUBGRAPH_OUTPUT}
        self.entering: dict[int, list[Wire]] = {}  # by input slot of this subgraph
        for wire in wires:
            if wire.origin == SUBGRAPH_INPUT:
                self.entering.setdefault(wire.origin_slot, []).append(wire)
        self.input_names = [entry["name"] for entry in self.definition.get("inputs") or []] if self.outer else []
        self.setters = {name_of(node): node for node, _ in self.nodes.values() if node["type"] == SETTER}


def graph_of(data: dict[str, Any], path: Path, **use: Any) -> Graph:
    """Read the nodes and links of one graph; WorkflowError when two nodes have the same id, TypeError for damage."""
    nodes = {str(node["id"]): (node, (*path, "nodes", i)) for i, node in enumerate(data["nodes"])}
    if len(nodes) < len(data["nodes"]):
        twice, _ = Counter(str(node["id"]) for node in data["nodes"]).most_common(1)[0]
        raise WorkflowError(f"two nodes have the id {twice}; give one of them, and its links, another")
    if strange := [node for node, _ in nodes.values() if not isinstance(node.get("widgets_values"), VALUES)]:
        raise TypeError(strange[0]["widgets_values"])
    wires = {wire.id: wire for wire in map(wire_of, data.get("links") or [])}
    return Graph(nodes, wires, path, data, **use)


def wire_of(link: Any) -> Wire:
    """One entry of a table of links: a list in older files, names in subgraphs and newer files."""
    if isinstance(link, dict):
        ends = (link["origin_id"], link["origin_slot"], link["target_id"], link["target_slot"])
        return Wire(link["id"], str(ends[0]), int(ends[1]), str(ends[2]), int(ends[3]))
    link_id, origin, origin_slot, target, target_slot = link[:5]
    return Wire(link_id, str(origin), int(origin_slot), str(target), int(target_slot))


def at(data: Any, path: Any) -> Any:
    """What lies in nested lists and objects at the end of a path."""
    for key in path:
        data = data[key]
    return data
