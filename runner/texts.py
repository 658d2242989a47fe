"""What the editor makes of the texts of a graph when it queues it.

In a prompt, `{a|b}` is one of its choices and comments are gone; in the name of a file, `%date:yyyy-MM-dd%` is the
date and `%Node.input%` a value of the graph.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from .errors import WorkflowError, node_label
from .overrides import get_seed
from .specs import NodeSpec
from .workflow import Workflow, is_link

LONGEST_NEST = 100  # choices in choices
LINE_END = re.compile("[\n\r\u2028\u2029]")
ESCAPED = re.compile(r"\\([{}|])")
TOKEN = re.compile("%([^%]+)%")
DATE_PART = re.compile("yyyy|yyy|yy|dd?|MM?|hh?|mm?|ss?")
UNFIT_FOR_NAMES = re.compile('[/?<>\\\\:*|"\x00-\x1f\x7f]')
# The core nodes whose names of files the editor fills in.
SAVERS = frozenset(
    (
        "SaveImage SaveImageAdvanced SaveSVGNode SaveVideo SaveAnimatedWEBP SaveWEBM SaveAudio SaveAudioMP3 "
        "SaveAudioOpus SaveAudioAdvanced SaveGLB Save3DAdvanced SaveGaussianSplat SavePointCloud SaveAnimatedPNG "
        "CLIPSave VAESave ModelSave LoraSave SaveLatent"
    ).split()
)


def choose_texts(workflow: Workflow, specs: Mapping[str, NodeSpec]) -> None:
    """Make the choices of all prompts and take their comments out, in the graph that runs.

    The seed of the workflow decides, so that the same seed makes the same clip.
    """
    seed = get_seed(workflow) or 0
    for node_id, node in workflow.prompt.items():
        spec = specs.get(node["class_type"])
        for name, input_ in spec.inputs.items() if spec else ():
            text = node["inputs"].get(name)
            literal = (node_id, name) in workflow.literal
            if not input_.options.get("dynamicPrompts") or literal or not isinstance(text, str):
                continue
            try:
                chosen = choose(text, random.Random(f"{seed} {node_id} {name}"))
            except ValueError as error:
                raise WorkflowError(f"{node_label(workflow.prompt, node_id)}, input {name!r}: {error}") from error
            node["inputs"][name] = chosen
            workflow.written[node_id, name] = text


def choose(text: str, chance: random.Random, depth: int = 0) -> str:
    """`text` without comments, with one of the choices of each `{a|b}`; `\\{`, `\\|` and `\\}` are these letters."""
    if depth > LONGEST_NEST:
        raise ValueError(f"choices lie in each other more than {LONGEST_NEST} deep")
    text = without_comments(text)
    made, at = [], 0
    while at < len(text):
        if text[at] == "{":
            choices, at = split_choices(text, at + 1)
            made.append(choose(chance.choice(choices), chance, depth + 1))
        else:
            size = 2 if text[at] == "\\" else 1
            made.append(text[at : at + size])
            at += size
    return ESCAPED.sub(r"\1", "".join(made))


def without_comments(text: str) -> str:
    """`text` without `/* ... */` and without `//` and what follows it on its line."""
    kept, begin, at = [], 0, text.find("/")
    last_end = text.rfind("*/")
    while at >= 0:
        if text.startswith("/*", at) and at + 2 <= last_end:
            end = text.index("*/", at + 2) + 2
        elif text.startswith("//", at):
            found = LINE_END.search(text, at)
            end = found.start() if found else len(text)
        else:
            at = text.find("/", at + 1)
            continue
        kept.append(text[begin:at])
        begin, at = end, text.find("/", end)
    return "".join([*kept, text[begin:]])


def split_choices(text: str, at: int) -> tuple[list[str], int]:
    """The choices that begin at `at`, as they are written, and where the text goes on; a `}` may be missing."""
    choices, depth, begin = [], 0, at
    while at < len(text):
        letter = text[at]
        if letter == "{":
            depth += 1
        elif letter in "|}" and not depth:
            choices.append(text[begin:at])
            begin = at + 1
            if letter == "}":
                return choices, begin
        elif letter == "}":
            depth -= 1
        at += 2 if letter == "\\" else 1
    return [*choices, text[begin:]], len(text)


def fill_names(workflow: Workflow, now: datetime | None = None) -> None:
    """Fill in the names of files, in the graph that runs; the other form keeps them as they were written."""
    now = now or datetime.now()
    nodes = nodes_by_name(workflow)
    for node in workflow.prompt.values():
        prefix = node["inputs"].get("filename_prefix")
        if node["class_type"] in SAVERS and isinstance(prefix, str):
            node["inputs"]["filename_prefix"] = TOKEN.sub(lambda token: filled(token, workflow, nodes, now), prefix)


def nodes_by_name(workflow: Workflow) -> dict[str, str]:
    """The first node of each name: of what files call it, else of its title."""
    nodes = list(reversed(workflow.prompt.items()))
    titles = {title: node_id for node_id, node in nodes if (title := (node.get("_meta") or {}).get("title"))}
    return titles | {workflow.names.get(node_id, node["class_type"]): node_id for node_id, node in nodes}


def filled(token: re.Match[str], workflow: Workflow, nodes: Mapping[str, str], now: datetime) -> str:
    """What a `%...%` stands for; itself where it means nothing to the editor, as ComfyUI knows more of them."""
    parts = token[1].split(".")
    if len(parts) != 2:
        return date_text(parts[0][5:], now) if parts[0].startswith("date:") else token[0]
    called, name = parts
    inputs = workflow.prompt[nodes[called]]["inputs"] if called in nodes else {}
    if name not in inputs or is_link(value := inputs[name]):
        return token[0]
    return UNFIT_FOR_NAMES.sub("_", value_text(workflow.written.get((nodes[called], name), value)))


def value_text(value: Any) -> str:
    """A value as JavaScript writes it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def date_text(pattern: str, now: datetime) -> str:
    """A date by the letters of the editor: `yyyy`, `yy`, and of one or two letters month `M`, `d`, `h`, `m`, `s`."""
    parts = {"d": now.day, "M": now.month, "h": now.hour, "m": now.minute, "s": now.second}

    def part(found: re.Match[str]) -> str:
        letters = found[0]
        if letters == "yyy":
            return letters
        return str(now.year)[-len(letters) :] if letters[0] == "y" else f"{parts[letters[0]]:0{len(letters)}}"

    return DATE_PART.sub(part, pattern)
