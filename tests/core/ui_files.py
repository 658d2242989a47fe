"""Graphs in the form that the editor saves, of the nodes in `fake_nodes`."""

from __future__ import annotations

from fake_nodes import specs
from pyramid_video.runner.workflow import Workflow, from_json


def ui_node(node_id, kind, values=(), links=None, **more):
    """A node as the editor saves it; `links` maps input names to link ids."""
    sockets = {"thing": "THING", "other": "THING", "positive": "THING", "negative": "THING"}
    inputs = [
        {"name": name, "type": sockets.get(name, "STRING"), "link": link}
        | ({} if name in sockets else {"widget": {"name": name}})
        for name, link in (links or {}).items()
    ]
    kinds = {"Maker": ["THING", "INT"], "Keep": [], "PrimitiveNode": ["STRING"], "PrimitiveText": ["STRING"]}
    outputs = [{"name": kind, "type": kind, "links": []} for kind in kinds.get(kind, ["THING"])]
    node = {"id": node_id, "type": kind, "mode": 0, "inputs": inputs, "outputs": outputs}
    return node | {"widgets_values": list(values)} | more


def ui_graph(*nodes, links):
    """`links`: id, origin, origin slot, target, target slot."""
    return {"nodes": list(nodes), "links": [[*link, "THING"] for link in links], "version": 0.4}


MAKER = ["a", 7, "randomize", 0.25, "fast", False]  # with the control that the editor stores after a seed


def read(data) -> Workflow:
    return from_json(data, specs(), "test.json")


def graph_of(prompt):
    """A prompt without titles."""
    return {key: (node["class_type"], node["inputs"]) for key, node in prompt.items()}


def with_converted_text(kind):
    """The text of a Maker comes over a link from node 9; its old value is still in the list."""
    return ui_graph(
        ui_node(9, kind, ["from outside"]),
        ui_node(1, "Maker", MAKER, {"text": 1}),
        ui_node(4, "Keep", [], {"thing": 2}),
        links=[(1, 9, 0, 1, 0), (2, 1, 0, 4, 0)],
    )
