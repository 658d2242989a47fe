"""What is shown of a run while it trains: its speed, its losses, and clips that it makes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..host import get_host
from ..host.own_bar import own_bar
from ..samplers.time_left import clock
from .messages import show_message

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from ..training.data.datasets import VideoDataset
    from ..training.run.loop import TrainingRun
    from ..training.run.validation import ValidationPlan
    from ..training.trainers.model import TrainedModel

CURVE_SECONDS = 5.0  # between two drawings of the losses on the node
MOST_POINTS = 4000  # of a loss that are kept for it


class ProgressReporter:
    """Called after every step: moves the bar, shows the loss, draws the losses, makes clips when they are due."""

    def __init__(self, run: TrainingRun, validation: ValidationSampler | None = None) -> None:
        self.run, self.validation = run, validation
        self.total = run.settings.steps
        self.bar = get_host().progress(self.total)
        self.started, self.first = time.monotonic(), run.step
        self.last: Mapping[str, float] = {}
        self.curves: dict[str, list[tuple[float, float]]] = {}  # losses by name, (step, value) each
        self.sheet: Image | None = None  # of the last clips
        self.file: Path | None = None  # with them
        self.drawn = 0.0

    def __call__(self, step: int, losses: Mapping[str, float]) -> None:
        self.last = losses
        self.note(step, losses)
        if self.validation is not None and self.validation.plan.due(step, self.total):
            self.run.gather()
            if self.run.is_main:
                self.show_clips(step, self.validation.clips(), self.validation.dataset.fps)
                return
        self.bar.update(step, self.words(step), self.picture())

    def show_clips(self, step: int, clips: list[Tensor], fps: float) -> None:
        """Show clips `(frames, h, w, 3)` of a validation, and keep them as an animation in the run's folder."""
        from ..drawings.animation import save_animation
        from ..drawings.contact_sheet import clip_sheet
        from ..training.run.loss_log import pass_over

        path = self.clips_path(step)
        try:
            self.file = save_animation(clips, path, fps)
        except (OSError, RuntimeError) as error:  # of the disk, or of the encoder
            pass_over(path, error)
        self.sheet = clip_sheet(clips)
        self.bar.update(step, self.words(step), self.picture(now=True))

    def clips_path(self, step: int) -> Path:
        """Where the clips that are made after `step` are kept."""
        from ..training.run.validation import FOLDER

        return self.run.folder / FOLDER / f"step-{step:07d}.webp"

    def lacks_clips(self) -> bool:
        """Whether the clips after the step that the run is at are still to be made."""
        return not self.clips_path(self.run.step).exists()

    def catch_up(self) -> None:
        """Make the clips after the last step where a run that had all its steps has none: it was stopped over them."""
        if self.validation is not None and self.run.is_main and self.lacks_clips():
            self.show_clips(self.run.step, self.validation.clips(), self.validation.dataset.fps)

    @contextmanager
    def reporting_what_is_kept(self) -> Iterator[None]:
        """Say so on the node when the host's user stops the run, or anything else does; what stopped it goes on."""
        try:
            with own_bar():
                yield
        except BaseException as error:  # hosts stop a node by one of either kind
            self.say_what_is_kept(error)
            raise

    def say_what_is_kept(self, error: BaseException) -> None:
        """Say so on the node, unless what stopped the run says it itself: see `TrainingRun`."""
        from ..training.run.run_state import STATE, StateNotSaved, step_of

        if not isinstance(error, KeyboardInterrupt | StateNotSaved):
            step = step_of(self.run.folder / STATE) or 0  # not that of the run, whose device may have failed
            kept = f"stopped after {step} of {self.total} steps, which are kept. Run it again to continue."
            show_message(f"{self.run.folder.name}: {kept}")

    def note(self, step: int, losses: Mapping[str, float]) -> None:
        """Keep the losses for drawing; of a long run means of its steps, as the file is written now and then only."""
        from ..training.run.loss_log import mean_line, read_losses

        if not self.curves:
            self.curves.update(read_losses(self.run.folder))
        for name, value in losses.items() if "skipped" not in losses else ():
            points = self.curves.setdefault(name, [])
            points.append((step, value))
            if len(points) > MOST_POINTS:
                points[:] = mean_line(points, MOST_POINTS // 2)

    def picture(self, now: bool = False) -> Image | None:
        """The losses so far above the last clips, where somebody can see them and the last drawing is old enough."""
        from ..drawings.curves import draw_curves
        from ..drawings.pen import below_each_other

        if not (self.bar.shows_pictures and self.run.is_main):
            return None
        if not now and time.monotonic() < self.drawn + CURVE_SECONDS:
            return None
        self.drawn = time.monotonic()
        losses = [draw_curves(self.curves)] if self.curves else []
        return below_each_other([*losses, *([self.sheet] if self.sheet is not None else [])])

    def result(self, trained: Any) -> dict[str, Any]:
        """The result of the block: how the run stands, and its last clips, or else its losses, to be seen on it."""
        from ..drawings.curves import save_curves

        self.bar.close()
        shown = {}
        if self.file is not None:
            shown = {"images": [output_entry(self.file)], "animated": (True,)}
        elif (curves := save_curves(self.run.folder)) is not None:
            shown = {"images": [output_entry(curves)]}
        return {"ui": {**show_message(self.summary()), **shown}, "result": (trained,)}

    def words(self, step: int) -> str:
        """The loss, and where the bar does not say them step, speed and time left."""
        loss = f"loss {self.last['loss']:.4f}" if "loss" in self.last else "skipped"
        if self.bar.shows_pace:
            return loss
        pace = (time.monotonic() - self.started) / max(1, step - self.first)
        speed = f"{1 / pace:.1f} steps/s" if pace < 1 else f"{pace:.1f} s/step"
        return f"step {step}/{self.total}, {loss}, {speed}, {clock((self.total - step) * pace)} left"

    def summary(self) -> str:
        """How the run stands, in a sentence."""
        loss = f", loss {self.last['loss']:.4f}" if "loss" in self.last else ""
        return f"{self.run.folder.name}: {self.run.step} of {self.total} steps{loss}."


class ValidationSampler:
    """Makes the clips of a validation with the averaged weights."""

    def __init__(self, trained: TrainedModel, dataset: VideoDataset, vae, clip, plan: ValidationPlan) -> None:
        import torch

        self.trained, self.dataset, self.vae, self.plan = trained, dataset, vae, plan
        with torch.no_grad():
            self.texts = {text: get_host().encode_prompt(clip, text) for text in ("", *plan.prompts)}

    def clips(self) -> list[Tensor]:
        """A clip `(frames, h, w, 3)` in bytes of each prompt, of the size that is most frequent in the data."""
        import torch

        from ..drawings.animation import in_bytes
        from ..host.direct import sample_network

        host, plan, trained = get_host(), self.plan, self.trained
        info = host.vae_info(self.vae)
        frames = info.latent_frames_of(self.dataset.frames)
        counts = self.dataset.bucket_counts(1)  # of sizes
        height, width = (side // info.space_compression for side in max(counts, key=counts.get))
        with torch.no_grad(), trained.sampling() as network, trained.run.autocast():
            latents = [
                sample_network(
                    network,
                    trained.kind,
                    trained.latent_format,
                    trained.family,
                    (self.texts[prompt], self.texts[""], plan.cfg),
                    (1, trained.config.latent_channels, frames, height, width),
                    plan.seed + number,
                    plan.steps,
                )
                for number, prompt in enumerate(plan.prompts)
            ]
        with torch.no_grad():
            clips = [in_bytes(host.decode(self.vae, latent, 2)) for latent in latents]
        host.unload_models()  # the steps that follow need the room
        return clips


def output_entry(path: Path) -> dict[str, str]:
    """What a node's `ui` says about a file in the output folder."""
    folder = path.parent.relative_to(get_host().output_dir).as_posix()
    return {"filename": path.name, "subfolder": folder, "type": "output"}
