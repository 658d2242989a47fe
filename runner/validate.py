"""Finds every fault of a graph before anything runs: one sentence each, naming the node.

The rules are the host's own (types, ranges, choices, VALIDATE_INPUTS), so that what passes here is taken by ComfyUI;
and unknown input names are refused instead of ignored, because they are misspelt.
"""

from __future__ import annotations

import inspect
import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ..host.folders import MODEL_EXTENSIONS, official_hint
from .errors import WorkflowError, first, nearest_or_known, node_label, shown
from .foreign import unknown_type
from .links import check_links, needed_order
from .specs import WIDGET_TYPES, InputSpec, NodeSpec
from .workflow import Prompt, is_link

NOT_A_PATH = (
    "models have the names that `pyramid-video models` lists: put the file into one of its folders, or name a folder "
    "of yours with --models"
)
SEE_SHOW = "`pyramid-video show --json` lists them"
TRUE_TEXTS, FALSE_TEXTS = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def validate(prompt: Prompt, classes: Mapping[str, type], specs: Mapping[str, NodeSpec]) -> list[str]:
    """Check a graph and convert its values to the types the nodes take, in place.

    Returns the output nodes to run; WorkflowError lists all faults.
    """
    check_types(prompt, specs, here=True)
    outputs = [node_id for node_id, node in prompt.items() if specs[node["class_type"]].is_output]
    if not outputs:
        raise WorkflowError("the workflow writes nothing: add a node such as Save Video (SaveVideo)")
    if all(getattr(classes[prompt[node_id]["class_type"]], "SHOWS_ONLY", False) for node_id in outputs):
        shown_by = node_label(prompt, outputs[0])
        raise WorkflowError(f"the workflow saves nothing: {shown_by} only shows pictures; put Save Image in its place")
    check_links(prompt, specs)
    needed = set(needed_order(prompt, outputs))
    problems = first(
        problem for node_id in prompt if node_id in needed for problem in value_problems(prompt, specs, node_id)
    )
    if not problems:  # the nodes' own checks may rely on values of the right type
        problems = first(p for i in prompt if i in needed for p in own_problems(prompt, classes, specs, i))
    if problems:
        raise WorkflowError(problems)
    return outputs


def check_values(prompt: Prompt, classes: Mapping[str, type], specs: Mapping[str, NodeSpec], node_id: str) -> None:
    """Check and convert the values of one node, as `validate` does those of all; WorkflowError lists its faults."""
    problems = first(value_problems(prompt, specs, node_id)) or first(own_problems(prompt, classes, specs, node_id))
    if problems:
        raise WorkflowError(problems)


def check_types(prompt: Prompt, specs: Mapping[str, NodeSpec], here: bool = False) -> None:
    """Raise WorkflowError for nodes that are not known; nothing else can be said of such a graph."""
    unknown = (node_id for node_id, node in prompt.items() if node["class_type"] not in specs)
    if problems := first(unknown_type(prompt, node_id, specs, here) for node_id in unknown):
        raise WorkflowError(problems)


def check_numbers(prompt: Prompt) -> None:
    """Raise WorkflowError for numbers that JSON does not have; Python reads and writes them all the same."""
    if problems := first(number_problems(prompt)):
        raise WorkflowError(problems)


def number_problems(prompt: Prompt) -> Iterator[str]:
    for node_id, node in prompt.items():
        for name, value in node["inputs"].items():
            try:
                json.dumps(value, allow_nan=False)
            except ValueError:
                yield f"{node_label(prompt, node_id)}, input {shown(name)}, takes a finite number, not {shown(value)}"


