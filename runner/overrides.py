"""Reads and changes the settings of a workflow: --prompt, --negative, --seed, --set, and the lines of --prompts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from .errors import MOST_LISTED, RunnerError, nearest_or_known, node_label
from .specs import NodeSpec
from .workflow import Place, Workflow, is_link

SEED_NAMES = ("seed", "noise_seed")
TEXT_NAMES = ("text", "prompt", "value")  # of the inputs that hold a prompt, most telling first
LENGTHS, LENGTH_UNIT = ("seconds", "frames"), "length_unit"  # two inputs, and the one that says which of them counts
Given = tuple[str, set[Place]]  # an option, and the inputs that it has set
SEE_SHOW = "`pyramid-video show` lists them"


def set_text(workflow: Workflow, specs: Mapping[str, NodeSpec], side: str, text: str) -> None:
    """Set the prompt that feeds every `positive` or `negative` input, wherever upstream it is written."""
    places = side_places(workflow, specs, side)
    option = "--prompt" if side == "positive" else "--negative"
    if not places:
        raise RunnerError(f"{option}: no node with a text feeds an input called {side!r}; use --set NODE.INPUT=TEXT")
    for node_id, name in places:
        workflow.set_value(node_id, name, text)


def get_text(workflow: Workflow, specs: Mapping[str, NodeSpec]) -> str | None:
    """The prompt of a workflow: the first one, where it has several."""
    texts = [workflow.prompt[node_id]["inputs"][name] for node_id, name in side_places(workflow, specs, "positive")]
    return texts[0] if texts else None


def side_places(workflow: Workflow, specs: Mapping[str, NodeSpec], side: str) -> list[tuple[str, str]]:
    """Where the texts are written that feed the inputs called `side`, each once."""
    starts = [node["inputs"][side][0] for node in workflow.prompt.values() if is_link(node.get("inputs", {}).get(side))]
    return list(dict.fromkeys(place for start in starts for place in text_places(workflow, specs, start)))


def text_places(workflow: Workflow, specs: Mapping[str, NodeSpec], start: str) -> Iterator[tuple[str, str]]:
    """The first texts on every way upstream from `start`."""
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        node_id = waiting.pop()
        if node_id in seen or node_id not in workflow.prompt:
            continue
        seen.add(node_id)
        node = workflow.prompt[node_id]
        name = text_input(node, specs.get(node["class_type"]))
        if name is None:
            waiting += [value[0] for value in node["inputs"].values() if is_link(value)]
        elif is_link(node["inputs"][name]):
            waiting.append(node["inputs"][name][0])
        else:
            yield node_id, name


def text_input(node: dict[str, Any], spec: NodeSpec | None) -> str | None:
    """The input of a node that holds a prompt, if it has one; names of files and prefixes are none."""
    for name in TEXT_NAMES:
        value = node["inputs"].get(name)
        known = spec is None or (name in spec.inputs and spec.inputs[name].type == "STRING")
        if known and (isinstance(value, str) or is_link(value)):
            return name
    return None


def set_seed(workflow: Workflow, seed: int) -> None:
    """Set every seed of the workflow."""
    found = seed_places(workflow)
    if not found:
        raise RunnerError("--seed: no node of this workflow has a seed")
    for node_id, name in found:
        assign(workflow, node_id, name, seed)


def get_seed(workflow: Workflow) -> int | None:
    """The seed of a workflow: the first one, where it has several; None without one."""
    places = (typed_in(workflow, *place) for place in seed_places(workflow))
    values = (workflow.prompt[node_id]["inputs"].get(name) for node_id, name in places)
    return next((value for value in values if isinstance(value, int)), None)


def seed_places(workflow: Workflow) -> list[tuple[str, str]]:
    return [
        (node_id, name) for node_id, node in workflow.prompt.items() for name in node["inputs"] if name in SEED_NAMES
    ]


def set_input(workflow: Workflow, specs: Mapping[str, NodeSpec], assignment: str) -> None:
    """Carry out one `NODE.INPUT=VALUE`, or `INPUT=VALUE` where one node has that input; see `find_input`."""
    target, equals, text = assignment.partition("=")
    wanted, _, name = target.rpartition(".")
    if not (equals and name):
        raise RunnerError(f"--set takes NODE.INPUT=VALUE or INPUT=VALUE, not {assignment!r}")
    try:
        node_id, kind = find_input(workflow, specs, wanted, name)
    except RunnerError as error:
        raise RunnerError(f"--set: {error}") from None
    assign(workflow, node_id, name, text if kind == "STRING" else parse(text))


def find_input(workflow: Workflow, specs: Mapping[str, NodeSpec], wanted: str, name: str) -> tuple[str, str]:
    """The id of the node that `wanted` names and that has an input `name`, and the type of that input.

    `wanted` is an id, a title or a type, in capitals or not; nothing names every node. RunnerError unless it is one.
    Of several, those that get it over a wire do not count, and those that share a primitive node are one.
    """
    return Names(workflow, specs).find(wanted, name)


class Names:
    """By which names the nodes of a workflow are called, for whoever looks up many."""

    def __init__(self, workflow: Workflow, specs: Mapping[str, NodeSpec]) -> None:
        self.workflow, self.specs = workflow, specs
        self.titled: dict[str, list[str]] = {}  # by titles, and by types where there is none
        self.known: dict[str, dict[str, None]] = {}  # by any of their names, in order
        for node_id, node in workflow.prompt.items():
            names = [name.lower() for name in names_of(node, specs)]
            for name in names[:1]:  # a damaged node may have none
                self.titled.setdefault(name, []).append(node_id)
            for name in names:
                self.known.setdefault(name, {})[node_id] = None

    def called(self, wanted: str) -> list[str]:
        """The nodes of a title, else those of a type or a type's usual name; all for no name at all."""
        name = wanted.strip().lower()
        if not name:
            return list(self.workflow.prompt)
        return self.titled.get(name) or list(self.known.get(name, ()))

    def find(self, wanted: str, name: str) -> tuple[str, str]:
        """As `find_input`."""
        workflow, specs, prompt = self.workflow, self.specs, self.workflow.prompt
        named = [wanted] if wanted in prompt else self.called(wanted)
        if not named:
            hint = nearest_or_known(wanted, all_names(workflow, specs), SEE_SHOW)
            raise RunnerError(f"there is no node {wanted!r}{hint}")
        having = [node_id for node_id in named if name in inputs_of(prompt[node_id], specs)]
        if len(having) > 1:
            owners: dict[Place, str] = {}
            for node_id in having:
                place = typed_in(workflow, node_id, name)
                if not is_link(prompt[place[0]]["inputs"].get(place[1])):
                    owners.setdefault(place, node_id)
            having = list(owners.values()) or having
        if len(having) > 1:
            which = ", ".join(node_label(prompt, node_id)[len("node ") :] for node_id in having[:MOST_LISTED])
            raise RunnerError(f"{name!r} is an input of {len(having)} nodes; name one by its id: {which}")
        if not having:
            where = node_label(prompt, named[0]) if wanted else "the workflow"
            known = sorted({known for node_id in named for known in inputs_of(prompt[node_id], specs)})
            hint = nearest_or_known(name, known, SEE_SHOW)
            raise RunnerError(f"{where} has no input {name!r}{hint}")
        spec = specs.get(prompt[having[0]]["class_type"])
        return having[0], spec.inputs[name].type if spec and name in spec.inputs else "*"


