"""The recipes of the small models that share VAE and text encoder with another: only the transformer is trained.

Of 64 pixels the pyramid comes first, and flow, diffusion and GAN go on from it; of 128 pixels the flow comes first (see
`small_flow`). All but the pyramid make all frames at once, so every frame may look at every other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...models import checkpoints, miniflux, text_encoder, video_discriminator
from ...models.causal_vae import CausalVideoVAE
from ...models.families import ModelFamily
from ...models.latent_format import LatentFormat
from ...samplers.noise_schedule import schedule_of
from ...samplers.stages import make_stages
from ...training.data import captions
from ...training.data.datasets import AnimationDataset
from ...training.model_source import DISCRIMINATOR_WIDTHS
from ...training.objectives.diffusion import DiffusionObjective
from ...training.objectives.flow import FlowObjective
from ...training.objectives.gan import BETAS, GANObjective
from ...training.objectives.pyramid import PyramidObjective, relative_loss
from ...training.run.loop import OnStep, TrainingRun, TrainSettings, run_exists
from ...training.trainer import TrainedModel
from . import small_flow
from .sentences import sentence
from .small_pyramid import (
    FIRST_UNITS,
    STAGE_RATIOS,
    TEXT_DROPOUT,
    TEXT_FILE,
    TRANSFORMER_CONFIG,
    TRANSFORMER_FILE,
    Say,
    cached_latents,
    draw_batch,
)

SMALL_FAMILIES = {
    "pyramid": ModelFamily("pyramid"),
    "flow": ModelFamily("flow"),
    "diffusion": ModelFamily("diffusion", schedule="cosine", prediction="v", zero_terminal_snr=True),
    "gan": ModelFamily("gan"),
}
TRAINING = {
    "flow": {"steps": 3000, "learning_rate": 1e-3, "warmup": 100, "average": 0.999},
    "diffusion": {"steps": 1600, "learning_rate": 1e-3, "warmup": 100, "average": 0.999},
    "gan": {"steps": 700, "learning_rate": 2e-4, "warmup": 100, "average": 0.99, "betas": BETAS},
}
BATCH = 32
FILES = {
    family: f"diffusion_models/pyramid_video_small_{family}.safetensors" for family in ("flow", "diffusion", "gan")
}
FILES["pyramid"] = TRANSFORMER_FILE


@dataclass(frozen=True)
class FamilyRecipe:
    """What the families of one picture size share: the transformer, the way clips are put in words, and who is first.

    `begins_with` names the family whose transformer a family goes on from.
    """

    config: Mapping[str, Any]
    begins_with: Mapping[str, str]
    say: Say
    training: Mapping[str, Mapping[str, Any]]


LATER = {**small_flow.FLOW_TRAINING, "learning_rate": 1e-3}
RECIPES = {
    64: FamilyRecipe(
        TRANSFORMER_CONFIG, {"flow": "pyramid", "diffusion": "flow", "gan": "flow"}, captions.caption, TRAINING
    ),
    128: FamilyRecipe(
        small_flow.TRANSFORMER_CONFIG,
        {"pyramid": "flow", "diffusion": "flow", "gan": "flow"},
        sentence,
        {"pyramid": LATER, "diffusion": LATER, "gan": {**TRAINING["gan"], "steps": 3000, "precision": "bf16"}},
    ),
}


def train_family(
    name: str,
    dataset: AnimationDataset,
    vae: CausalVideoVAE,
    models: Path,
    folder: Path,
    settings: TrainSettings,
    clips: int = 8000,
    batch: int = BATCH,
    begin_from: Path | None = None,
    on_step: OnStep | None = None,
) -> tuple[TrainingRun, LatentFormat]:
    """Train the transformer of family `name`, a key of `SMALL_FAMILIES`, with the text encoder in the folder `models`.

    A new run begins with a transformer of the folder `begin_from` (see `FamilyRecipe`), if given: what it knows of
    texts and shapes serves every family. A GAN needs it: its discriminator soon outplays a generator that knows
    nothing.
    """
    recipe = RECIPES[dataset.size]
    latents, combinations, latent_format = cached_latents(dataset, vae, folder, clips, settings.seed)
    info = checkpoints.inspect(models / TEXT_FILE, ["text_encoder"])
    encoder, tokenizer = checkpoints.build(info, dtype=torch.float32), checkpoints.load_tokenizer(info)
    modules = new_modules(name, recipe.config, latents.shape[1], settings.seed)
    if begin_from is not None and not run_exists(folder):
        start = checkpoints.inspect(begin_from / FILES[recipe.begins_with[name]], ["miniflux"])
        modules["transformer"].load_state_dict(checkpoints.load_state_dict(start, dtype=torch.float32))
    run = TrainingRun(modules, settings, folder)
    run.resume()
    encoder.to(run.device)
    if run.device.type == "cpu":
        modules["transformer"].attention = small_flow.explicit_attention
    loss = make_objective(name)

    def objective(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        dropout = 0.0 if name == "gan" else TEXT_DROPOUT
        chosen, texts = draw_batch(combinations, batch, dropout, generator, recipe.say)
        with torch.no_grad():
            features = text_encoder.encode_texts(encoder, tokenizer, texts)
        return loss(*modules.values(), latents[chosen].to(run.device), *features, generator)

    return run.train(objective, on_step=on_step), latent_format


def make_objective(name: str) -> PyramidObjective | FlowObjective | DiffusionObjective | GANObjective:
    """What a family learns."""
    if name == "pyramid":
        return PyramidObjective(
            make_stages(len(STAGE_RATIOS)), STAGE_RATIOS, first_units=FIRST_UNITS, loss=relative_loss
        )
    if name == "gan":
        return GANObjective()
    if name == "flow":
        return FlowObjective(times="logit_normal")
    return DiffusionObjective(schedule_of(SMALL_FAMILIES[name]))


def new_modules(name: str, config: Mapping[str, Any], channels: int, seed: int) -> dict[str, nn.Module]:
    """The networks of a family, ready to learn; only a pyramid hides later frames from earlier ones."""
    config = {**config, "use_temporal_causal": name == "pyramid"}
    network = miniflux.MiniFluxTransformer(miniflux.MiniFluxConfig.from_dict(config))
    miniflux.init_weights(network, torch.Generator().manual_seed(seed + 6))
    modules: dict[str, nn.Module] = {"transformer": network}
    if name == "gan":
        pooled = config["pooled_projection_dim"]
        modules["discriminator"] = video_discriminator.VideoDiscriminator(channels, pooled, DISCRIMINATOR_WIDTHS)
        video_discriminator.init_weights(modules["discriminator"], torch.Generator().manual_seed(seed + 7))
    return modules


def export_family(name: str, run: TrainingRun, latent_format: LatentFormat, folder: Path) -> Path:
    """Write the averaged transformer where the loaders look, in float16."""
    config = run.modules["transformer"].config
    return TrainedModel(run, "miniflux", config, SMALL_FAMILIES[name], latent_format).save(folder / FILES[name])
