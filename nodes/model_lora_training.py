"""A block that trains a LoRA for the models people have: Wan, LTX-2, HunyuanVideo, MiniMax H3, FLUX and others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import cache
from typing import TYPE_CHECKING, Any

from ..host import get_host
from .block import Bool, Choice, Float, Int, Output, Wire
from .compatibility import check_dataset
from .lora_training import ALPHA_TEXT, CLIPS_TEXT
from .messages import counting
from .model_validation import validation_clips
from .trainer_base import SETTINGS, VALIDATION, encode_clips, read_files, stay_with_host
from .training_files import NamesRun, RunName, leave_run, run_folder
from .training_progress import ProgressReporter
from .widget_validation import validation_result

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from ..host.protocol import Conditioning, ModelTraining
    from ..models.model_in_training import ModelInTraining
    from ..training.data.datasets import VideoDataset
    from ..training.run.validation import ValidationPlan
    from ..training.trainers.model import TrainingPlan
    from ..training.trainers.model_lora import ModelClips

MEMORY_SHARE = 0.5  # of what is free, for the texts of all captions


class TrainModelLoRA(NamesRun):
    ID, NAME = "PyramidVideoTrainModelLoRA", "Train LoRA (any model)"
    CATEGORY = "pyramid video/training"
    DESCRIPTION = (
        "Trains a LoRA for a model that ComfyUI loads, on your own captioned clips: Wan, LTX-2, HunyuanVideo 1.5, "
        "MiniMax H3, FLUX, SD3, SDXL. The model itself does not change. For the pack's own pyramids take 'Train LoRA'."
    )
    ALIASES = (
        "lora, train, training, trainer, fine-tune, finetune, dreambooth, style, character, subject, wan lora, "
        "ltx lora, hunyuan lora, flux lora, video lora, musubi, kohya"
    )
    REQUIRED = (
        Wire("model", "MODEL").tip(
            "The model for the LoRA, from core's 'Load Diffusion Model' or another loader. LoRAs and patches on the "
            "wire count while it learns."
        ),
        Wire("dataset", "VIDEO_DATASET").tip(
            "Captioned clips, from a dataset block; 10 to 50 are enough. Choose a length that the model knows (Wan and "
            "HunyuanVideo 4n+1 frames, LTX-2 8n+1) and 1 frame for models of pictures."
        ),
        Wire("vae", "VAE").tip("The VAE that belongs to the model."),
        Wire("clip", "CLIP").tip("The text encoder that belongs to the model."),
        RunName("my_model_lora"),
        Int("clips", 100, 1, 1000000).tip(CLIPS_TEXT),
        Int("rank", 16, 1, 1024).tip(
            "How much the LoRA can hold: 4 to 8 for a style, 16 to 32 for subjects; more is a larger file that learns "
            "by heart sooner."
        ),
        Float("alpha", 16.0, 0.01, 1024.0, 0.01).tip(ALPHA_TEXT),
        Choice("targets", ["attention", "mlp", "all"], "all").tip(
            "Which layers of the model's blocks are adapted. all is usual; attention makes a smaller file."
        ),
    )
    OPTIONAL = (
        SETTINGS.tip(
            "From 'Training settings'. Not connected: 1000 steps of 1 clip, learning rate 2e-4, with gradient "
            "checkpointing."
        ),
        Bool("first_frames", False).tip(
            "For models that continue pictures, such as Wan I2V: the first frame of each clip is its start picture, as "
            "core's image to video blocks would give it."
        ),
        VALIDATION,
        Float("start_percent", 0.0, 0.0, 1.0, 0.001).tip(
            "Where learning begins on the way from pure noise (0) to the finished clip (1). For the low noise model of "
            "Wan 2.2 the share of the steps after which your graph changes to it, such as 0.5."
        ),
        Float("end_percent", 1.0, 0.0, 1.0, 0.001).tip(
            "Where learning ends. For the high noise model of Wan 2.2 the share of the steps that your graph gives it, "
            "such as 0.5."
        ),
    )
    OUTPUTS = (Output("TRAINING_RUN", "For 'Save trained LoRA' and 'Training curves'.", "run"),)
    FUNCTION = "train"
    OUTPUT_NODE = True

    @classmethod
    def VALIDATE_INPUTS(cls, run_name: Any = None, start_percent: Any = 0.0, end_percent: Any = 1.0):
        named = super().VALIDATE_INPUTS(run_name)
        return named if named is not True else validation_result(check_percents, start_percent, end_percent)

    def train(
        self, model, dataset: VideoDataset, vae, clip, run_name, clips, rank, alpha, targets, settings, first_frames,
        validation: ValidationPlan | None, start_percent, end_percent,
    ):  # fmt: skip
        import torch

        from ..models.lora import LoRASettings
        from ..training.run.run_lock import run_lock
        from ..training.run.run_state import saying_what_is_kept
        from ..training.trainers.model_lora import ModelLoRATraining

        host, folder = get_host().model_training, run_folder(run_name)
        check_percents(start_percent, end_percent)
        host.check(model)
        check_dataset(dataset, "draw")
        host.check_sizes(vae, model, dataset.bucket_counts(1))  # before clips are encoded, which may take hours
        stay_with_host()
        plan, prompts = settings or default_plan(), validation.prompts if validation else ()
        reporter: ProgressReporter | None = None
        # The host runs prompts in inference mode, where nothing can be learned: tensors are made or read outside it.
        with torch.inference_mode(False), run_lock(folder), saying_what_is_kept(folder), ExitStack() as on_device:
            way = start_percent, end_percent
            data = encode_dataset(host, model, dataset, vae, clip, folder, clips, plan, first_frames, prompts, way)
            training = ModelLoRATraining(LoRASettings(rank, alpha, targets), data, folder, plan, *way)
            whole = host.whole(model)

            def stretch(open_model: ModelInTraining) -> None:
                """Train up to the next validation; the reporter is that of the whole run."""
                nonlocal reporter
                with training.attached(open_model) as (run, step):
                    if reporter is None or reporter.run is not run:
                        reporter = ProgressReporter(run)
                        on_device.close()  # a run that this one takes the place of, after half an update
                        on_device.enter_context(run.leaving_device())
                    until = validation.next_due(run.step, run.settings.steps) if validation else None
                    run.train(step, until, reporter)

            try:
                while training.trained is None or training.trained.run.done < 1:
                    get_host().unload_models()
                    host.train(whole, data.largest, data.texts[""], stretch)
                    if validation is not None and reporter.lacks_clips():
                        made = validation_clips(host, model, vae, training.trained, data, validation)
                        reporter.show_clips(training.trained.run.step, made, dataset.fps)
            except BaseException as error:  # hosts stop a node by one of either kind
                if reporter is not None:
                    reporter.say_what_is_kept(error)
                raise
        result = reporter.result(training.trained)
        leave_run(folder)
        return result


def check_percents(start: float, end: float) -> None:
    """Raise ValueError unless some of the way from noise to data lies between them."""
    if not 0 <= float(start) < float(end) <= 1:
        raise ValueError(
            f"start_percent is {start} and end_percent {end}; expected two numbers from 0 to 1, the second larger: 0 "
            "and 1 are the whole way, 0 and 0.5 its noisy half"
        )


def default_plan() -> TrainingPlan:
    """What large models learn a LoRA with."""
    from ..training.run.train_settings import TrainSettings
    from ..training.trainers.model import TrainingPlan

    return TrainingPlan(TrainSettings(1000, 2e-4, precision="auto", gradient_checkpointing=True), batch_size=1)


def encode_dataset(
    host: ModelTraining, model, dataset: VideoDataset, vae, clip, folder: Path, clips: int, plan: TrainingPlan,
    first_frames: bool, prompts: Iterable[str], way: tuple[float, float],
) -> ModelClips:  # fmt: skip
    """Latents, from the cache beside the runs where it has them, and what the host makes of captions and `prompts`.

    ValueError at once when the run in `folder` learns from other data, or another part of the way from noise to data:
    encoding may take hours.
    """
    import torch

    from ..models.model_in_training import ModelClip
    from ..training.data.latent_cache import latents_key
    from ..training.run.run_description import earlier_description
    from ..training.trainers.model_lora import ModelClips, way_learned

    seed = plan.settings.seed
    vae_key, clip_key = get_host().fingerprint(vae), get_host().fingerprint(clip)
    in_place = first_frames and host.starts_in_place(model)
    beside = first_frames and not in_place
    if beside:
        vae_key = f"{vae_key}-first-frames"
    read_files(dataset)
    key = f"{latents_key(dataset, clips, seed, vae_key)}-{clip_key}{'-in-place' if in_place else ''}"
    earlier_description(folder, {"seed": seed, "data": key, **way_learned(*way)})

    @cache
    def encode_text(text: str) -> Conditioning:
        conditioning = host.encode_prompt(clip, text)
        for _, extras in conditioning:
            extras["frame_rate"] = dataset.fps  # LTX reads it, others do not
        return conditioning

    is_read = False

    def latent_of(pictures: Tensor) -> Tensor:
        nonlocal is_read
        latent = host.encode(vae, pictures, model)
        if in_place:
            check_something_follows(latent.shape[2])
        start = host.start_latent(vae, pictures, model) if beside else None
        if not is_read:  # with the first clip, not after the last
            first = ModelClip(latent, encode_text(""), start, in_place)
            get_host().unload_models()
            host.check_clip(model, first)
            is_read = True
        return latent if start is None else torch.cat([latent, start], 1)

    latents = encode_clips(dataset, latent_of, clips, seed, vae_key)
    if in_place:  # also of those that another run has encoded
        check_something_follows(min(row.latent.shape[1] for row in latents.rows))
    with torch.no_grad(), counting("encoding texts") as on_text:
        texts = encode_texts(("", *latents.captions, *prompts), encode_text, on_text)
    return ModelClips(latents, texts, key, has_start=beside, starts_in_place=in_place)


def check_something_follows(frames: int) -> None:
    """Raise ValueError where a latent of so many frames has nothing after the first, which is its start picture."""
    if frames == 1:
        raise ValueError(
            "first_frames is on, and a clip has nothing after its first frame: choose more frames in the dataset, or "
            "turn first_frames off"
        )


def encode_texts(
    texts: Iterable[str], encode: Callable[[str], Conditioning], on_text: Callable[[int, int], None]
) -> dict[str, Conditioning]:
    """What the host makes of each text once, in memory. ValueError where there is not enough for all of them.

    The longest comes first: the others need no more.
    """
    wanted = sorted(dict.fromkeys(texts), key=len, reverse=True)
    encoded: dict[str, Conditioning] = {}
    for done, text in enumerate(wanted, 1):
        encoded[text] = encode(text)
        if done == 1:
            check_memory(encoded[text], len(wanted))
        on_text(done, len(wanted))
    return encoded


def check_memory(conditioning: Conditioning, count: int) -> None:
    """Raise ValueError where `count` texts as large as this one are too much for the computer's memory."""
    from torch import Tensor

    size = sum(
        each.numel() * each.element_size()
        for tokens, extras in conditioning
        for each in (tokens, *extras.values())
        if isinstance(each, Tensor)
    )
    free = get_host().any_model.free_memory()
    if count * size > MEMORY_SHARE * free:
        raise ValueError(
            f"{count} captions of {size / 1e6:.1f} MB each do not fit in half of the {free / 1e9:.1f} GB of memory "
            "that are free: give several clips the same caption, or lower clips"
        )


BLOCKS = (TrainModelLoRA,)
