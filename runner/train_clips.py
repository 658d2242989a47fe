"""`pyramid-video train FOLDER`: a LoRA, a model or a VAE from a folder of your own clips.

The workflow `train_<kind>` holds the settings, so what is trained here is what the same graph trains in ComfyUI.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..training.presets import NOISY_CLIPS
from .errors import RunnerError, node_label
from .folders import a_name, a_path, check_writable
from .numbers import a_count

if TYPE_CHECKING:
    from .execute import Outcome
    from .overrides import Given
    from .specs import NodeSpec
    from .workflow import Place, Workflow

KINDS = ("lora", "flow", "diffusion", "gan", "pyramid", "vae")
DATASETS = ("PyramidVideoFolderDataset", "PyramidVideoAnimationDataset")
SHAPE = ("size", "frames", "fps")  # of the clips, under the same names in both datasets
MULTIPLE = "multiple"  # of the sides, in the first of them; a size that is asked for has the usual one, or squares
BEGINNINGS = ("PyramidVideoLoadForTraining", "PyramidVideoNewModel")
BASE_OF_LORA = "PyramidVideoLoadModel"
VAE_TO_TRAIN = "PyramidVideoVAETrainee"
SETTINGS = "PyramidVideoTrainingSettings"
TRAINERS, SAVERS = "PyramidVideoTrain", "PyramidVideoSaveTrained"  # what their types begin with
OF_NOISY_CLIPS = ("token_share", "time_shift")  # inputs that other families leave at their defaults
VALIDATED = 2  # captions that are made into clips while it learns


def add_options(train: argparse.ArgumentParser) -> None:
    """Add the options of training on a folder of clips."""
    group = train.add_argument_group("with a FOLDER of your own clips")
    group.add_argument("--as", dest="kind", choices=KINDS, help="what is trained (default: lora)")
    group.add_argument(
        "--name", type=a_name, metavar="NAME", help="of the run and of the finished file (default: the folder's)"
    )
    group.add_argument(
        "--model", type=a_name, metavar="FILE", help="the model or VAE to train further (default: a bundled one)"
    )
    group.add_argument(
        "--prompt", metavar="TEXT", help="what the clip at the end shows (default: the caption of the first clip)"
    )
    group.add_argument("--batch", type=a_count, metavar="N", help="clips of one step")
    group.add_argument("--size", type=a_count, metavar="N", help="clips get about N x N pixels")
    group.add_argument("--models", type=a_path, metavar="DIR", help="more models, laid out as ComfyUI's models/")
    group.add_argument("--device", metavar="D", help="cpu, cuda, cuda:1, mps, ... (default: the best there is)")
    group.add_argument(
        "--set", action="append", default=[], metavar="NODE.INPUT=VALUE", help="any input of the workflow, as in run"
    )


def train_clips(options: argparse.Namespace) -> Outcome:
    """Train on the folder `options.part`; run the same command again to go on."""
    from ..host import use_host
    from ..host.standalone.host import StandaloneHost
    from ..training.run.launch import is_first
    from ..training.run.run_state import saying_what_is_kept
    from .registry import node_specs
    from .run import execute_here
    from .workflow import locate, read_workflow

    if options.kind == "vae" and options.prompt is not None:
        raise RunnerError("--prompt: a VAE reads no text, and its clip at the end is one of yours")
    folder = a_path(options.part)
    if options.prompt is not None and not options.prompt.strip():
        raise RunnerError(
            "--prompt: is empty; leave it out, and the clip at the end shows the caption of the first clip"
        )
    if folder.is_file():
        raise RunnerError(f"{folder} is a file; give the folder with the clips to learn from")
    if not folder.is_dir():
        raise RunnerError(f"there is no folder {folder} with clips to learn from")
    folder = folder.resolve()
    options.out = options.out or Path("output")
    check_writable(options.out)
    host = StandaloneHost(options.models, folder.parent, options.out, options.device, silent=not is_first())
    use_host(host)
    specs = node_specs()
    workflow = read_workflow(locate(f"workflows/api/train_{options.kind or KINDS[0]}.json"), specs)
    adapt(workflow, specs, folder, options)
    run_name = next(node["inputs"]["run_name"] for node in workflow.prompt.values() if "run_name" in node["inputs"])
    with saying_what_is_kept(options.out / "training" / str(run_name)):  # also while the clip at the end is made
        return execute_here(host, workflow, specs, options.out)


def adapt(workflow: Workflow, specs: Mapping[str, NodeSpec], folder: Path, options: argparse.Namespace) -> None:
    """Give the workflow the clips of `folder`, and what the options and --set change of its settings."""
    from .overrides import carry_out, refuse_unused

    nodes, sides = workflow.prompt.values(), specs[DATASETS[0]].inputs[MULTIPLE]
    name, size, usual = options.name or folder.name, options.size, sides.default
    multiple = usual
    for node in nodes:
        if node["class_type"] in DATASETS:
            shape = {name: node["inputs"][name] for name in (*SHAPE, MULTIPLE) if name in node["inputs"]}
            if size and shape.get(MULTIPLE) == shape["size"] and size in range(usual, sides.options["max"] + 1, usual):
                multiple = size  # squares only, as the workflow has them
            node["class_type"], node["inputs"] = DATASETS[0], {"folder": folder.name, MULTIPLE: usual, **shape}
    changes = {
        DATASETS[0]: {"size": size, MULTIPLE: size and multiple},
        SETTINGS: {"steps": options.steps, "batch": options.batch, "run_seed": options.seed},
        "PyramidVideoEmptyLatent": {"width": size, "height": size},
    }
    for node in nodes:
        kind, inputs = node["class_type"], node["inputs"]
        wanted = changes.get(kind, {})
        if "run_name" in inputs:
            wanted = {"run_name": name, "clips": options.clips}
        elif kind.startswith(SAVERS):
            wanted = {"name": name}
        inputs.update({key: value for key, value in wanted.items() if value is not None})
        if options.model and kind in (*BEGINNINGS, BASE_OF_LORA, VAE_TO_TRAIN):
            begin_with(node, options.model, options.kind)
        if options.model and "token_share" in inputs and own_family(options.model) not in NOISY_CLIPS:
            inputs.update({name: specs[kind].inputs[name].default for name in OF_NOISY_CLIPS})
    sets = carry_out(workflow, specs, options.set)
    refuse_unused(workflow, decided(workflow, specs, options), sets)
    # Only now: it is up to --set, too, which clips are long enough to be learned from.
    show_captions(workflow, specs, folder, options.prompt, {place for _, places in sets for place in places})


def decided(workflow: Workflow, specs: Mapping[str, NodeSpec], options: argparse.Namespace) -> list[Given]:
    """The inputs that decide over what an option says, for each option that is given; what follows them is left out."""
    from .overrides import side_places

    owners: list[tuple[str, Any, tuple[str, ...], tuple[str, ...]]] = [
        ("FOLDER", options.part, DATASETS, ("folder",)),
        ("--size", options.size, DATASETS, ("size",)),
        ("--steps", options.steps, (SETTINGS,), ("steps",)),
        ("--batch", options.batch, (SETTINGS,), ("batch",)),
        ("--seed", options.seed, (SETTINGS,), ("run_seed",)),
        ("--clips", options.clips, (TRAINERS,), ("clips",)),
        ("--name", options.name, (TRAINERS, SAVERS), ("run_name", "name")),
        ("--model", options.model, (*BEGINNINGS, VAE_TO_TRAIN), ("model_name", "vae_name")),
    ]
    given = [
        (
            option,
            {
                (node_id, name)
                for node_id, node in workflow.prompt.items()
                for name in names
                if node["class_type"].startswith(kinds) and name in node["inputs"]
            },
        )
        for option, value, kinds, names in owners
        if value is not None
    ]
    prompted = [] if options.prompt is None else [("--prompt", {*side_places(workflow, specs, "positive")})]
    return given + prompted


def begin_with(node: dict, model: str, kind: str | None) -> None:
    """Let a node that opens or makes a model or VAE open `model`."""
    if node["class_type"] in BEGINNINGS:
        family = "as it is" if kind in (None, "lora", own_family(model)) else kind
        node["class_type"], node["inputs"] = BEGINNINGS[0], {"model_name": model, "family": family}
    else:
        node["inputs"]["vae_name" if node["class_type"] == VAE_TO_TRAIN else "model_name"] = model


def own_family(model: str) -> str | None:
    """The family of a model, whose settings are kept where it stays what it is; None if its loader is to say why."""
    from ..host import get_host
    from ..models import checkpoints

    try:
        return checkpoints.inspect(get_host().find_model("diffusion_models", model), checkpoints.TRAINABLE).family.name
    except (OSError, ValueError):
        return None


def show_captions(
    workflow: Workflow, specs: Mapping[str, NodeSpec], folder: Path, prompt: str | None, is_set: set[Place]
) -> None:
    """Let the validation and the clip at the end show captions of the folder, but for inputs that --set has set."""
    from .overrides import side_places

    texts = captions(folder, workflow, specs, prompt)
    shown = {
        (node_id, "prompts"): "\n".join(texts)
        for node_id, node in workflow.prompt.items()
        if node["class_type"] == "PyramidVideoValidation"
    }
    shown |= dict.fromkeys(side_places(workflow, specs, "positive"), texts[0])
    for place in shown.keys() - is_set:
        workflow.set_value(*place, shown[place])
        if prompt is None:  # what is learned is the caption as it is written, with its braces and strokes
            workflow.literal.add(place)


def captions(folder: Path, workflow: Workflow, specs: Mapping[str, NodeSpec], prompt: str | None) -> list[str]:
    """What validation clips show: the prompt, if given, and captions of the first clips that differ."""
    from ..nodes.messages import counting
    from ..training.data.video_folder import VideoFolder
    from .registry import node_classes
    from .validate import check_values
    from .workflow import is_link

    node_id = next(each for each, node in workflow.prompt.items() if node["class_type"] == DATASETS[0])
    check_values(workflow.prompt, node_classes(), specs, node_id)
    shape = workflow.prompt[node_id]["inputs"]
    for name in (*SHAPE, MULTIPLE):
        if is_link(shape[name]):
            raise RunnerError(
                f"--set: {name!r} of {node_label(workflow.prompt, node_id)} decides which clips are learned, before "
                f"anything runs: give a number, not the link {shape[name]}"
            )
    with counting("looking at videos") as on_load:
        dataset = VideoFolder(folder, *(shape[name] for name in (*SHAPE, MULTIPLE)), on_load)
    lines = [" ".join(text.split()) for text in (prompt, *(source.caption for source in dataset.kept)) if text]
    return list(dict.fromkeys(lines))[:VALIDATED]
