"""All parts of the pack's small models by name: how each is trained, and what files come out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...models.causal_vae import CausalVideoVAE
from ...training.data.datasets import AnimationDataset
from ...training.run.loop import OnStep, TrainingRun
from ...training.run.train_settings import TrainSettings
from . import figure_vae, finish_decoder, small_families, small_pyramid, small_text, small_vae
from .recipe import FAMILY_OF, RECIPES, TRANSFORMER_FILES, VAE_FILE


@dataclass(frozen=True)
class TrainedPart:
    """A run, and how to write its files into a models folder; `export` returns their paths."""

    run: TrainingRun
    export: Callable[[Path], tuple[Path, ...]]


def settings_of(part: str, pixels: int, steps: int | None, minutes: float | None, seed: int) -> TrainSettings:
    """The settings of a part, with another number of steps or a limit of time where one is given."""
    chosen = {name: value for name, value in (("steps", steps), ("minutes", minutes)) if value is not None}
    return TrainSettings(**{**RECIPES[pixels].training[part], **chosen}, seed=seed)


def train(
    part: str,
    dataset: AnimationDataset | None,
    vae: CausalVideoVAE | None,
    models: Path,
    folder: Path,
    settings: TrainSettings,
    begin_from: Path | None = None,
    discriminator_start: int | None = None,
    clips: int | None = None,
    on_step: OnStep | None = None,
) -> TrainedPart:
    """Train a part for pictures of the size of `dataset`; `vae` is that in the folder `models`, but for its own run.

    The text encoder needs neither.
    """
    more: dict[str, Any] = {"on_step": on_step} if clips is None else {"on_step": on_step, "clips": clips}
    if dataset is None:
        words = small_text.train_text(models, folder, settings, begin_from=begin_from, on_step=on_step)
        return TrainedPart(words.run, words.export)
    if vae is not None:
        check_latents(vae.config.latent_channels, dataset.size, models / VAE_FILE)
    large = dataset.size != min(RECIPES)
    if part in ("vae", "decoder", "finish"):
        if part == "finish":
            trained = finish_decoder.finish_decoder(dataset, vae, models, folder, settings, **more)
        else:
            train_vae = figure_vae.train_figure_vae if large else small_vae.train_small_vae
            trained = train_vae(dataset, folder, settings, begun=vae, discriminator_start=discriminator_start, **more)
        return TrainedPart(trained.run, lambda place: (trained.save(place / VAE_FILE),))
    if part == "pyramid" and not large:
        first = small_pyramid.train_pyramid(dataset, vae, folder, settings, begin_from=begin_from, **more)
        return TrainedPart(first.model.run, first.export)
    model = small_families.train_part(part, dataset, vae, models, folder, settings, begin_from=begin_from, **more)
    return TrainedPart(model.run, lambda place: (model.save(place / TRANSFORMER_FILES[FAMILY_OF[part]]),))


def check_latents(found: int, pixels: int, path: Path) -> None:
    """Raise a ValueError where the VAE at `path` has `found` latent channels and the recipe for `pixels` others."""
    channels = {size: recipe.vae["encoder_out_channels"] for size, recipe in RECIPES.items()}
    if found == channels[pixels]:
        return
    others = [size for size, count in channels.items() if count == found]
    hint = f"give --pixels {others[0]}" if others else f"train one with `train vae --pixels {pixels}`"
    raise ValueError(
        f"the VAE in {path} has {found} latent channels, and the recipe of {pixels} pixels {channels[pixels]}: {hint}, "
        "or another folder as --out"
    )
