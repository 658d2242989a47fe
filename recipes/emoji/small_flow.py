"""The first family of 128 pixels: a flow, trained together with its text encoder.

It begins with what is cheap: first frames alone, and clips of half the size. Both teach it what words mean and how
things look at a quarter of the price of a whole clip; and it knows both sizes in the end.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool3d

from ...models import text_encoder
from ...models.causal_vae import CausalVideoVAE
from ...training.data.captions import Combination
from ...training.data.datasets import AnimationDataset
from ...training.objectives.flow import FlowObjective
from ...training.presets import TEXT_DROPOUT
from ...training.run.loop import OnStep
from ...training.run.train_settings import TrainSettings
from ...training.trainers.model import train
from .kinds import KindsObjective, KindsOfClips
from .latents import cached_latents, encode_clips, resized
from .recipe import RECIPES, Recipe
from .texts import (
    CaptionedLatents,
    OutlineObjective,
    TrainedWithText,
    explicit_attention,
    kept_tokenizer,
    start_with_text,
)

CHEAP_FIRST = 0.35  # share of the run without whole clips
BATCHES = {"stills": 112, "half": 96, "whole": 48}
SHARES = {"stills": 0.15, "half": 0.15, "whole": 0.7}  # of the later steps
OUTLINE_EDGE = 4
MANY_SENTENCES = 20000  # that the tokenizer reads
OBJECTIVE = FlowObjective("logit_normal", mean=0.2)  # a little more noise than the middle


def train_flow(
    dataset: AnimationDataset,
    vae: CausalVideoVAE,
    folder: Path,
    settings: TrainSettings,
    clips: int = 5000,
    on_step: OnStep | None = None,
    recipe: Recipe = RECIPES[128],
) -> TrainedWithText:
    """Train transformer and text encoder together on cached latents."""
    latents, combinations, latent_format = cached_latents(dataset, vae, folder, clips, settings.seed)
    half = encode_clips(resized(dataset, dataset.size // 2), vae, folder, clips, settings.seed + 6)
    tokenizer = kept_tokenizer(folder, lambda: learn_words(recipe, combinations, settings.seed))
    width = outlines(latents[:1]).shape[1]
    trained = start_with_text(recipe, tokenizer, width, latent_format, folder, settings)
    run = trained.model.run
    if run.device.type == "cpu":
        run.modules["transformer"].attention = explicit_attention

    def captioned(kind: str, latents: Tensor, combinations: list[Combination]) -> CaptionedLatents:
        encoder = run.modules["text_encoder"]
        return CaptionedLatents(latents, combinations, recipe.say, encoder, tokenizer, BATCHES[kind])

    kinds = {
        "stills": captioned("stills", latents[:, :, :1], combinations),
        "half": captioned("half", *half),
        "whole": captioned("whole", latents, combinations),
    }
    data = KindsOfClips(kinds, lambda: shares_at(run.done))
    objective = OutlineObjective(KindsObjective(OBJECTIVE, data), outlines)
    train(trained.model, objective, data, TEXT_DROPOUT, on_step)
    return trained


def shares_at(done: float) -> dict[str, float]:
    """The share of every kind of `BATCHES` after the part `done` of the run."""
    return {"stills": 0.5, "half": 0.5} if done < CHEAP_FIRST else SHARES


def learn_words(recipe: Recipe, combinations: list[Combination], seed: int) -> text_encoder.Tokenizer:
    """A tokenizer that has read many sentences."""
    generator = torch.Generator().manual_seed(seed + 2)
    texts = [recipe.say(combinations[i % len(combinations)], generator) for i in range(MANY_SENTENCES)]
    return text_encoder.Tokenizer.train(texts, recipe.vocabulary, recipe.text["max_tokens"])


def outlines(latents: Tensor) -> Tensor:
    """The coarse clip, frame by frame, (n, features); that of a first frame alone is the beginning of it."""
    frames = latents.shape[2]
    return adaptive_avg_pool3d(latents, (frames, OUTLINE_EDGE, OUTLINE_EDGE)).transpose(1, 2).flatten(1)
