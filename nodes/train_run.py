"""What every trainer does: latents and texts through the host, the run, and what is shown of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..host import get_host
from ..host.folders import resolve_inside
from .notices import counting, tell

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from ..training.data import VideoDataset
    from ..training.loop import TrainingRun
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
    from ..training.trainer import start_run

    if trainee.family.name != family:
        raise ValueError(
            f"this trainer makes a {family} model, but the trainee is {trainee.name}: choose the family {family!r} in "
            "'New model' or 'Load for training', or take the trainer of that family"
        )

    def start(material: DatasetMaterial, folder: Path, plan: TrainingPlan) -> TrainedModel:
        return start_run(trainee, material, folder, plan.settings)

    return run_lessons(start, objective, dataset, vae, clip, run_name, clips, plan, validation)


def run_lessons(
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

    from ..training.trainer import TrainingPlan, train

    if not callable(getattr(dataset, "take", None)):
        raise ValueError(f"this VIDEO_DATASET is a {type(dataset).__name__}; wire a dataset block here")
    host, plan, folder = get_host(), plan or TrainingPlan(), run_folder(run_name)
    # The host runs prompts in inference mode, where nothing can be learned: tensors are made or read outside it.
    with torch.inference_mode(False):
        material = prepare_material(dataset, vae, clip, clips, plan)
        host.free_memory()
        with torch.enable_grad():
            trained = start(material, folder, plan)
            look = None if validation is None else Look(trained, dataset, vae, clip, validation)
            watch = Watch(trained.run, look)
            train(trained, objective, material, plan.text_dropout, on_step=watch)
    watch.bar.close()
    return {"ui": {**tell(watch.summary()), **(look.shown() if look else {})}, "result": (trained,)}


SAVERS = {"TrainedModel": "Save trained model", "TrainedVAE": "Save trained VAE", "TrainedLoRA": "Save trained LoRA"}


def check_run(run: Any, kind: type, block: str) -> None:
    """Raise ValueError unless a TRAINING_RUN is of the kind that `block` saves."""
    if not isinstance(run, kind):
        found = type(run).__name__
        hint = f": use '{SAVERS[found]}'" if found in SAVERS else "; wire a trainer here"
        raise ValueError(f"'{block}' cannot save this run, a {found}{hint}")


def output_file(kind: str, name: str, what: str) -> Path:
    """Where a trained file of this name goes; ValueError for names that lead elsewhere."""
    place = resolve_inside(get_host().output_dir / kind, name.removesuffix(".safetensors"), what)
    return place.with_name(f"{place.name}.safetensors")


def saved(path: Path, result: Any) -> dict[str, Any]:
    """The answer of a block that has saved `path`."""
    output = get_host().output_dir
    place = Path(output.name) / path.relative_to(output)
    return {"ui": tell(f"Saved as {place}, {path.stat().st_size / 1e6:.2f} MB."), "result": (result,)}


def run_folder(name: str) -> Path:
    """Where a run of this name is kept; ValueError for names that lead elsewhere."""
    root = get_host().output_dir / "training"
    folder = resolve_inside(root, name, "training run")
    if folder.resolve() in (root.resolve(), (root / CACHE).resolve()):
        raise ValueError(f"a training run cannot be called {name!r}; give it a name of its own")
    return folder


def prepare_material(dataset: VideoDataset, vae, clip, clips: int, plan: TrainingPlan) -> DatasetMaterial:
    """Latents and text features, from the cache beside the runs where it has them."""
    import torch

    from ..training.latent_cache import prepare_latents
    from ..training.material import DatasetMaterial
    from ..training.text_cache import prepare_texts

    host, seed = get_host(), plan.settings.seed
    cache = host.output_dir / "training" / CACHE
    host.vae_facts(vae)  # says so where it is no VAE of ours
    vae_key, clip_key = host.fingerprint(vae), host.fingerprint(clip)

    def encode(videos: Tensor) -> Tensor:
        pictures = (videos.movedim(1, -1) + 1) / 2  # (n, t, h, w, 3)
        return torch.cat([host.encode(vae, each) for each in pictures]).float()

    def encode_text(text: str) -> tuple[Tensor, Tensor]:
        ((tokens, extras),) = host.encode_prompt(clip, text)
        return tokens[0].float(), extras["pooled_output"][0].float()

    def decode(latents: Tensor) -> Tensor:
        with torch.no_grad():
            return host.decode(vae, latents, 2)

    latents = prepare_latents(dataset, encode, cache / "latents", clips, seed, vae_key, counting("encoding clips"))
    texts = prepare_texts(latents.captions, encode_text, cache / "texts", clip_key, counting("encoding texts"))
    return DatasetMaterial(latents, texts, plan.batch, f"{latents.key}-{clip_key}", decode)


class Watch:
    """Called after every step: moves the bar, says how it goes, and takes a look at what is learned when it is due."""

    def __init__(self, run: TrainingRun, look: Look | None = None) -> None:
        self.run, self.look = run, look
        self.total = run.settings.steps
        self.bar = get_host().progress(self.total)
        self.started, self.first = time.monotonic(), run.step
        self.last: Mapping[str, float] = {}

    def __call__(self, step: int, losses: Mapping[str, float]) -> None:
        self.last, picture = losses, None
        if self.look is not None and self.run.is_main and self.look.plan.due(step, self.total):
            picture = self.look.validate(step)
        self.bar.update(step, self.words(step), picture)

    def words(self, step: int) -> str:
        """Step, loss, speed and time left."""
        pace = (time.monotonic() - self.started) / max(1, step - self.first)
        loss = f"loss {self.last['loss']:.4f}" if "loss" in self.last else "skipped"
        speed = f"{1 / pace:.1f} steps/s" if pace < 1 else f"{pace:.1f} s/step"
        return f"step {step}/{self.total}, {loss}, {speed}, {clock((self.total - step) * pace)} left"

    def summary(self) -> str:
        """How the run stands, in a sentence."""
        loss = f", loss {self.last['loss']:.4f}" if "loss" in self.last else ""
        return f"{self.run.folder.name}: {self.run.step} of {self.total} steps{loss}."


class Look:
    """Makes the clips of a validation with the averaged weights, shows them and keeps them."""

    def __init__(self, trained: TrainedModel, dataset: VideoDataset, vae, clip, plan: ValidationPlan) -> None:
        import torch

        self.trained, self.dataset, self.vae, self.plan = trained, dataset, vae, plan
        with torch.no_grad():
            self.texts = {text: get_host().encode_prompt(clip, text) for text in ("", *plan.prompts)}
        self.file: Path | None = None

    def validate(self, step: int) -> Image:
        """The sheet that is shown; the clips are kept as one animation in the run's folder."""
        import torch

        from ..host.direct import sample_network
        from ..training.validation import FOLDER, contact_sheet, save_animation

        host, plan, trained = get_host(), self.plan, self.trained
        facts = host.vae_facts(self.vae)
        frames = facts.latent_frames_of(self.dataset.frames)
        shares = self.dataset.shares(1)  # of sizes; the most frequent is shown
        height, width = (side // facts.space_compression for side in max(shares, key=shares.get))
        network, clips = trained.network(), []
        with torch.no_grad():
            for number, prompt in enumerate(plan.prompts):
                latent = sample_network(
                    network,
                    trained.kind,
                    trained.latent_format,
                    trained.family,
                    (self.texts[prompt], self.texts[""], plan.cfg),
                    (1, trained.config.latent_channels, frames, height, width),
                    plan.seed + number,
                    plan.steps,
                )
                clips.append(host.decode(self.vae, latent, 2))
        path = trained.run.folder / FOLDER / f"step-{step:07d}.webp"
        self.file = save_animation(clips, path, self.dataset.fps)
        return contact_sheet(clips)

    def shown(self) -> dict[str, Any]:
        """The last clips as the host shows animated pictures on a node."""
        if self.file is None:
            return {}
        root = get_host().output_dir
        entry = {"filename": self.file.name, "subfolder": str(self.file.parent.relative_to(root)), "type": "output"}
        return {"images": [entry], "animated": (True,)}


def clock(seconds: float) -> str:
    """Hours, minutes and seconds, as people write them."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
