"""Finds every fault of a graph before anything runs: one sentence each, naming the node.

The rules are the host's own (types, ranges, choices, VALIDATE_INPUTS), so that what passes here is taken by ComfyUI;
and unknown input names are refused instead of ignored, because they are misspelt.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping
from typing import Any

from .errors import WorkflowError, nearest, node_label
from .specs import InputSpec, NodeSpec
from .workflow import is_link

Prompt = dict[str, dict[str, Any]]
TRUE_WORDS, FALSE_WORDS = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def validate(prompt: Prompt, classes: Mapping[str, type], specs: Mapping[str, NodeSpec]) -> list[str]:
    """Check a graph and convert its values to the types the nodes take, in place.

    Returns the output nodes to run; WorkflowError lists all faults.
    """
    check_types(prompt, specs)
    outputs = [node_id for node_id, node in prompt.items() if specs[node["class_type"]].is_output]
    if not outputs:
        raise WorkflowError("the workflow writes nothing: add a node such as Save Video (SaveVideo)")
    problems = [problem for node_id in prompt for problem in link_problems(prompt, specs, node_id)]
    if not problems:
        problems += cycle_problems(prompt)
    if problems:
        raise WorkflowError(problems)
    needed = ancestors(prompt, outputs)
    problems = [
        problem for node_id in prompt if node_id in needed for problem in value_problems(prompt, specs, node_id)
    ]
    if not problems:  # the nodes' own checks may rely on values of the right type
        problems = [p for i in prompt if i in needed for p in own_problems(prompt, classes, specs, i)]
    if problems:
        raise WorkflowError(problems)
    return outputs


def check_types(prompt: Prompt, specs: Mapping[str, NodeSpec]) -> None:
    """Raise WorkflowError for nodes that are not known; nothing else can be said of such a graph."""
    problems = []
    for node_id, node in prompt.items():
        class_type = node["class_type"]
        if class_type in specs:
            continue
        if str(class_type).startswith(("workflow/", "workflow>")):
            problems.append(f"{node_label(prompt, node_id)} is a group node; open the file in ComfyUI and ungroup it")
        else:
            problems.append(
                f"{node_label(prompt, node_id)} is of the unknown type {class_type!r}{nearest(class_type, specs)}"
            )
    if problems:
        raise WorkflowError(problems)


def link_problems(prompt: Prompt, specs: Mapping[str, NodeSpec], node_id: str) -> Iterator[str]:
    """Unknown input names, and links that lead nowhere or carry another type."""
    node, label = prompt[node_id], node_label(prompt, node_id)
    known = specs[node["class_type"]].inputs
    for name, value in node["inputs"].items():
        if name not in known:
            yield f"{label} has no input {name!r}{nearest(name, known)}"
            continue
        if not is_link(value):
            continue
        source, slot = value
        if source not in prompt:
            yield f"{label}, input {name!r}, is linked to node {source}, which does not exist"
            continue
        given = specs[prompt[source]["class_type"]].outputs
        from_label = node_label(prompt, source)
        if not 0 <= slot < len(given):
            count = f"{len(given)} output{'s' * (len(given) != 1)}" if given else "no outputs"
            yield f"{label}, input {name!r}, is linked to output {slot} of {from_label}, which has {count}"
        elif not types_match(given[slot], known[name].type):
            yield f"{label}, input {name!r}, takes {known[name].type}, but {from_label} gives {given[slot]}"


def types_match(given: str, taken: str) -> bool:
    """The host's rule: equal, or overlapping where several are listed; `*` goes with everything."""
    return "*" in (given, taken) or bool(set(given.split(",")) & set(taken.split(",")))


def cycle_problems(prompt: Prompt) -> Iterator[str]:
    """One sentence for the first cycle, with the nodes on it in order."""
    finished: set[str] = set()
    for root in prompt:
        trail: list[str] = []
        steps = [iter([root])]
        while steps:
            node_id = next(steps[-1], None)
            if node_id is None:
                steps.pop()
                if trail:
                    finished.add(trail.pop())
            elif node_id in trail:
                circle = [*trail[trail.index(node_id) :], node_id]
                yield "the links form a cycle: " + " needs ".join(node_label(prompt, i) for i in circle)
                return
            elif node_id not in finished:
                trail.append(node_id)
                steps.append(sources(prompt, node_id))


def sources(prompt: Prompt, node_id: str) -> Iterator[str]:
    """The nodes that a node is linked to."""
    return (value[0] for value in prompt[node_id]["inputs"].values() if is_link(value))


def ancestors(prompt: Prompt, outputs: list[str]) -> set[str]:
    """The output nodes and all that they need."""
    needed: set[str] = set()
    waiting = list(outputs)
    while waiting:
        node_id = waiting.pop()
        if node_id not in needed:
            needed.add(node_id)
            waiting.extend(sources(prompt, node_id))
    return needed


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
        if wanted.type not in ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"):
            yield f"{label}, input {name!r}, needs a link that gives {wanted.type}, not the value {shown(value)}"
            continue
        try:
            node["inputs"][name] = convert_value(value, wanted.type)
        except (ValueError, TypeError, OverflowError):
            yield f"{label}, input {name!r}, takes {KIND_WORDS[wanted.type]}, not {shown(value)}"


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
        verdict = check(**named)
        if verdict is not True:
            yield f"{label}: {verdict}" if verdict else f"{label} refuses its values"


KIND_WORDS = {
    "INT": "a whole number",
    "FLOAT": "a number",
    "STRING": "text",
    "BOOLEAN": "true or false",
    "COMBO": "one of its choices",
}


def convert_value(value: Any, kind: str) -> Any:
    """Bring a literal to the type of its input; ValueError or TypeError when it has no such meaning."""
    if kind == "BOOLEAN":
        if isinstance(value, str):
            word = value.strip().lower()
            if word not in TRUE_WORDS + FALSE_WORDS:
                raise ValueError(value)
            return word in TRUE_WORDS
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
        if not spec.choices:
            yield f"is {shown(value)}, but there is nothing to choose from; `pyramid-video models` lists the folders"
        else:
            count = len(spec.choices)
            yield f"is {shown(value)}, which is not one of its {count} choices{nearest(value, spec.choices)}"


def shown(value: Any) -> str:
    """A value as a sentence can hold it."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
