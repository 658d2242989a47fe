"""All parts of the pack's small models by name: how each is trained, and what files come out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ...models.causal_vae import CausalVideoVAE
from ...training.data.datasets import AnimationDataset
from ...training.run.loop import OnStep, TrainingRun, TrainSettings
from . import figure_vae, small_families, small_flow, small_pyramid, small_vae

TRAINING = {  # settings of each part, by picture size; the parts in the order in which they are trained
    64: {
        "vae": small_vae.VAE_TRAINING,
        "pyramid": small_pyramid.PYRAMID_TRAINING,
        "decoder": small_vae.DECODER_TRAINING,
        **small_families.RECIPES[64].training,
    },
    128: {
        "vae": figure_vae.VAE_TRAINING,
        "decoder": figure_vae.DECODER_TRAINING,
        "flow": small_flow.FLOW_TRAINING,
        **small_families.RECIPES[128].training,
    },
}


@dataclass(frozen=True)
class TrainedPart:
    """A run, and how to write its files into a models folder."""

    run: TrainingRun
    write: Callable[[Path], Path | tuple[Path, ...]]

    def export(self, folder: Path) -> tuple[Path, ...]:
        """Write the files where the loaders look; returns their paths."""
        written = self.write(folder)
        return written if isinstance(written, tuple) else (written,)


def settings_of(part: str, pixels: int, steps: int | None, minutes: float | None, seed: int) -> TrainSettings:
    """The settings of a part, with another number of steps or a limit of time where one is given."""
    chosen = {name: value for name, value in (("steps", steps), ("minutes", minutes)) if value is not None}
    return TrainSettings(**{**TRAINING[pixels][part], **chosen}, seed=seed)


def train(
    part: str,
    dataset: AnimationDataset,
    vae: CausalVideoVAE | None,
    models: Path,
    folder: Path,
    settings: TrainSettings,
    begin_from: Path | None = None,
    judged_from: int | None = None,
    clips: int | None = None,
    on_step: OnStep | None = None,
) -> TrainedPart:
    """Train a part for pictures of the size of `dataset`; `vae` is that in the folder `models`, but for its own run."""
    more = {"on_step": on_step} if clips is None else {"on_step": on_step, "clips": clips}
    large = dataset.size != min(TRAINING)
    if part in ("vae", "decoder"):
        train_vae = figure_vae.train_figure_vae if large else small_vae.train_vae
        run = train_vae(dataset, folder, settings, begun=vae, judged_from=judged_from, **more)
        return TrainedPart(run, partial(small_vae.export_vae, run))
    if part == "pyramid" and not large:
        trained = small_pyramid.train_pyramid(dataset, vae, folder, settings, begin_from=begin_from, **more)
        return TrainedPart(trained[0], partial(small_pyramid.export_pyramid, *trained))
    if part == "flow" and large:
        run, latent_format, tokenizer = small_flow.train_flow(dataset, vae, folder, settings, **more)
        return TrainedPart(run, partial(export_flow, run, latent_format, tokenizer))
    run, latent_format = small_families.train_family(
        part, dataset, vae, models, folder, settings, begin_from=begin_from, **more
    )
    return TrainedPart(run, partial(small_families.export_family, part, run, latent_format))


def export_flow(run: TrainingRun, latent_format, tokenizer, folder: Path) -> tuple[Path, Path]:
    """Write the flow's transformer and the text encoder that learned with it."""
    text = small_pyramid.export_text(run, tokenizer, folder)
    return small_families.export_family("flow", run, latent_format, folder), text
