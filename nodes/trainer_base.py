"""What every trainer of a transformer does: latents and texts through the host, and the run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..host import get_host
from ..models.sizes import nearest_multiple
from .block import Input, Int, Output, Wire
from .compatibility import check_dataset
from .messages import counting
from .training_files import CACHE, NamesRun, RunName, leave_run, run_folder
from .training_progress import ProgressReporter, ValidationSampler

if TYPE_CHECKING:
    from torch import Tensor

    from ..training.data.datasets import VideoDataset
    from ..training.data.encoded_dataset import EncodedDataset
    from ..training.data.latent_cache import LatentSet
    from ..training.run.validation import ValidationPlan
    from ..training.trainers.model import TrainedModel, TrainingPlan
    from ..training.trainers.model_source import ModelSource

SETTINGS = Wire("settings", "TRAINING_SETTINGS")
VALIDATION = Wire("validation", "TRAINING_VALIDATION").tip(
    "From 'Validation': prompts that are turned into clips while the model trains."
)
WIRES = (SETTINGS.tip("From 'Training settings'. Not connected: the trainer's own, with precision auto."), VALIDATION)


def trained_from(family: str) -> tuple[Input, ...]:
    """What the trainer of a family learns from, and where it keeps its run."""
    return (
        Wire("trainee", "VIDEO_TRAINEE").tip(f"A {family} model, from 'New model' or 'Load for training'."),
        Wire("dataset", "VIDEO_DATASET").tip("Captioned clips, from a dataset block."),
        Wire("vae", "VAE").tip("Makes the latents to learn from. It is not trained, and must be the VAE of the model."),
        Wire("clip", "CLIP").tip("Reads the captions. It is not trained, and must be the text encoder of the model."),
        RunName(f"my_{family}"),
        Int("clips", 1000, 1, 1_000_000).tip(
            "How many clips are drawn from the dataset once and kept as latents. Few are learned by heart; many take "
            "time at the start and disk space."
        ),
    )


class Trainer(NamesRun):
    """A block that trains a transformer; its own are the widgets after the wires, and what they make of them."""

    CATEGORY = "pyramid video/training"
    OUTPUTS = (Output("TRAINING_RUN", "For 'Save trained model' and 'Training curves'.", "run"),)
    FUNCTION = "train"
    OUTPUT_NODE = True
    FAMILY: str

    def objective(self, source: ModelSource, **settings: Any) -> Any:
        """The loss that the widgets describe."""
        raise NotImplementedError

    def start(
        self, source: ModelSource, encoded: EncodedDataset, folder: Path, plan: TrainingPlan, **settings: Any
    ) -> TrainedModel:
        """The run in `folder`, started or continued."""
        from ..training.trainers.model import start_run

        return start_run(source, encoded, folder, plan.settings)

    def plan(self) -> TrainingPlan:
        """The settings where none are wired."""
        from ..training.trainers.model import TrainingPlan

        return TrainingPlan()

    def check(self, source: ModelSource, **settings: Any) -> None:
        """Refuse a model of another family, and settings that are not for it."""
        if source.family.name != self.FAMILY:
            raise ValueError(
                f"this trainer makes a {self.FAMILY} model, but it is given {source.name}: choose the family "
                f"{self.FAMILY!r} in 'New model' or 'Load for training', or take the trainer of that family"
            )

    def train(
        self,
        trainee: ModelSource,
        dataset: VideoDataset,
        vae,
        clip,
        run_name: str,
        clips: int,
        settings: TrainingPlan | None,
        validation: ValidationPlan | None,
        **own: Any,
    ) -> dict[str, Any]:
        """Train, or continue, until the steps of the settings are done; the result of the block holds the run."""
        import torch

        from ..training.run.run_lock import run_lock
        from ..training.run.run_state import saying_what_is_kept
        from ..training.trainers.model import train

        self.check(trainee, **own)
        objective = self.objective(trainee, **own)
        check_dataset(dataset, "draw")
        stay_with_host()
        host, plan, folder = get_host(), settings or self.plan(), run_folder(run_name)
        check_clips(objective, plan.batch_size, dataset, host.vae_info(vae).space_compression)
        # The host runs prompts in inference mode, where nothing can be learned: tensors are made or read outside it.
        with torch.inference_mode(False), run_lock(folder), saying_what_is_kept(folder):
            encoded = encode_dataset(trainee, dataset, vae, clip, folder, clips, plan)
            host.unload_models()
            with torch.enable_grad():
                trained = self.start(trainee, encoded, folder, plan, **own)
                with trained.run.leaving_device(*trained.networks.values()):  # the host keeps what this block gives on
                    sampler = None if validation is None else ValidationSampler(trained, dataset, vae, clip, validation)
                    reporter = ProgressReporter(trained.run, sampler)
                    host.unload_models()  # which the scale of latents and the texts of a validation brought back
                    with reporter.reporting_what_is_kept():
                        train(trained, objective, encoded, plan.text_dropout, on_step=reporter)
                        reporter.catch_up()
        result = reporter.result(trained)
        leave_run(folder)
        return result


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
    for height, width in dataset.bucket_counts(1):
        if any(side // cell % stages.size_multiple(1) or side < multiple for side in (height, width)):
            near = [nearest_multiple(side, multiple) for side in (width, height)]
            raise ValueError(
                f"clips of {width}x{height} pixels do not fit this model, whose sizes are multiples of {multiple}: "
                f"choose another size in the dataset; the nearest is {near[0]}x{near[1]}"
            )


def stay_with_host() -> None:
    """Keep training on the device of the host, the CPU or any card; accelerate would look for a GPU itself."""
    from ..training.run.processes import train_on

    if get_host().device.type == "cpu":
        os.environ["ACCELERATE_USE_CPU"] = "true"  # its own switch, read when the first run of this process begins
    else:
        train_on(get_host().device)


def encode_dataset(
    source: ModelSource, dataset: VideoDataset, vae, clip, folder: Path, clips: int, plan: TrainingPlan
) -> EncodedDataset:
    """Latents and text features, from the cache beside the runs where it has them.

    ValueError at once when the run in `folder` learns from other data, or the model reads other latents or texts:
    making them may take hours.
    """
    import torch

    from ..training.data.encoded_dataset import EncodedDataset
    from ..training.data.latent_cache import latents_key
    from ..training.data.text_cache import NO_TEXT, prepare_texts
    from ..training.run.run_description import earlier_description
    from ..training.trainers.model_source import check_source

    host, seed = get_host(), plan.settings.seed
    cache = host.output_dir / "training" / CACHE
    channels = host.vae_info(vae).latent_channels  # says so where it is no VAE of ours
    vae_key, clip_key = host.fingerprint(vae), host.fingerprint(clip)
    read_files(dataset)
    key = f"{latents_key(dataset, clips, seed, vae_key)}-{clip_key}"
    earlier_description(folder, {"seed": seed, "data": key})

    def encode_text(text: str) -> tuple[Tensor, Tensor]:
        (tokens, extras), *more = host.encode_prompt(clip, text)
        if more:
            raise ValueError(
                f"the text encoder wired here has hooks with a schedule, which make {len(more) + 1} encodings of a "
                "text, each for a part of a run of sampling, and training has no such parts: turn schedule_clip off in "
                "'Set CLIP Hooks', or wire the text encoder without hooks"
            )
        pooled = extras.get("pooled_output")
        if pooled is None:
            raise ValueError(
                "the text encoder wired here gives no pooled text vector (that of Helios does not), and the models "
                "that are trained here need one: wire the one that belongs to the model, for a new model the pack's own"
            )
        return tokens[0].float(), pooled[0].float()

    def decode(latents: Tensor) -> Tensor:
        with torch.no_grad():
            return host.decode(vae, latents, 2)

    tokens, pooled = prepare_texts((), encode_text, cache / "texts", clip_key).features[NO_TEXT]
    check_source(source, channels, tokens.shape[-1], len(pooled))
    latents = encode_clips(dataset, lambda pictures: host.encode(vae, pictures), clips, seed, vae_key)
    with counting("encoding texts") as on_text:
        texts = prepare_texts(latents.captions, encode_text, cache / "texts", clip_key, on_text)
    return EncodedDataset(latents, texts, plan.batch_size, key, decode)


def read_files(dataset: VideoDataset) -> None:
    """Read the files of a dataset once, where that can be seen and stopped; its key is there at once from then on."""
    with counting("reading videos") as on_read:
        dataset.fingerprint(on_read)


def encode_clips(
    dataset: VideoDataset, encode: Callable[[Tensor], Tensor], clips: int, seed: int, vae_key: str
) -> LatentSet:
    """Latents of clips, from the cache beside the runs where it has them.

    `encode` makes a latent (1, c, t, h, w) of the pictures (t, h, w, 3) of one clip, in 0..1.
    """
    import torch

    from ..training.data.latent_cache import prepare_latents

    def encode_all(videos: Tensor) -> Tensor:
        return torch.cat([encode(each) for each in (videos.movedim(1, -1) + 1) / 2]).float()

    place = get_host().output_dir / "training" / CACHE / "latents"
    with counting("encoding clips") as on_clip:
        return prepare_latents(dataset, encode_all, place, clips, seed, vae_key, on_clip)
