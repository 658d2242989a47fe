"""The pyramid of 64 pixels, trained together with the text encoder that all families of both sizes read with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...models import checkpoints, text_encoder
from ...models.causal_vae import CausalVideoVAE
from ...samplers.noise import pyramid
from ...samplers.stages import make_stages
from ...training.data.captions import Combination, caption
from ...training.data.datasets import AnimationDataset
from ...training.objectives.pyramid import BEGINNINGS, PyramidObjective, relative_loss
from ...training.presets import TEXT_DROPOUT
from ...training.run.loop import OnStep
from ...training.run.run_state import run_exists
from ...training.run.train_settings import TrainSettings
from ...training.trainers.model import train
from .latents import cached_latents
from .recipe import RECIPES, TEXT, TEXT_FILE, TRANSFORMER_FILES, Recipe, TextRecipe
from .texts import CaptionedLatents, OutlineObjective, TrainedWithText, kept_tokenizer, start_with_text

STAGE_RATIOS = (1, 1, 6)  # the last stage draws the picture and is the hardest here
STILLS_RATIOS = (1, 3, 4)  # what a first frame will be is decided in the middle one, from the text alone
OUTLINE_LEVEL = 1  # of the pyramid: small enough to be predicted from the text, large enough to show the subject


def train_pyramid(
    dataset: AnimationDataset,
    vae: CausalVideoVAE,
    folder: Path,
    settings: TrainSettings,
    clips: int = 10000,
    batch_size: int = 64,
    begin_from: Path | None = None,
    on_step: OnStep | None = None,
    recipe: Recipe = RECIPES[64],
    text: TextRecipe = TEXT,
) -> TrainedWithText:
    """Train transformer and text encoder together on cached latents; `begin_from` as in `start_with_text`."""
    begun = None
    if begin_from is not None and not run_exists(folder):
        begun = checkpoints.inspect(begin_from / TRANSFORMER_FILES["pyramid"], ["miniflux"]).latent_format
    latents, combinations, latent_format = cached_latents(dataset, vae, folder, clips, settings.seed, begun)

    def learn() -> text_encoder.Tokenizer:
        if begin_from is not None:  # whose words the text encoder knows
            return checkpoints.load_tokenizer(checkpoints.inspect(begin_from / TEXT_FILE, ["text_encoder"]))
        return learn_words(text, combinations, settings.seed)

    tokenizer = kept_tokenizer(folder, learn)
    width = outlines(latents[:1]).shape[1]
    trained = start_with_text(recipe, text, tokenizer, width, latent_format, folder, settings, begin_from)
    encoder = trained.model.run.modules["text_encoder"]
    data = CaptionedLatents(latents, combinations, encoder, tokenizer, batch_size)
    objective = OutlineObjective(objective_of("whole", recipe.objectives["pyramid"]), outlines)
    train(trained.model, objective, data, TEXT_DROPOUT, on_step)
    return trained


def objective_of(kind: str, options: Mapping[str, Any]) -> PyramidObjective:
    """What a pyramid learns from a kind of clips, with the options of a recipe."""
    ratios = STILLS_RATIOS if kind == "stills" else STAGE_RATIOS
    return PyramidObjective(make_stages(len(ratios)), ratios, loss=relative_loss, timesteps=BEGINNINGS, **options)


def learn_words(recipe: TextRecipe, combinations: list[Combination], seed: int) -> text_encoder.Tokenizer:
    """A tokenizer that has read four captions of every clip."""
    generator = torch.Generator().manual_seed(seed + 2)
    texts = [caption(combination, generator) for combination in combinations for _ in range(4)]
    return text_encoder.Tokenizer.train(texts, recipe.vocabulary, recipe.sizes["max_tokens"])


def outlines(latents: Tensor) -> Tensor:
    """The coarse clip at level `OUTLINE_LEVEL`, (n, features)."""
    return pyramid(latents, len(STAGE_RATIOS))[OUTLINE_LEVEL].flatten(1)
