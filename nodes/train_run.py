"""What every trainer does: latents and texts through the host, the run, and what is shown of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..host import get_host
from ..host.folders import resolve_inside
from .notices import counting, tell

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from ..training.data import VideoDataset
    from ..training.material import DatasetMaterial
    from ..training.trainees import Trainee
    from ..training.trainer import TrainedModel, TrainingPlan
    from ..training.validation import ValidationPlan

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
    import torch

    from ..training.trainer import TrainingPlan, start_run, train

    if trainee.family.name != family:
        raise ValueError(
            f"this trainer makes a {family} model, but the trainee is {trainee.name}: choose the family {family!r} in "
            "'New model' or 'Load for training', or take the trainer of that family"
        )
    if not callable(getattr(dataset, "sample", None)):
        raise ValueError(f"this VIDEO_DATASET is a {type(dataset).__name__}; wire a dataset block here")
    host, plan = get_host(), plan or TrainingPlan()
    root = host.output_dir / "training"
    folder = resolve_inside(root, run_name, "training run")
    if folder.resolve() in (root.resolve(), (root / CACHE).resolve()):
        raise ValueError(f"a training run cannot be called {run_name!r}; give it a name of its own")
    # The host runs prompts in inference mode, where nothing can be learned: tensors are made or read outside it.
    with torch.inference_mode(False):
        material = prepare_material(dataset, vae, clip, clips, plan, root / CACHE)
        host.free_memory()
        with torch.enable_grad():
            trained = start_run(trainee, material, folder, plan.settings)
            watch = Watch(trained, dataset, vae, clip, validation)
            train(trained, objective, material, plan.text_dropout, on_step=watch)
    watch.close()
    return {"ui": {**tell(watch.summary()), **watch.shown()}, "result": (trained,)}


def prepare_material(dataset: VideoDataset, vae, clip, clips: int, plan: TrainingPlan, cache: Path) -> DatasetMaterial:
    """Latents and text features, from `cache` where it has them."""
    import torch

    from ..training.material import DatasetMaterial, make_latents, make_texts

    host, seed = get_host(), plan.settings.seed
    host.vae_facts(vae)  # says so where it is no VAE of ours
    latents_key = f"{dataset.key[:12]}-{host.fingerprint(vae)[:12]}-{seed}"
    texts_key = host.fingerprint(clip)[:12]

    def encode_text(text: str) -> tuple[Tensor, Tensor]:
        ((tokens, extras),) = host.encode_prompt(clip, text)
        return tokens, extras["pooled_output"]

    with torch.no_grad():
        buckets = make_latents(
            dataset,
            lambda pictures: host.encode(vae, pictures),
            cache / "latents" / latents_key,
            clips,
            seed,
            counting("encoding clips"),
        )
        captions = [wording for bucket in buckets for wordings in bucket.captions for wording in wordings]
        path = cache / "texts" / f"{texts_key}.safetensors"
        texts = make_texts(captions, encode_text, path, counting("encoding texts"))

    def decode(latents: Tensor) -> Tensor:
        with torch.no_grad():
            return host.decode(vae, latents, 2)

    return DatasetMaterial(buckets, texts, plan.batch, f"{latents_key}-{clips}-{texts_key}", decode)


class Watch:
    """Called after every step: moves the bar, says how it goes, and makes the clips of a validation."""

    def __init__(self, trained: TrainedModel, dataset: VideoDataset, vae, clip, plan: ValidationPlan | None) -> None:
        host = get_host()
        self.trained, self.dataset, self.vae, self.plan = trained, dataset, vae, plan
        self.total = trained.run.settings.steps
        self.bar = host.progress(self.total)
        self.started, self.first = time.monotonic(), trained.run.step
        self.last: Mapping[str, float] = {}
        self.picture: Image | None = None
        self.file: Path | None = None
        if plan is not None:
            self.texts = {text: host.encode_prompt(clip, text) for text in ("", *plan.prompts)}

    def __call__(self, step: int, losses: Mapping[str, float]) -> None:
        self.last = losses
        preview = None
        if self.plan is not None and self.trained.run.is_main and self.plan.due(step, self.total):
            preview = self.picture = self.validate(step)
        self.bar.update(step, self.words(step), preview)

    def words(self, step: int) -> str:
        """Step, loss, speed and time left."""
        pace = (time.monotonic() - self.started) / max(1, step - self.first)
        loss = f"loss {self.last['loss']:.4f}" if "loss" in self.last else "skipped"
        speed = f"{1 / pace:.1f} steps/s" if pace < 1 else f"{pace:.1f} s/step"
        return f"step {step}/{self.total}, {loss}, {speed}, {clock((self.total - step) * pace)} left"

    def validate(self, step: int) -> Image:
        """Clips of the prompts with the averaged weights, kept as an animation; the sheet that is shown."""
        import torch

        from ..host.direct import sample_network
        from ..training.validation import FOLDER, contact_sheet, save_animation

        host, plan, trained = get_host(), self.plan, self.trained
        facts = host.vae_facts(self.vae)
        frames = (self.dataset.frames - 1) // facts.time_compression + 1
        side = self.dataset.size // facts.space_compression
        network, clips = trained.network(), []
        with torch.no_grad():
            for number, prompt in enumerate(plan.prompts):
                latent = sample_network(
                    network,
                    trained.kind,
                    trained.latent_format,
                    trained.family,
                    (self.texts[prompt], self.texts[""], plan.cfg),
                    (1, trained.config.latent_channels, frames, side, side),
                    plan.seed + number,
                    plan.steps,
                )
                clips.append(host.decode(self.vae, latent, 2))
        self.file = save_animation(
            clips, trained.run.folder / FOLDER / f"step-{step:07d}.webp", getattr(self.dataset, "fps", 8.0)
        )
        return contact_sheet(clips)

    def summary(self) -> str:
        """How the run stands, in a sentence."""
        step = self.trained.run.step
        loss = f", loss {self.last['loss']:.4f}" if "loss" in self.last else ""
        return f"{self.trained.run.folder.name}: {step} of {self.total} steps{loss}."

    def shown(self) -> dict[str, Any]:
        """The last clips as the host shows animated pictures on a node."""
        if self.file is None:
            return {}
        root = get_host().output_dir
        entry = {"filename": self.file.name, "subfolder": str(self.file.parent.relative_to(root)), "type": "output"}
        return {"images": [entry], "animated": (True,)}

    def close(self) -> None:
        close = getattr(self.bar, "close", None)
        if close is not None:
            close()


def clock(seconds: float) -> str:
    """Hours, minutes and seconds, as people write them."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