def inputs_of(node: dict[str, Any], specs: Mapping[str, NodeSpec]) -> set[str]:
    spec = specs.get(node["class_type"])
    return {*(spec.inputs if spec else ()), *node["inputs"]}


def names_of(node: dict[str, Any], specs: Mapping[str, NodeSpec]) -> list[str]:
    spec = specs.get(node["class_type"])
    title = (node.get("_meta") or {}).get("title")
    return [name for name in (title, node["class_type"], spec and spec.display_name) if name]


def all_names(workflow: Workflow, specs: Mapping[str, NodeSpec]) -> set[str]:
    return {*workflow.prompt, *(name for node in workflow.prompt.values() for name in names_of(node, specs))}


def assign(workflow: Workflow, node_id: str, name: str, value: Any) -> None:
    """Set a value where it is typed in."""
    workflow.set_value(*typed_in(workflow, node_id, name), value)


def typed_in(workflow: Workflow, node_id: str, name: str) -> tuple[str, str]:
    """Where a value is typed in: behind a link to a primitive node, that node's own value."""
    passed: set[str] = set()
    while is_link(current := workflow.prompt[node_id]["inputs"].get(name)) and node_id not in passed:
        source = workflow.prompt.get(current[0])
        if source is None or not source["class_type"].startswith("Primitive") or "value" not in source["inputs"]:
            break
        passed.add(node_id)
        node_id, name = current[0], "value"
    return node_id, name


def carry_out(workflow: Workflow, specs: Mapping[str, NodeSpec], assignments: Sequence[str]) -> list[Given]:
    """Carry out every --set, and say what each has set."""
    return [
        (f"--set {text.partition('=')[0]}", workflow.places_set(partial(set_input, workflow, specs, text)))
        for text in assignments
    ]


def refuse_unused(workflow: Workflow, given: Sequence[Given], sets: Sequence[Given]) -> None:
    """Raise RunnerError for an option that changes nothing, by what each has set; of two `sets` the later one wins."""
    for option, places in given:
        later = [(other, theirs & places) for other, theirs in sets if theirs & places]
        if places and places <= {place for _, theirs in later for place in theirs}:
            others, verb = " and ".join(other for other, _ in later), "sets" if len(later) == 1 else "set"
            raise RunnerError(f"{option} has no effect: {others} {verb} the same")
    for option, places in (*given, *sets):
        for node_id, name in sorted(places):
            unit = workflow.prompt[node_id]["inputs"].get(LENGTH_UNIT)
            if name in LENGTHS and unit in LENGTHS and unit != name:
                where = node_label(workflow.prompt, node_id)
                raise RunnerError(
                    f"{option} has no effect: {LENGTH_UNIT} of {where} is {unit!r}; for {name} it has to be {name!r}"
                )


def parse(text: str) -> Any:
    """JSON where it is JSON, else the text itself."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
