"""What every trainer does: latents and texts through the host, the run, and what is shown of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..host import get_host
from ..host.folders import resolve_new
from .literals import verdict
from .notices import counting, tell
from .train_watch import Look, Watch

if TYPE_CHECKING:
    from torch import Tensor

    from ..training.data.datasets import VideoDataset
    from ..training.encoded_dataset import DatasetMaterial
    from ..training.model_source import Trainee
    from ..training.run.validation import ValidationPlan
    from ..training.trainer import TrainedModel, TrainingPlan

CACHE = "cache"  # beside the runs: latents and texts that several runs may share


def run_training(
    family: str,
    objective: Any,
    trainee: Trainee,
    dataset: VideoDataset,
    vae,
    clip,
    run_name: str,
    clips: int,
    plan: TrainingPlan | None,
    validation: ValidationPlan | None,
) -> dict[str, Any]:
    """Train, or go on, until the steps of `plan` are done; a node's answer with the TRAINING_RUN."""
    from ..training.trainer import start_run

    if trainee.family.name != family:
        raise ValueError(
            f"this trainer makes a {family} model, but the trainee is {trainee.name}: choose the family {family!r} in "
            "'New model' or 'Load for training', or take the trainer of that family"
        )

    def start(material: DatasetMaterial, folder: Path, plan: TrainingPlan) -> TrainedModel:
        return start_run(trainee, material, folder, plan.settings)

    return run_lessons(trainee, start, objective, dataset, vae, clip, run_name, clips, plan, validation)


def run_lessons(
    trainee: Trainee,
    start: Callable[[DatasetMaterial, Path, TrainingPlan], Any],
    objective: Any,
    dataset: VideoDataset,
    vae,
    clip,
    run_name: str,
    clips: int,
    plan: TrainingPlan | None,
    validation: ValidationPlan | None,
) -> dict[str, Any]:
    """Make latents and texts, `start` a run with them, and let it learn."""
    import torch

    from ..training.run.run_lock import run_lock
    from ..training.trainer import TrainingPlan, train

    if not callable(getattr(dataset, "take", None)):
        raise ValueError(f"this VIDEO_DATASET is a {type(dataset).__name__}; wire a dataset block here")
    stay_with_host()
    host, plan, folder = get_host(), plan or TrainingPlan(), run_folder(run_name)
    check_clips(objective, plan.batch, dataset, host.vae_info(vae).space_compression)
    # The host runs prompts in inference mode, where nothing can be learned: tensors are made or read outside it.
    with torch.inference_mode(False), run_lock(folder):
        material = prepare_material(trainee, dataset, vae, clip, folder, clips, plan)
        host.free_memory()
        with torch.enable_grad():
            trained = start(material, folder, plan)
            look = None if validation is None else Look(trained, dataset, vae, clip, validation)
            watch = Watch(trained.run, look)
            with watch.saying_what_is_kept():
                train(trained, objective, material, plan.text_dropout, on_step=watch)
    return watch.answer(trained)


