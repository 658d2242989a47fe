"""A workflow: read from a file in API or UI format, or from what carries one, and changed in both forms.

Whatever the file, the runner works on the API format: `{node id: {"class_type", "inputs", "_meta"}}`, where a link
is `[node id, output slot]`. The UI format, when there is one, is kept in step, so that a saved video opens in the
editor with the values that made it.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..models.near_names import near_name
from .carriers import Graphs, find_graphs, read_graphs
from .errors import LONGEST_NAME, RunnerError, WorkflowError, first, shown
from .specs import NodeSpec
from .ui_format import MOST_INPUTS, MOST_NODES, convert
from .ui_graph import ValuePlace

PACKAGE = Path(__file__).resolve().parent.parent
# Values of buttons and previews that the editor leaves in saved files; they never were inputs.
LEFTOVERS = ("upload", "audioUI", "video-preview")
NOT_A_WORKFLOW = "it has neither the nodes and links of the UI format nor the class_type of the API format"
MOST_NAMED = 10  # graphs of a file that holds several
Prompt = dict[str, dict[str, Any]]  # a graph in API format
Place = tuple[str, str]  # the id of a node and the name of one of its inputs


@dataclass
class Workflow:
    """A graph ready to be changed, checked and run."""

    prompt: Prompt
    ui: dict[str, Any] | None = None
    places: dict[tuple[str, str], ValuePlace] = field(default_factory=dict)  # where the UI form holds a value
    made_for: dict[str, Any] | None = None  # prompt and seed, which a batch writes into its files in plain form
    names: dict[str, str] = field(default_factory=dict)  # by which names of files call a node, where not by its type
    literal: set[tuple[str, str]] = field(default_factory=set)  # inputs whose text the editor sends as it is written
    notes: list[str] = field(default_factory=list)  # what was made of the file that its user should know
    written: dict[tuple[str, str], str] = field(default_factory=dict)  # texts before choices were made in them
    off: dict[str, str] = field(default_factory=dict)  # labels and types of nodes that are muted or bypassed
    was_set: set[Place] = field(default_factory=set)  # inputs that were given a value, see `places_set`

    @property
    def extra_pnginfo(self) -> dict[str, Any] | None:
        """What goes into the metadata of files beside the graph that ran."""
        extra = {"workflow": self.ui, "pyramid_video": self.made_for}
        return {key: value for key, value in extra.items() if value} or None

    def set_value(self, node_id: str, name: str, value: Any) -> None:
        """Give one input a value of its own, in both forms.

        The UI form is given up where it cannot hold the value, as for a link or one of several uses of a subgraph.
        """
        self.prompt[node_id]["inputs"][name] = as_link(value) if is_link(value) else value
        self.was_set.add((node_id, name))
        place = self.places.get((node_id, name))
        if place is None or is_link(value):  # a widget that holds a list is sent as a value, not as a link
            self.ui = None
        elif self.ui is not None:
            place.write(self.ui, value)

    def places_set(self, work: Callable[[], object]) -> set[Place]:
        """Do `work`, and say which inputs it gave a value."""
        self.was_set = set()
        work()
        return self.was_set


def is_link(value: Any) -> bool:
    """True for `[node id, output slot]`; a boolean is no slot."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], (str, int))
        and isinstance(value[1], int)
        and not isinstance(value[0], bool)
        and not isinstance(value[1], bool)
    )


def as_link(value: list[Any]) -> list[Any]:
    """A link with its node's id as text, which people and older files write as a number."""
    return [str(value[0]), value[1]]


def locate(name: str) -> Path:
    """The file called `name` here, or the bundled workflow of that name; RunnerError names the nearest."""
    path = Path(os.path.expanduser(name))
    if path.is_file():
        return path
    if path.is_dir():
        raise RunnerError(f"{name} is a folder; give a workflow file in it")
    if not path.is_absolute() and ".." not in path.parts:
        for bundled in (PACKAGE / path, PACKAGE / "workflows" / path):
            if bundled.is_file():
                return bundled
    near = near_name(path.stem, (file.stem for file in (PACKAGE / "workflows").glob("*.json")))
    hint = "" if near is None else f"; the nearest is 'workflows/{near}.json' (bundled)"
    raise RunnerError(f"there is no file {name}{hint}")


def read_workflow(path: Path, specs: Mapping[str, NodeSpec]) -> Workflow:
    """Read a workflow in any form; `specs` give the order of the values stored in a UI-format file.

    Raises WorkflowError when the file carries none.
    """
    try:
        return choose_graph(read_graphs(path), specs, str(path))
    except RecursionError as error:
        raise too_deep(str(path)) from error


