"""Captions in ever new words, and a text encoder that is trained together with the transformer of a family."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from ...models import checkpoints, miniflux, text_encoder
from ...models.checkpoint_info import CheckpointInfo
from ...models.files import write_beside
from ...models.latent_format import LatentFormat
from ...training.batch import Batch, Losses, Networks, Objective
from ...training.data.captions import Combination, caption
from ...training.objectives.draw import GeneratorDraw
from ...training.objectives.pyramid import drop_captions
from ...training.run.loop import TrainingRun
from ...training.run.run_description import read_record
from ...training.run.run_state import run_exists
from ...training.run.train_settings import TrainSettings
from ...training.trainers.model import TrainedModel
from .recipe import TEXT_FILE, TRANSFORMER_FILES, Recipe, TextRecipe


@dataclass(frozen=True, eq=False)
class CaptionedLatents:
    """Batches of latents, what they show said anew in every step and read by a text encoder."""

    latents: Tensor  # (n, c, t, h, w) in the VAE's scale
    combinations: Sequence[Combination]
    encoder: text_encoder.TextEncoder
    tokenizer: text_encoder.Tokenizer
    batch_size: int

    def draw(self, generator: torch.Generator, dropout: float) -> Batch:
        """One batch; a share `dropout` of the texts is empty."""
        chosen = torch.randint(len(self.latents), (self.batch_size,), generator=generator).tolist()
        return self.batch_of(chosen, generator, dropout)

    def batch_of(self, chosen: Sequence[int], generator: torch.Generator, dropout: float) -> Batch:
        """The batch of the rows `chosen`, in new words."""
        captions = [caption(self.combinations[row], generator) for row in chosen]
        captions = drop_captions(captions, dropout, GeneratorDraw(generator))
        return Batch(self.latents[list(chosen)], text_encoder.encode_texts(self.encoder, self.tokenizer, captions))


@dataclass(frozen=True)
class OutlineObjective:
    """What `objective` learns, and that a linear head predicts the outline of a clip from the pooled text alone.

    Where something is shows only in how it differs from its background, which depends on two words at once; behind the
    noise of a flow's targets the text encoder needs thousands of steps to find that out, here a few hundred. The head
    is thrown away afterwards. `outlines` gives the outlines (n, features) of latents.
    """

    objective: Objective[Batch]
    outlines: Callable[[Tensor], Tensor]

    def __call__(self, networks: Networks, batch: Batch, generator: torch.Generator) -> Losses:
        """The losses of `objective` and `outline`, the squared error of the outlines."""
        losses = self.objective(networks, batch, generator)
        error = mse_loss(networks["outline"](batch.text.pooled), self.outlines(batch.latents))
        return {**losses, "loss": losses["loss"] + error.log(), "outline": error}


@dataclass(frozen=True)
class TrainedWithText:
    """A transformer that was trained together with its text encoder."""

    model: TrainedModel
    tokenizer: text_encoder.Tokenizer

    def export(self, folder: Path) -> tuple[Path, Path]:
        """Write the averaged transformer and text encoder into a models folder, in float16."""
        text = save_text_encoder(averaged_encoder(self.model.run), self.tokenizer, folder)
        return self.model.save(folder / TRANSFORMER_FILES[self.model.family.name]), text


def averaged_encoder(run: TrainingRun) -> text_encoder.TextEncoder:
    """A text encoder with the averaged weights of that of a run."""
    encoder = text_encoder.TextEncoder(run.modules["text_encoder"].config)
    encoder.load_state_dict(run.averaged()["text_encoder"])
    return encoder.eval()


def save_text_encoder(encoder: text_encoder.TextEncoder, tokenizer: text_encoder.Tokenizer, folder: Path) -> Path:
    """Write a text encoder with its tokenizer into a models folder, in float16."""
    return checkpoints.save(
        folder / TEXT_FILE,
        encoder.state_dict(),
        "text_encoder",
        encoder.config,
        extra={"tokenizer": tokenizer.to_json()},
        dtype=torch.float16,
    )


def start_with_text(
    recipe: Recipe,
    text: TextRecipe,
    tokenizer: text_encoder.Tokenizer,
    outline_width: int,
    latent_format: LatentFormat,
    folder: Path,
    settings: TrainSettings,
    begin_from: Path | None = None,
) -> TrainedWithText:
    """A run of the pyramid with its text encoder: a new one, or the one in `folder`.

    A new run begins with the exported files of an earlier one in the models folder `begin_from`, if given; single
    blocks that they lack begin as the identity.
    """
    family = recipe.families["pyramid"]
    sizes = kept_sizes(folder, text, begin_from)
    encoder = text_encoder.TextEncoder(text_encoder.TextEncoderConfig(**{**sizes, "vocab_size": tokenizer.vocab_size}))
    text_encoder.init_weights(encoder, torch.Generator().manual_seed(settings.seed + 3))
    network = new_transformer(recipe, family.name, settings.seed + 4)
    if begin_from is not None and not run_exists(folder):
        load_exported(begin_from, family.name, network, encoder)
    outline = nn.Linear(encoder.config.pooled_width, outline_width)
    for parameter in outline.parameters():
        nn.init.zeros_(parameter)
    run = TrainingRun({"transformer": network, "text_encoder": encoder, "outline": outline}, settings, folder)
    run.resume()
    return TrainedWithText(TrainedModel(run, "miniflux", network.config, family, latent_format), tokenizer)


def new_transformer(recipe: Recipe, family: str, seed: int) -> miniflux.MiniFluxTransformer:
    """A transformer that knows nothing yet."""
    network = miniflux.MiniFluxTransformer(transformer_config(recipe, family))
    miniflux.init_weights(network, torch.Generator().manual_seed(seed))
    return network


def transformer_config(recipe: Recipe, family: str) -> miniflux.MiniFluxConfig:
    """The sizes of a transformer; only a pyramid hides later frames from earlier ones."""
    return miniflux.MiniFluxConfig.from_dict({**recipe.transformer, "use_temporal_causal": family == "pyramid"})


def check_sizes(start: CheckpointInfo, config: miniflux.MiniFluxConfig, may_grow: bool = False) -> None:
    """Raise a ValueError unless a network of `config` can begin with the file `start`, perhaps of fewer blocks."""
    sizes = config.to_dict()
    for size, found in start.config.to_dict().items():
        grows = may_grow and size == "num_single_layers" and found < sizes[size]
        if found != sizes[size] and not grows and size != "use_temporal_causal":
            raise ValueError(
                f"{start.path} is of another recipe: its {size} is {found}, and a model of this one has {sizes[size]}. "
                "Begin from models of the same --pixels"
            )


def load_exported(folder: Path, family: str, network: miniflux.MiniFluxTransformer, encoder: nn.Module) -> None:
    """Give two networks the weights in the models folder `folder`; `network` may have more single blocks."""
    info = checkpoints.inspect(folder / TEXT_FILE, ["text_encoder"])
    encoder.load_state_dict(checkpoints.load_state_dict(info, dtype=torch.float32))
    path = folder / TRANSFORMER_FILES[family]
    start = checkpoints.inspect(path, ["miniflux"])
    check_sizes(start, network.config, may_grow=True)
    weights = checkpoints.load_state_dict(start, dtype=torch.float32)
    missing, _ = network.load_state_dict(weights, strict=False)
    old = [key for key in missing if not key.startswith("single_transformer_blocks.")]
    if old:
        raise ValueError(f"{path} lacks {len(old)} tensors of this recipe, first {old[0]!r}")


def kept_sizes(folder: Path, recipe: TextRecipe, begin_from: Path | None) -> dict[str, Any]:
    """The sizes of the text encoder of a run: those in its folder; of a new run those of the file that it begins with,
    or of the recipe."""
    path = folder / "text_encoder.json"
    if path.exists():
        return read_record(path, "give the run a new folder")
    if begin_from is None or run_exists(folder):  # runs of older versions have no such file
        return dict(recipe.sizes)
    config = checkpoints.inspect(begin_from / TEXT_FILE, ["text_encoder"]).config
    with write_beside(path) as part:
        part.write_text(json.dumps(config.to_dict()), encoding="utf-8")
    return config.to_dict()


def kept_tokenizer(folder: Path, learn: Callable[[], text_encoder.Tokenizer]) -> text_encoder.Tokenizer:
    """The tokenizer in the folder of a run; what `learn` gives where there is none yet, which is then kept."""
    path = folder / "tokenizer.json"
    if path.exists():
        content = json.dumps(read_record(path, "remove it: the same command makes it again"))
        try:
            return text_encoder.Tokenizer.from_json(content)
        except Exception as error:  # the tokenizers library raises plain Exception
            raise ValueError(
                f"{path} holds no tokenizer of this pack. Put back a copy of it, or remove it: the same command makes "
                "it again"
            ) from error
    tokenizer = learn()
    with write_beside(path) as part:
        part.write_text(tokenizer.to_json(), encoding="utf-8")
    return tokenizer
