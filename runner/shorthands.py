"""The options for what is changed most, whatever the blocks are called: --seconds, --size, --steps and --lora."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from .errors import RunnerError
from .overrides import assign
from .specs import NodeSpec
from .workflow import Workflow

SAMPLING = ("LATENT", "SIGMAS", "PYRAMID_STAGES")  # a block with one of these among its outputs draws a clip
SIDE = r"-?[0-9]{1,20}"  # the check of the graph says which are too small or too large
LORA_LOADER = "LoraLoaderModelOnly"
LORA_NAME, LORA_STRENGTH = "lora_name", "strength_model"


def set_seconds(workflow: Workflow, specs: Mapping[str, NodeSpec], seconds: float) -> None:
    """Set how long the clip is."""
    for node_id in places_of(workflow, specs, ("seconds",), "--seconds"):
        assign(workflow, node_id, "seconds", seconds)
        if "length_unit" in workflow.prompt[node_id]["inputs"]:
            assign(workflow, node_id, "length_unit", "seconds")


def set_size(workflow: Workflow, specs: Mapping[str, NodeSpec], text: str) -> None:
    """Set width and height of the clip, given as `128x96`."""
    found = re.fullmatch(rf"({SIDE})\s*[x×]\s*({SIDE})", text.strip().lower())
    if not found:
        raise RunnerError(f"--size takes WIDTHxHEIGHT such as 128x128, not {text!r}")
    sides = {"width": int(found[1]), "height": int(found[2])}
    for node_id, names in places_of(workflow, specs, tuple(sides), "--size").items():
        for name in names:
            assign(workflow, node_id, name, sides[name])


def set_steps(workflow: Workflow, specs: Mapping[str, NodeSpec], steps: int) -> None:
    """Set the steps of the samplers; a pyramid's later frames keep their part of the steps of its first frame."""
    for node_id, (name, *_) in places_of(workflow, specs, ("steps", "first_steps"), "--steps").items():
        inputs = workflow.prompt[node_id]["inputs"]
        before, later = inputs[name], inputs.get("video_steps")
        assign(workflow, node_id, name, steps)
        if isinstance(later, int) and isinstance(before, int) and before > 0:
            assign(workflow, node_id, "video_steps", max(1, round(later * steps / before)))


def places_of(
    workflow: Workflow, specs: Mapping[str, NodeSpec], names: Sequence[str], option: str
) -> dict[str, list[str]]:
    """The nodes that draw, with those of `names` that they have; RunnerError when no node has any."""
    found: dict[str, list[str]] = {}
    for node_id, name in drawing_places(workflow, specs, names):
        found.setdefault(node_id, []).append(name)
    if not found:
        off = [label for label, kind in workflow.off.items() if kind in specs and {*names} & {*specs[kind].inputs}]
        hint = f"{off[0]} is muted or bypassed" if off else "`pyramid-video show` lists what it has"
        raise RunnerError(f"{option}: no block of this workflow has it; {hint}")
    return found


def drawing_places(workflow: Workflow, specs: Mapping[str, NodeSpec], names: Sequence[str]) -> list[tuple[str, str]]:
    """Where blocks that draw a clip have one of the inputs `names`."""
    return [
        (node_id, name)
        for node_id, node in workflow.prompt.items()
        if (spec := specs.get(node["class_type"])) and any(kind in SAMPLING for kind in spec.outputs)
        for name in names
        if name in node["inputs"]
    ]


def use_loras(workflow: Workflow, specs: Mapping[str, NodeSpec], wanted: Sequence[str]) -> None:
    """Use LoRAs, each given as `NAME` or `NAME:STRENGTH`: in the workflow's own LoRA blocks, then in new ones."""
    loaders = [i for i, node in workflow.prompt.items() if LORA_NAME in node["inputs"]]
    for place, text in enumerate(wanted):
        name, strength = parse_lora(text)
        known, _, word = text.rpartition(":")
        if strength is None and is_listed(known, specs) and not is_listed(text, specs):
            raise RunnerError(f"--lora {text}: {word!r} is not a number; a strength is one, as in {known}:0.8")
        node_id = loaders[place] if place < len(loaders) else add_lora(workflow, specs)
        assign(workflow, node_id, LORA_NAME, full_name(name, specs))
        if strength is not None:
            assign(workflow, node_id, LORA_STRENGTH, strength)


def parse_lora(text: str) -> tuple[str, float | None]:
    """Name and strength of a LoRA."""
    name, colon, strength = text.rpartition(":")
    try:
        return (name, float(strength)) if colon and name else (text, None)
    except ValueError:
        return text, None


def full_name(name: str, specs: Mapping[str, NodeSpec]) -> str:
    """A name as it is listed: its ending may be left out."""
    return next((choice for choice in listed_loras(specs) if choice in (name, f"{name}.safetensors")), name)


def is_listed(name: str, specs: Mapping[str, NodeSpec]) -> bool:
    return full_name(name, specs) in listed_loras(specs)


def listed_loras(specs: Mapping[str, NodeSpec]) -> tuple[str, ...]:
    listed = specs[LORA_LOADER].inputs[LORA_NAME].choices or () if LORA_LOADER in specs else ()
    return tuple(map(str, listed))


def add_lora(workflow: Workflow, specs: Mapping[str, NodeSpec]) -> str:
    """Put a LoRA block behind the block that opens the model; returns its id. The UI form has no place for it."""
    sources = list(model_sources(workflow, specs))
    if LORA_LOADER not in specs or len(sources) != 1:
        raise RunnerError(f"--lora: the workflow opens {len(sources)} models, so put a {LORA_LOADER} where it belongs")
    source = sources[0]
    node_id = next(str(i) for i in range(1, len(workflow.prompt) + 2) if str(i) not in workflow.prompt)
    for node in workflow.prompt.values():
        for name, value in node["inputs"].items():
            if value == list(source):
                node["inputs"][name] = [node_id, 0]
    inputs = {"model": list(source), LORA_NAME: "", LORA_STRENGTH: 1.0}
    workflow.prompt[node_id] = {"class_type": LORA_LOADER, "inputs": inputs, "_meta": {"title": "LoRA"}}
    workflow.ui = None
    return node_id


def model_sources(workflow: Workflow, specs: Mapping[str, NodeSpec]) -> Iterator[tuple[str, int]]:
    """The outputs that give a model, of blocks that are given none."""
    for node_id, node in workflow.prompt.items():
        spec = specs.get(node["class_type"])
        if spec is None or any(input_.type == "MODEL" for input_ in spec.inputs.values()):
            continue
        yield from ((node_id, slot) for slot, kind in enumerate(spec.outputs) if kind == "MODEL")