def value_problems(prompt: Prompt, specs: Mapping[str, NodeSpec], node_id: str) -> Iterator[str]:
    """Missing inputs and values of the wrong type, out of range, or not among the choices; converts the right ones."""
    node, label = prompt[node_id], node_label(prompt, node_id)
    spec = specs[node["class_type"]]
    for name, wanted in spec.inputs.items():
        if name not in node["inputs"]:
            if wanted.required:
                what = "a value" if wanted.is_widget else f"a link that gives {wanted.type}"
                yield f"{label} lacks its input {name!r}: it needs {what}"
            continue
        value = node["inputs"][name]
        if is_link(value):
            continue
        if wanted.type not in WIDGET_TYPES:
            yield f"{label}, input {name!r}, needs a link that gives {wanted.type}, not the value {shown(value)}"
            continue
        try:
            node["inputs"][name] = convert_value(value, wanted.type)
        except (ValueError, TypeError, OverflowError):
            yield f"{label}, input {name!r}, takes {WIDGET_TYPES[wanted.type]}, not {shown(value)}"


def own_problems(
    prompt: Prompt, classes: Mapping[str, type], specs: Mapping[str, NodeSpec], node_id: str
) -> Iterator[str]:
    """Ranges and choices, and what the node's VALIDATE_INPUTS says; inputs that it names are left to it."""
    node, label = prompt[node_id], node_label(prompt, node_id)
    node_class, spec = classes[node["class_type"]], specs[node["class_type"]]
    literals = {name: value for name, value in node["inputs"].items() if not is_link(value)}
    check = getattr(node_class, "VALIDATE_INPUTS", None)
    parameters = inspect.signature(check).parameters if check is not None else {}
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    for name, value in literals.items():
        if not takes_all and name not in parameters:
            yield from (f"{label}, input {name!r}, {fault}" for fault in range_faults(spec.inputs[name], value))
    if check is not None:
        named = literals if takes_all else {name: value for name, value in literals.items() if name in parameters}
        valid = check(**named)
        if valid is not True:
            yield f"{label}: {valid}" if valid else f"{label} refuses its values"


def convert_value(value: Any, kind: str) -> Any:
    """Bring a literal to the type of its input; ValueError or TypeError when it has no such meaning."""
    if kind == "BOOLEAN":
        if isinstance(value, str):
            text = value.strip().lower()
            if text not in TRUE_TEXTS + FALSE_TEXTS:
                raise ValueError(value)
            return text in TRUE_TEXTS
        if not isinstance(value, (bool, int)):
            raise TypeError(value)
        return bool(value)
    if kind in ("INT", "FLOAT") and isinstance(value, bool):
        raise TypeError(value)
    if kind == "INT":
        whole = int(value)
        if isinstance(value, float) and whole != value:
            raise ValueError(value)
        return whole
    if kind == "FLOAT":
        number = float(value)
        if not math.isfinite(number):
            raise ValueError(value)
        return number
    if kind == "STRING":
        if isinstance(value, (dict, list)) or value is None:
            raise TypeError(value)
        return str(value)
    return value


def range_faults(spec: InputSpec, value: Any) -> Iterator[str]:
    """What is wrong with a value of the right type."""
    if spec.type in ("INT", "FLOAT"):
        low, high = spec.options.get("min"), spec.options.get("max")
        if low is not None and value < low:
            yield f"is {value}; the least is {low}"
        if high is not None and value > high:
            yield f"is {value}; the most is {high}"
    elif spec.choices is not None and value not in spec.choices:
        if is_model_path(value):
            yield f"is {shown(value)}, which is a path; {NOT_A_PATH}"
        elif not spec.choices:
            yield f"is {shown(value)}, but there is nothing to choose from; `pyramid-video models` lists the folders"
        else:
            hint = official_hint(value, map(str, spec.choices)) or nearest_or_known(value, spec.choices, SEE_SHOW)
            yield f"is {shown(value)}, which is not one of its {len(spec.choices)} choices{hint}"


def is_model_path(value: Any) -> bool:
    """Whether a choice was given as the path of a weight file: from the root, a drive or the home folder."""
    beginning = r"[/~\\]|[A-Za-z]:[/\\]"
    return isinstance(value, str) and value.lower().endswith(MODEL_EXTENSIONS) and bool(re.match(beginning, value))
