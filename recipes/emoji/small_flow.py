"""The first family of 128 pixels: a flow, trained together with its text encoder.

It begins with what is cheap: first frames alone, and clips of half the size. Both teach it what words mean and how
things look at a quarter of the price of a whole clip; and it knows both sizes in the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool3d

from ...models import text_encoder
from ...models.causal_vae import CausalVideoVAE
from ...training.batch import Batch, Losses, Networks
from ...training.data.captions import Combination
from ...training.data.datasets import AnimationDataset
from ...training.objectives.flow import FlowObjective
from ...training.presets import TEXT_DROPOUT
from ...training.run.loop import OnStep, TrainingRun
from ...training.run.train_settings import TrainSettings
from ...training.trainer import train
from .latents import cached_latents, encode_clips
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


@dataclass(frozen=True, eq=False)
class FlowClips:
    """Batches of whole clips, of clips of half their size and of first frames, a kind a step."""

    run: TrainingRun
    kinds: Mapping[str, CaptionedLatents]  # by the keys of `BATCHES`

    def draw(self, generator: torch.Generator, dropout: float) -> Batch:
        """One batch of one kind; a share `dropout` of the texts is empty."""
        return self.kinds[draw_kind(self.run.done, generator)].draw(generator, dropout)

    def kind_of(self, latents: Tensor) -> str:
        """Which kind a batch is of."""
        return next(kind for kind, data in self.kinds.items() if data.latents.shape[1:] == latents.shape[1:])


@dataclass(frozen=True)
class KindsObjective:
    """The logarithm of the loss of a flow, which counts alike for every kind of clip, and the loss of each kind."""

    clips: FlowClips

    def __call__(self, networks: Networks, batch: Batch, generator: torch.Generator) -> Losses:
        """`loss`, and the loss of the flow under the name of the kind."""
        error = OBJECTIVE(networks, batch, generator)["loss"]
        return {"loss": error.log(), self.clips.kind_of(batch.latents): error}


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
    halved = AnimationDataset(
        dataset.folder, dataset.subjects, dataset.size // 2, dataset.frames, dataset.fps, dataset.split
    )
    half = encode_clips(halved, vae, folder, clips, settings.seed + 6)
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
    data = FlowClips(run, kinds)
    train(trained.model, OutlineObjective(KindsObjective(data), outlines), data, TEXT_DROPOUT, on_step)
    return trained


def draw_kind(done: float, generator: torch.Generator) -> str:
    """What a step learns from, after the part `done` of the run: a key of `BATCHES`."""
    shares = {"stills": 0.5, "half": 0.5} if done < CHEAP_FIRST else SHARES
    weights = torch.tensor(list(shares.values()))
    return list(shares)[int(torch.multinomial(weights, 1, generator=generator))]


def learn_words(recipe: Recipe, combinations: list[Combination], seed: int) -> text_encoder.Tokenizer:
    """A tokenizer that has read many sentences."""
    generator = torch.Generator().manual_seed(seed + 2)
    texts = [recipe.say(combinations[i % len(combinations)], generator) for i in range(MANY_SENTENCES)]
    return text_encoder.Tokenizer.train(texts, recipe.vocabulary, recipe.text["max_tokens"])


def outlines(latents: Tensor) -> Tensor:
    """The coarse clip, frame by frame, (n, features); that of a first frame alone is the beginning of it."""
    frames = latents.shape[2]
    return adaptive_avg_pool3d(latents, (frames, OUTLINE_EDGE, OUTLINE_EDGE)).transpose(1, 2).flatten(1)
