"""A block that trains a LoRA for the models people have: Wan, LTX-2, HunyuanVideo, MiniMax H3, FLUX and others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ..host import get_host
from .block import Bool, Choice, Float, Int, Output, Wire
from .compatibility import check_dataset
from .messages import counting
from .trainer_base import SETTINGS, encode_clips, stay_with_host
from .training_files import NamesRun, RunName, leave_run, run_folder
from .training_progress import ProgressReporter

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from ..host.protocol import Conditioning, ModelTraining
    from ..training.data.datasets import VideoDataset
    from ..training.run.loop import TrainingRun, TrainingStep
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
        Int("clips", 100, 1, 1000000).tip(
            "How many clips are drawn from the dataset once and kept as latents; with more than there are files, "
            "each file gives several excerpts."
        ),
        Int("rank", 16, 1, 1024).tip(
            "How much the LoRA can hold: 4 to 8 for a style, 16 to 32 for subjects; more is a larger file that learns "
            "by heart sooner."
        ),
        Float("alpha", 16.0, 0.01, 1024.0, 0.01).tip(
            "The strength of the LoRA is alpha divided by rank. Keep it equal to rank, or at a fixed number while "
            "you try other ranks."
        ),
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
    )
    OUTPUTS = (Output("TRAINING_RUN", "For 'Save trained LoRA' and 'Training curves'.", "run"),)
    FUNCTION = "train"
    OUTPUT_NODE = True

    def train(
        self, model, dataset: VideoDataset, vae, clip, run_name, clips, rank, alpha, targets, settings, first_frames
    ):
        import torch

        from ..models.lora import LoRASettings
        from ..training.run.run_lock import run_lock
        from ..training.run.run_state import saying_what_is_kept
        from ..training.trainers.model_lora import train_model_lora

        host, folder = get_host().model_training, run_folder(run_name)
        host.check(model)
        check_dataset(dataset, "draw")
        stay_with_host()
        plan, lora = settings or default_plan(), LoRASettings(rank, alpha, targets)
        shown: list[ProgressReporter] = []

        def learn(run: TrainingRun, step: TrainingStep) -> None:
            shown.append(ProgressReporter(run))
            with shown[0].reporting_what_is_kept():
                run.train(step, on_step=shown[0])

        def with_model(open_model: Any) -> None:
            trained.append(train_model_lora(open_model, lora, data, folder, plan, learn))

        trained: list[Any] = []
        # The host runs prompts in inference mode, where nothing can be learned: tensors are made or read outside it.
        with torch.inference_mode(False), run_lock(folder), saying_what_is_kept(folder):
            data = encode_dataset(host, model, dataset, vae, clip, folder, clips, plan, first_frames)
            get_host().unload_models()
            host.train(model, data.largest, next(iter(data.texts.values())), with_model)
        result = shown[0].result(trained[0])
        leave_run(folder)
        return result


def default_plan() -> TrainingPlan:
    """What large models learn a LoRA with."""
    from ..training.run.train_settings import TrainSettings
    from ..training.trainers.model import TrainingPlan

    return TrainingPlan(TrainSettings(1000, 2e-4, precision="auto", gradient_checkpointing=True), batch_size=1)


def encode_dataset(
    host: ModelTraining, model, dataset: VideoDataset, vae, clip, folder: Path, clips: int, plan: TrainingPlan,
    first_frames: bool,
) -> ModelClips:  # fmt: skip
    """Latents, from the cache beside the runs where it has them, and what the host makes of the captions.

    ValueError at once when the run in `folder` learns from other data: encoding may take hours.
    """
    import torch

    from ..training.data.latent_cache import latents_key
    from ..training.run.run_description import earlier_description
    from ..training.trainers.model_lora import ModelClips

    seed = plan.settings.seed
    vae_key, clip_key = get_host().fingerprint(vae), get_host().fingerprint(clip)
    if first_frames:
        vae_key = f"{vae_key}-first-frames"
    key = f"{latents_key(dataset, clips, seed, vae_key)}-{clip_key}"
    earlier_description(folder, {"seed": seed, "data": key})

    def latent_of(pictures: Tensor) -> Tensor:
        latent = host.encode(vae, pictures, model)
        return torch.cat([latent, host.start_latent(vae, pictures, model)], 1) if first_frames else latent

    latents = encode_clips(dataset, latent_of, clips, seed, vae_key)
    with torch.no_grad(), counting("encoding texts") as on_text:
        texts = encode_texts(("", *latents.captions), lambda text: host.encode_prompt(clip, text), on_text)
    for conditioning in texts.values():
        for _, extras in conditioning:
            extras["frame_rate"] = dataset.fps  # LTX reads it, others do not
    return ModelClips(latents, texts, key, has_start=first_frames)


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