def check_clips(objective: Any, batch: int, dataset: VideoDataset, cell: int) -> None:
    """Raise ValueError unless a network can learn from such batches and clips; encoding them may take hours.

    `cell` is the side of a latent pixel in pixels.
    """
    from ..samplers.stages import make_stages
    from ..training.objectives.pyramid import PyramidObjective, check_columns

    stages = make_stages(1)
    if isinstance(objective, PyramidObjective):
        check_columns(batch, objective.ratios)
        stages = objective.stages
    multiple = stages.size_multiple(cell)
    for height, width in dataset.shares(1):
        if any(side // cell % stages.size_multiple(1) or side < multiple for side in (height, width)):
            near = [max(multiple, round(side / multiple) * multiple) for side in (width, height)]
            raise ValueError(
                f"clips of {width}x{height} pixels do not fit this model, whose sides are multiples of {multiple}: "
                f"choose another size in the dataset; the nearest is {near[0]}x{near[1]}"
            )


SAVERS = {"TrainedModel": "Save trained model", "TrainedVAE": "Save trained VAE", "TrainedLoRA": "Save trained LoRA"}


def check_run(run: Any, kind: type, block: str) -> None:
    """Raise ValueError unless a TRAINING_RUN is of the kind that `block` saves."""
    if not isinstance(run, kind):
        found = type(run).__name__
        hint = f": use '{SAVERS[found]}'" if found in SAVERS else "; wire a trainer here"
        raise ValueError(f"'{block}' cannot save this run, a {found}{hint}")


def output_file(kind: str, name: str, what: str) -> Path:
    """Where a trained file of this name goes; ValueError for names that lead elsewhere."""
    place = resolve_new(get_host().output_dir / kind, name.removesuffix(".safetensors"), what)
    return place.with_name(f"{place.name}.safetensors")


def saved(path: Path, asked: Path, result: Any) -> dict[str, Any]:
    """The answer of a block that has saved `path` where it was asked for `asked`."""
    output = get_host().output_dir
    place = Path(output.name) / path.relative_to(output)
    told = [f"Saved as {place}, {path.stat().st_size / 1e6:.2f} MB."]
    if path != asked:
        told.append(f"{asked.name} is older and stays as it was.")
    return {"ui": tell(*told), "result": (result,)}


def stay_with_host() -> None:
    """Keep training on the CPU where the host was told to stay there; accelerate would look for a card itself."""
    if get_host().device.type == "cpu":
        os.environ["ACCELERATE_USE_CPU"] = "true"  # its own switch, read when the first run of this process begins


def run_folder(name: str) -> Path:
    """Where a run of this name is kept; ValueError for names that lead elsewhere."""
    root = get_host().output_dir / "training"
    folder = resolve_new(root, name, "training run")
    if folder.relative_to(root).parts[0].casefold() == CACHE or folder.resolve().is_relative_to(
        (root / CACHE).resolve()
    ):
        raise ValueError(
            f"a training run cannot be called {name!r}: the folder {CACHE!r} beside the runs keeps what all of them "
            "share, and may be emptied at any time. Give the run a name of its own"
        )
    return folder


class NamesRun:
    """A block with a `run_name`: one that leads elsewhere is refused before the graph runs."""

    @classmethod
    def VALIDATE_INPUTS(cls, run_name: Any = None):
        return verdict(lambda name: run_folder(str(name)), run_name)


class NamesFile:
    """A block that saves under a `name`; likewise."""

    KIND, WHAT = "diffusion_models", "model"

    @classmethod
    def VALIDATE_INPUTS(cls, name: Any = None):
        return verdict(lambda name: output_file(cls.KIND, str(name), cls.WHAT), name)


def prepare_material(
    trainee: Trainee, dataset: VideoDataset, vae, clip, folder: Path, clips: int, plan: TrainingPlan
) -> DatasetMaterial:
    """Latents and text features, from the cache beside the runs where it has them.

    ValueError at once when the run in `folder` learns from other data, or the trainee reads other latents or texts:
    making them may take hours.
    """
    import torch

    from ..training.data.latent_cache import latents_key, prepare_latents
    from ..training.data.text_cache import NO_TEXT, prepare_texts
    from ..training.encoded_dataset import DatasetMaterial
    from ..training.model_source import check_wires
    from ..training.run.run_description import earlier_description

    host, seed = get_host(), plan.settings.seed
    cache = host.output_dir / "training" / CACHE
    channels = host.vae_info(vae).latent_channels  # says so where it is no VAE of ours
    vae_key, clip_key = host.fingerprint(vae), host.fingerprint(clip)
    key = f"{latents_key(dataset, clips, seed, vae_key)}-{clip_key}"
    earlier_description(folder, {"seed": seed, "data": key})

    def encode(videos: Tensor) -> Tensor:
        pictures = (videos.movedim(1, -1) + 1) / 2  # (n, t, h, w, 3)
        return torch.cat([host.encode(vae, each) for each in pictures]).float()

    def encode_text(text: str) -> tuple[Tensor, Tensor]:
        ((tokens, extras),) = host.encode_prompt(clip, text)
        pooled = extras.get("pooled_output")
        if pooled is None:
            raise ValueError(
                "the text encoder wired here gives no vector that sums up a text (Helios's does not), and the models "
                "that are trained here read one: wire the one that belongs to the model, for a new model the pack's own"
            )
        return tokens[0].float(), pooled[0].float()

    def decode(latents: Tensor) -> Tensor:
        with torch.no_grad():
            return host.decode(vae, latents, 2)

    tokens, pooled = prepare_texts((), encode_text, cache / "texts", clip_key).features[NO_TEXT]
    check_wires(trainee, channels, tokens.shape[-1], len(pooled))
    with counting("encoding clips") as on_clip:
        latents = prepare_latents(dataset, encode, cache / "latents", clips, seed, vae_key, on_clip)
    with counting("encoding texts") as on_text:
        texts = prepare_texts(latents.captions, encode_text, cache / "texts", clip_key, on_text)
    return DatasetMaterial(latents, texts, plan.batch, key, decode)
