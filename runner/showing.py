"""What `pyramid-video show` prints: the blocks of a workflow, their values, and how to set them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

from .errors import MOST_LISTED, RunnerError, node_label, plain
from .overrides import Names, names_of, seed_places, side_places
from .shorthands import drawing_places
from .specs import WIDGET_TYPES, InputSpec, NodeSpec
from .workflow import Workflow, is_link

LONGEST_VALUE = 60  # characters
Naming = Callable[[str, str], str]  # from a node's id and an input, how --set names it


def described(workflow: Workflow, specs: Mapping[str, NodeSpec]) -> dict[str, Any]:
    """The blocks of a workflow as plain data."""
    name_of = naming(workflow, specs)
    blocks = [
        {
            "id": node_id,
            "type": node["class_type"],
            "title": (node.get("_meta") or {}).get("title") or node["class_type"],
            "inputs": [described_input(workflow, specs, node_id, name, name_of) for name in node["inputs"]],
        }
        for node_id, node in workflow.prompt.items()
    ]
    return {"status": "success", "blocks": blocks, "muted_or_bypassed": list(workflow.off)}


def described_input(
    workflow: Workflow, specs: Mapping[str, NodeSpec], node_id: str, name: str, name_of: Naming
) -> dict[str, Any]:
    node = workflow.prompt[node_id]
    value = node["inputs"][name]
    if is_link(value):
        return {"name": name, "link": value}
    spec = specs.get(node["class_type"])
    known = spec.inputs.get(name) if spec else None
    takes = taken(known) if known else ""
    entry = {"name": name, "value": value, "takes": takes, "set": name_of(node_id, name)}
    return {**entry, "choices": list(known.choices)} if known and known.choices else entry


def workflow_lines(workflow: Workflow, specs: Mapping[str, NodeSpec]) -> Iterator[str]:
    """A paragraph for each block, and how to set what it shows."""
    example = None
    for block in described(workflow, specs)["blocks"]:
        known = "" if block["type"] in specs else "  (not known here)"
        yield plain(f"{block['title']}  [{block['type']}, id {block['id']}]{known}")
        for entry in block["inputs"]:
            if "link" in entry:
                source = entry["link"][0]
                yield plain(f"    {entry['name']}  <-  {node_label(workflow.prompt, source)}")
                continue
            example = example or entry
            takes = f"   ({entry['takes']})" if entry["takes"] else ""
            yield plain(f"    {entry['set']} = {short(entry['value'])}{takes}")
        yield ""
    if workflow.off:
        yield f"Muted or bypassed, so that they do not run: {', '.join(workflow.off)}"
    yield from option_lines(workflow, specs)
    if example is not None:
        yield f"Set any value as it is named above: --set {shlex.quote(example['set'] + '=VALUE')}"


def option_lines(workflow: Workflow, specs: Mapping[str, NodeSpec]) -> Iterator[str]:
    """Which values the options for what is changed most change."""
    places = {
        "--prompt": side_places(workflow, specs, "positive"),
        "--negative": side_places(workflow, specs, "negative"),
        "--seed": seed_places(workflow),
        "--seconds": drawing_places(workflow, specs, ("seconds",)),
        "--size": drawing_places(workflow, specs, ("width", "height")),
        "--steps": drawing_places(workflow, specs, ("steps", "first_steps", "video_steps")),
    }
    name_of = naming(workflow, specs)
    for option, found in places.items():
        if found:
            yield f"{option} sets {', '.join(name_of(*place) for place in found)}"


def naming(workflow: Workflow, specs: Mapping[str, NodeSpec]) -> Naming:
    """The shortest way for --set to name an input: by title or type where that is one node, else by id."""
    names = Names(workflow, specs)

    @cache
    def owner(called: str, name: str) -> str | None:
        try:
            return names.find(called, name)[0]
        except RunnerError:
            return None  # more than one node is called so

    def name_of(node_id: str, name: str) -> str:
        for called in names_of(workflow.prompt[node_id], specs):
            if "=" not in called and owner(called, name) == node_id:
                return f"{called}.{name}"
        return f"{node_id}.{name}"

    return name_of


def short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    text = " ".join(text.split())
    return repr(text)[1:-1] if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 3] + "..."


def taken(input_: InputSpec) -> str:
    """What an input takes, in a few words."""
    if input_.type in ("INT", "FLOAT"):
        low, high = input_.options.get("min"), input_.options.get("max")
        bounds = f", {low} to {high}" if low is not None and high is not None and abs(high) < 1e9 else ""
        return WIDGET_TYPES[input_.type] + bounds
    if input_.choices:
        names = ", ".join(map(str, input_.choices[:MOST_LISTED]))
        return names + (", ..." if len(input_.choices) > MOST_LISTED else "")
    return WIDGET_TYPES.get(input_.type, "")
