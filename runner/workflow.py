"""Reads a workflow from an API-format or UI-format file, or from a video that carries one.

Whatever the file, the runner works on the API format: `{node id: {"class_type", "inputs", "_meta"}}`, where a link
is `[node id, output slot]`. The UI format, when there is one, is kept in step, so that a saved video opens in the
editor with the values that made it.
"""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import RunnerError, WorkflowError, first, nearest, shown
from .specs import NodeSpec
from .ui_format import MOST_INPUTS, MOST_NODES, ValuePlace, convert

PACKAGE = Path(__file__).resolve().parent.parent
VIDEO_EXTENSIONS = (".mp4", ".webm", ".mkv", ".mov")
# Values of buttons and previews that the editor leaves in saved files; they never were inputs.
LEFTOVERS = ("upload", "audioUI", "video-preview")
LARGEST_FILE = 32 << 20  # bytes; workflows with pictures inside have a few million
Prompt = dict[str, dict[str, Any]]  # a graph in API format


@dataclass
class Workflow:
    """A graph ready to be changed, checked and run."""

    prompt: Prompt
    ui: dict[str, Any] | None = None
    places: dict[tuple[str, str], ValuePlace] = field(default_factory=dict)  # where the UI form holds a value
    made_for: dict[str, Any] | None = None  # prompt and seed, which a batch writes into its files in plain form

    @property
    def extra_pnginfo(self) -> dict[str, Any] | None:
        """What goes into the metadata of files beside the graph that ran."""
        extra = {"workflow": self.ui, "pyramid_video": self.made_for}
        return {key: value for key, value in extra.items() if value} or None

    def set_value(self, node_id: str, name: str, value: Any) -> None:
        """Give one input a literal value, in both forms."""
        self.prompt[node_id]["inputs"][name] = value
        place = self.places.get((node_id, name))
        if place is not None and self.ui is not None:
            place.write(self.ui, value)


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


def locate(name: str) -> Path:
    """The file called `name` here, or the bundled workflow of that name; RunnerError names the nearest."""
    path = Path(name).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        raise RunnerError(f"{name} is a folder; give a workflow file in it")
    if not path.is_absolute() and ".." not in path.parts:
        for bundled in (PACKAGE / path, PACKAGE / "workflows" / path):
            if bundled.is_file():
                return bundled
    bundled = [f"workflows/{file.name}" for file in sorted((PACKAGE / "workflows").glob("*.json"))]
    raise RunnerError(f"there is no file {name}" + (f"{nearest(name, bundled)} (bundled)" if bundled else ""))


def read_workflow(path: Path, specs: Mapping[str, NodeSpec]) -> Workflow:
    """Read any of the three forms; `specs` give the order of the values stored in a UI-format file.

    Raises WorkflowError when the file is no workflow.
    """
    if path.suffix.lower() in VIDEO_EXTENSIONS:
        return _from_video(path, specs)
    if path.stat().st_size > LARGEST_FILE:
        raise WorkflowError(f"{path} has {path.stat().st_size >> 20} MB; a workflow has at most {LARGEST_FILE >> 20}")
    try:
        data = parse(path.read_text("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise WorkflowError(
            f"{path} is not text; a workflow is a JSON file or a video saved with its workflow"
        ) from error
    except ValueError as error:
        raise WorkflowError(f"{path} is not valid JSON: {error}") from error
    except RecursionError as error:
        raise too_deep(str(path)) from error
    return from_json(data, specs, str(path))


def parse(text: str) -> Any:
    """JSON as it is meant: ValueError where a name stands twice in one object, of which Python takes the last."""
    return json.loads(text, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"the name {shown(twice)} stands twice in one object")
    return found


def from_json(data: Any, specs: Mapping[str, NodeSpec], source: str) -> Workflow:
    """Make a Workflow of parsed JSON in UI format, in API format, or as posted to a server's `/prompt`."""
    try:
        return _from_json(data, specs, source)
    except RecursionError as error:
        raise too_deep(source) from error


def too_deep(source: str) -> WorkflowError:
    return WorkflowError(
        f"{source} is nested too deeply: hundreds of lists or subgraphs in each other, or of reroutes in a row"
    )


def _from_json(data: Any, specs: Mapping[str, NodeSpec], source: str) -> Workflow:
    if isinstance(data, dict) and isinstance(data.get("nodes"), list):
        ui = copy.deepcopy(data)
        prompt, places = convert(ui, specs, source)
        return Workflow(prompt, ui, places)
    if isinstance(data, dict) and isinstance(data.get("prompt"), dict):
        return _from_json(data["prompt"], specs, source)
    if _looks_like_api(data):
        return Workflow(_clean_api(data))
    raise WorkflowError(
        f"{source} is not a workflow: it has neither the nodes and links of the UI format nor the class_type of "
        "the API format"
    )


def _looks_like_api(data: Any) -> bool:
    return (
        isinstance(data, dict)
        and bool(data)
        and all(isinstance(node, dict) for node in data.values())
        and any("class_type" in node for node in data.values())
    )


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


def _clean_api(data: dict[str, Any]) -> Prompt:
    if len(data) > MOST_NODES:
        raise WorkflowError(f"the graph has {len(data)} nodes; {MOST_NODES} are the most")
    if problems := first(problem for node_id, node in data.items() for problem in _form_problems(node_id, node)):
        raise WorkflowError(problems)
    prompt = {}
    for node_id, node in copy.deepcopy(data).items():
        prompt[node_id] = {key: node[key] for key in ("class_type", "inputs", "_meta") if key in node}
        prompt[node_id]["inputs"] = {
            name: [str(value[0]), value[1]] if is_link(value) else value
            for name, value in node.get("inputs", {}).items()
            if name not in LEFTOVERS
        }
    return prompt


def _from_video(path: Path, specs: Mapping[str, NodeSpec]) -> Workflow:
    from ..host.video import read_metadata

    found = {key: _parse(text) for key, text in read_metadata(path).items() if key in ("prompt", "workflow")}
    if not isinstance(found.get("prompt"), dict):
        if isinstance(found.get("workflow"), dict):
            return from_json(found["workflow"], specs, str(path))
        raise WorkflowError(f"{path} carries no workflow; only videos saved by Save Video with metadata do")
    workflow = from_json(found["prompt"], specs, str(path))
    if not isinstance(found.get("workflow"), dict):
        return workflow
    try:
        # The prompt is what ran; the UI form only has to open in the editor with the same values.
        saved = from_json(found["workflow"], specs, str(path))
    except WorkflowError:
        return workflow
    return Workflow(workflow.prompt, saved.ui, saved.places)


def _parse(text: str) -> Any:
    try:
        return parse(text) if len(text) <= LARGEST_FILE else None
    except (ValueError, RecursionError):
        return None
