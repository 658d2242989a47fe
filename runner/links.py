"""The links of a graph: whether they lead somewhere, what travels on them, and which nodes need which."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from .errors import LONGEST_NAME, WorkflowError, first, nearest, node_label, shown
from .specs import NodeSpec
from .workflow import Prompt, is_link

HOST_TYPES = "COMFY_"  # how the host's own types for "decided elsewhere" begin, as COMFY_MATCHTYPE_V3
MISSPELT = 0.7  # likeness of two names from which on one is taken for the other: `sead` and `seed` have 0.75


def check_links(prompt: Prompt, specs: Mapping[str, NodeSpec]) -> None:
    """Raise WorkflowError for misspelt input names, links that lead nowhere or carry another type, and cycles."""
    problems = first(problem for node_id in prompt for problem in link_problems(prompt, specs, node_id))
    if problems := problems or list(cycle_problems(prompt)):
        raise WorkflowError(problems)


def link_problems(prompt: Prompt, specs: Mapping[str, NodeSpec], node_id: str) -> Iterator[str]:
    """What is wrong with the names of a node's inputs and with their links."""
    node, label = prompt[node_id], node_label(prompt, node_id)
    spec = specs[node["class_type"]]
    for name, value in node["inputs"].items():
        if name not in spec.inputs and is_mistake(name, node["inputs"], spec):
            yield f"{label} has no input {shown(name)}{nearest(name, spec.inputs)}"
            continue
        if not is_link(value):
            continue
        source, slot = value
        if source not in prompt:
            yield f"{label}, input {shown(name)}, is linked to node {source[:LONGEST_NAME]}, which does not exist"
            continue
        origin, from_label = specs[prompt[source]["class_type"]], node_label(prompt, source)
        taken = spec.inputs[name].type if name in spec.inputs else "*"
        if not has_output(origin, slot):
            count = len(origin.outputs)
            words = f"{count} output{'s' * (count != 1)}" if count else "no outputs"
            yield f"{label}, input {shown(name)}, is linked to output {slot} of {from_label}, which has {words}"
        elif slot < len(origin.outputs) and not types_match(origin.outputs[slot], taken):
            yield f"{label}, input {shown(name)}, takes {taken}, but {from_label} gives {origin.outputs[slot]}"


def is_mistake(name: str, given: Mapping[str, Any], spec: NodeSpec) -> bool:
    """Whether a name that is not among a node's inputs was meant to be one of them.

    A node that is not closed may have rows that grow (`rows.row0`, `image_3`) or hold values for the editor. There a
    name is a mistake when it is nearly that of an input which the workflow leaves out, and not by its number alone.
    """
    if spec.is_closed:
        return True
    left_out = [known for known in spec.inputs if known not in given]
    near = get_close_matches(name[:LONGEST_NAME], left_out, n=1, cutoff=MISSPELT)
    return bool(near) and "." not in name and without_digits(near[0]) != without_digits(name)


def without_digits(name: str) -> str:
    return re.sub(r"\d", "", name)


def has_output(spec: NodeSpec, slot: int) -> bool:
    """Whether a node has an output of that number; where anything comes out of one not closed, outputs may grow."""
    grows = not spec.is_closed and any(map(is_any, spec.outputs))
    return 0 <= slot and (slot < len(spec.outputs) or grows)


def types_match(given: str, taken: str) -> bool:
    """The host's rule: equal, or overlapping where several are listed; `*` goes with everything."""
    if is_any(given) or is_any(taken):
        return True
    return not {kind.strip() for kind in given.split(",")}.isdisjoint(kind.strip() for kind in taken.split(","))


def is_any(kind: str) -> bool:
    """Whether a type stands for whatever is linked."""
    return kind == "*" or kind.startswith(HOST_TYPES)


def cycle_problems(prompt: Prompt) -> Iterator[str]:
    """One sentence for the first cycle, with the nodes on it in order."""
    finished: set[str] = set()
    for root in prompt:
        trail: dict[str, None] = {}  # in order
        steps = [iter([root])]
        while steps:
            node_id = next(steps[-1], None)
            if node_id is None:
                steps.pop()
                if trail:
                    finished.add(trail.popitem()[0])
            elif node_id in trail:
                passed = list(trail)
                circle = [*passed[passed.index(node_id) :], node_id]
                yield "the links form a cycle: " + " needs ".join(node_label(prompt, i) for i in circle)
                return
            elif node_id not in finished:
                trail[node_id] = None
                steps.append(sources(prompt, node_id))


def sources(prompt: Prompt, node_id: str) -> Iterator[str]:
    """The nodes that a node is linked to."""
    return (value[0] for value in prompt[node_id]["inputs"].values() if is_link(value))


def needed_order(prompt: Prompt, outputs: Iterable[str]) -> Iterator[str]:
    """`outputs` and all that they need, each node once, what is needed first."""
    seen: set[str] = set()
    for output in outputs:
        steps = [] if output in seen else [(output, sources(prompt, output))]
        seen.add(output)
        while steps:
            node_id, rest = steps[-1]
            source = next(rest, None)
            if source is None:
                steps.pop()
                yield node_id
            elif source not in seen:
                seen.add(source)
                steps.append((source, sources(prompt, source)))