def from_json(data: Any, specs: Mapping[str, NodeSpec], source: str) -> Workflow:
    """Make a Workflow of parsed JSON: a graph in UI or API format, or an envelope around one."""
    try:
        return choose_graph(find_graphs(data), specs, source)
    except RecursionError as error:
        raise too_deep(source) from error


def too_deep(source: str) -> WorkflowError:
    return WorkflowError(
        f"{source} is nested too deeply: hundreds of lists or subgraphs in each other, or of reroutes in a row"
    )


def choose_graph(found: Graphs, specs: Mapping[str, NodeSpec], source: str) -> Workflow:
    """The one graph of a file. Where it is there in both forms, the API form is what ran and will run."""
    prompts: list[dict[str, Any]] = []
    for _, graph in found.prompts:
        if graph not in prompts and len(prompts) < MOST_NAMED:
            prompts.append(graph)
    if len(prompts) > 1 or (not prompts and len(found.uis) > 1):
        places = [where for where, _ in found.prompts or found.uis]
        raise WorkflowError(
            f"{source} holds {len(places)} graphs: {', '.join(places[:MOST_NAMED])}; put one of them into a file"
        )
    if not prompts and not found.uis:
        why = "only pictures and videos that were saved with their metadata do" if found.is_media else NOT_A_WORKFLOW
        raise WorkflowError(f"{source} {'carries no workflow' if found.is_media else 'is not a workflow'}; {why}")
    try:
        saved = from_ui(found.uis[0][1], specs, source) if found.uis else None
    except WorkflowError:
        if not prompts:
            raise
        saved = None  # it only has to open in the editor
    if not prompts:
        return saved
    prompt = _clean_api(prompts[0])
    return replace(saved, prompt=prompt) if saved else Workflow(prompt)


def from_ui(data: dict[str, Any], specs: Mapping[str, NodeSpec], source: str) -> Workflow:
    ui = copy.deepcopy(data)
    read = convert(ui, specs, source)
    return Workflow(read.prompt, ui, read.places, names=read.names, literal=read.literal, off=read.off)


def _form_problems(node_id: str, node: dict[str, Any]) -> Iterator[str]:
    """Where a node has not the form of the API format."""
    if "class_type" not in node:
        yield f"node {node_id} has no class_type"
    elif not isinstance(node["class_type"], str):
        yield f"the class_type of node {node_id} is not a name"
    if not isinstance(node.get("inputs", {}), dict):
        yield f"the inputs of node {node_id} are not a set of names and values"
    elif len(node.get("inputs", {})) > MOST_INPUTS:
        yield f"node {node_id} has {len(node['inputs'])} inputs; {MOST_INPUTS} are the most"
    meta = node.get("_meta") or {}
    if not isinstance(meta, dict):
        yield f"the _meta of node {node_id} is not a set of names and values"
    elif not isinstance(meta.get("title") or "", str):
        yield f"the title of node {node_id} is not text"


def _is_node(value: Any) -> bool:
    return isinstance(value, dict) and bool(value.keys() & {"class_type", "inputs"})


def _damaged(data: dict[str, Any]) -> Iterator[str]:
    """What has the id of a node, or is linked to, and is none; anything else between nodes is a comment."""
    inputs = (node.get("inputs") for node in data.values() if _is_node(node))
    linked = {str(link[0]) for each in inputs if isinstance(each, dict) for link in each.values() if is_link(link)}
    for key, value in data.items():
        if not _is_node(value) and (key in linked or key.isdigit()):
            what = f"it is {shown(value)}, and a node is an object with class_type and inputs"
            yield f"node {key[:LONGEST_NAME]} is damaged: {what}"


def _clean_api(data: dict[str, Any]) -> Prompt:
    """The nodes of a graph in API format; a comment between them is none."""
    if problems := first(_damaged(data)):
        raise WorkflowError(problems)
    data = {key: node for key, node in data.items() if _is_node(node)}
    prompt: Prompt = {}
    if len(data) > MOST_NODES:
        raise WorkflowError(f"the graph has {len(data)} nodes; {MOST_NODES} are the most")
    if problems := first(problem for node_id, node in data.items() for problem in _form_problems(node_id, node)):
        raise WorkflowError(problems)
    for node_id, node in copy.deepcopy(data).items():
        prompt[node_id] = {key: node[key] for key in ("class_type", "inputs", "_meta") if key in node}
        prompt[node_id]["inputs"] = {
            name: as_link(value) if is_link(value) else value
            for name, value in node.get("inputs", {}).items()
            if name not in LEFTOVERS
        }
    return prompt
