"""What a graph holds that is of other packs, newer versions or other systems: fitted in where that changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from ..models.near_names import near_name
from .errors import LONGEST_NAME, MOST_LISTED, WorkflowError, nearest, node_label, shown
from .links import MISSPELT
from .registry import is_core
from .specs import InputSpec, NodeSpec
from .workflow import Prompt, Workflow, is_link

# Inputs that core nodes of newer ComfyUI have, and the values of them that mean what happens here anyway.
NEWER_INPUTS: Mapping[tuple[str, str], tuple[Any, ...]] = {
    ("CreateVideo", "bit_depth"): (8,),
    ("SaveVideo", "format.codec"): ("auto", "h264"),
    ("SaveVideo", "format.codec.encoding"): ("auto",),
    ("SaveVideo", "codec.encoding"): ("auto",),
}
# What does the work of much used nodes of other packs.
INSTEAD = {
    "VHS_VideoCombine": "Create Video and Save Video",
    "VHS_LoadVideo": "Load Video and Get Video Components",
    "VHS_LoadVideoPath": "Load Video and Get Video Components",
    "VHS_LoadVideoFFmpeg": "Load Video and Get Video Components",
    "VHS_LoadImages": "Load Image",
    "VAEEncodeTiled": "VAE Encode",
}
CORE_PACK = "comfy-core"  # as the editor calls ComfyUI's own nodes
SAME_TYPE = 0.85  # likeness of a misspelt type and the one that is meant


def unknown_type(prompt: Prompt, node_id: str, specs: Mapping[str, NodeSpec], here: bool) -> str:
    """What is said of a node whose type is not known: what does its work, its pack, or the type that is meant.

    `here` is true where the graph is to run without ComfyUI, which has many nodes that nothing here can play.
    """
    class_type = prompt[node_id]["class_type"]
    label = node_label(prompt, node_id)
    if class_type.startswith(("workflow/", "workflow>")):
        return f"{label} is a group node; open the file in ComfyUI and ungroup it"
    unknown = f"{label} is of the unknown type {shown(class_type)}"
    pack = (prompt[node_id].get("_meta") or {}).get("pack")
    if class_type in INSTEAD:
        return f"{unknown}; in its place use {INSTEAD[class_type]}, or --server with a ComfyUI that has it"
    if pack and pack != CORE_PACK:
        return f"{unknown} of the pack {shown(pack)}; --server runs it on a ComfyUI that has this pack"
    if here and not is_misspelt(class_type, specs):
        return (
            f"{label} is of the type {shown(class_type)}, which needs ComfyUI; open the workflow there or use --server"
        )
    return unknown + nearest(class_type, specs)


def is_misspelt(class_type: str, specs: Mapping[str, NodeSpec]) -> bool:
    """Whether a type is one of `specs` but for a letter or two; ComfyUI's UNETLoader is no misspelt VAELoader."""
    near = near_name(class_type, specs)
    return near is not None and bool(get_close_matches(class_type.lower(), [near.lower()], cutoff=SAME_TYPE))


def check_switched_on(workflow: Workflow, specs: Mapping[str, NodeSpec]) -> None:
    """Raise WorkflowError where nothing is written because nodes are muted or bypassed."""

    def writes(class_type: str) -> bool:
        return class_type not in specs or specs[class_type].is_output  # of an unknown one nobody knows

    off = [label for label, class_type in workflow.off.items() if writes(class_type)]
    if not workflow.prompt and workflow.off:
        raise WorkflowError("the workflow runs nothing: all of its nodes are muted or bypassed in the editor")
    if off and not any(writes(node["class_type"]) for node in workflow.prompt.values()):
        which, are = ", ".join(off[:MOST_LISTED]), "is" if len(off) == 1 else "are"
        raise WorkflowError(f"the workflow writes nothing: {which} {are} muted or bypassed; switch on what is to write")


def fit_in(workflow: Workflow, specs: Mapping[str, NodeSpec]) -> None:
    """Write the names of models and files as they are listed here: Windows and others part folders differently."""
    for node_id, node in workflow.prompt.items():
        spec = specs.get(node["class_type"])
        for name, input_ in spec.inputs.items() if spec else ():
            value = node["inputs"].get(name)
            if isinstance(value, str) and (same := as_listed(value, input_)) != value:
                workflow.set_value(node_id, name, same)


def as_listed(value: str, input_: InputSpec) -> str:
    """The choice that is the same path as a value; the value itself where there is none or it is a choice."""
    if input_.choices is None or value in input_.choices or not ("/" in value or "\\" in value):
        return value
    plain = value.replace("\\", "/")
    return next((str(choice) for choice in input_.choices if str(choice).replace("\\", "/") == plain), value)


def pass_over_newer(prompt: Prompt, specs: Mapping[str, NodeSpec]) -> list[str]:
    """Leave out what core nodes of newer ComfyUI take and those described here do not; returns a note for each.

    WorkflowError where such a value means what cannot be done here. Links and names that are nearly one that is left
    open stay: they are mistakes.
    """
    notes, problems = [], []
    for node_id, node in prompt.items():
        spec = specs.get(node["class_type"])
        if spec is None or not spec.is_closed or not is_core(spec.class_type):
            continue
        for name in list(newer_inputs(node, spec)):
            value = node["inputs"][name]
            same = NEWER_INPUTS.get((node["class_type"], name))
            where = f"{node_label(prompt, node_id)}, input {shown(name)}"
            if same is not None and value not in same:
                only = " or ".join(map(repr, same))
                problems.append(f"{where}, is {shown(value)}; here it can only be {only} (a newer ComfyUI can do more)")
            elif same is None:
                notes.append(f"{where}, is of another version of ComfyUI and not known here; it was passed over")
            del node["inputs"][name]
    if problems:
        raise WorkflowError(problems)
    return notes


def newer_inputs(node: dict[str, Any], spec: NodeSpec) -> Iterator[str]:
    """The inputs of a node with a value that its kind does not know and that are no misspelt ones of it."""
    left_out = [name for name in spec.inputs if name not in node["inputs"]]
    for name, value in node["inputs"].items():
        known = (node["class_type"], name) in NEWER_INPUTS
        near = get_close_matches(name[:LONGEST_NAME], left_out, n=1, cutoff=MISSPELT)
        if name not in spec.inputs and (known or not (near or is_link(value))):
            yield name
