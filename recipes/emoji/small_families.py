"""The families that share VAE and text encoder with the first one of a recipe: only the transformer is trained.

Of 64 pixels the pyramid comes first, and flow, diffusion and GAN go on from it; of 128 pixels the flow comes first. All
but the pyramid make all frames at once, so every frame may look at every other.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from ...models import checkpoints, video_discriminator
from ...models.causal_vae import CausalVideoVAE
from ...samplers.noise_schedule import schedule_of
from ...training.batch import Batch, Objective
from ...training.data.datasets import AnimationDataset
from ...training.objectives.diffusion import DiffusionObjective
from ...training.objectives.flow import FlowObjective
from ...training.objectives.gan import GANObjective
from ...training.presets import DISCRIMINATOR_WIDTHS, TEXT_DROPOUT
from ...training.run.loop import OnStep, TrainingRun
from ...training.run.run_state import run_exists
from ...training.run.train_settings import TrainSettings
from ...training.trainers.model import TrainedModel, TrainingData, train
from . import small_pyramid
from .kinds import KindsObjective, KindsOfClips
from .latents import cached_latents, encode_clips, resized
from .recipe import FAMILIES, RECIPES, TEXT_FILE, TRANSFORMER_FILES, Recipe
from .texts import CaptionedLatents, explicit_attention, new_transformer

OBJECTIVES: dict[str, Objective[Batch]] = {  # by family
    "pyramid": small_pyramid.OBJECTIVE,
    "flow": FlowObjective("logit_normal"),
    "diffusion": DiffusionObjective(schedule_of(FAMILIES["diffusion"])),
    "gan": GANObjective(),
}
TWO_SIZES = {"own": 0.3, "double": 0.7}  # shares of the steps of a family that learns two sizes


def train_family(
    name: str,
    dataset: AnimationDataset,
    vae: CausalVideoVAE,
    models: Path,
    folder: Path,
    settings: TrainSettings,
    clips: int = 8000,
    batch_size: int | None = None,
    begin_from: Path | None = None,
    on_step: OnStep | None = None,
    recipe: Recipe | None = None,
) -> TrainedModel:
    """Train the transformer of the family `name`, with the text encoder in the folder `models`.

    A new run begins with a transformer of the folder `begin_from` (see `Recipe`), if given: what it knows of texts and
    shapes serves every family. A GAN needs it: its discriminator soon outplays a generator that knows nothing. One of
    `recipe.two_sizes` also learns clips of twice the size of `dataset`, half as many at once.
    """
    recipe = recipe or RECIPES[dataset.size]
    latents, combinations, latent_format = cached_latents(dataset, vae, folder, clips, settings.seed)
    info = checkpoints.inspect(models / TEXT_FILE, ["text_encoder"])
    encoder, tokenizer = checkpoints.build(info, dtype=torch.float32), checkpoints.load_tokenizer(info)
    network = new_transformer(recipe, name, settings.seed + 6)
    if begin_from is not None and not run_exists(folder):
        start = checkpoints.inspect(begin_from / TRANSFORMER_FILES[recipe.begins_with[name]], ["miniflux"])
        network.load_state_dict(checkpoints.load_state_dict(start, dtype=torch.float32))
    modules: dict[str, nn.Module] = {"transformer": network}
    if name == "gan":
        widths = latents.shape[1], network.config.pooled_width, DISCRIMINATOR_WIDTHS
        modules["discriminator"] = video_discriminator.VideoDiscriminator(*widths)
        video_discriminator.init_weights(modules["discriminator"], torch.Generator().manual_seed(settings.seed + 7))
    run = TrainingRun(modules, settings, folder)
    run.resume()
    encoder.requires_grad_(False).to(run.device)
    if run.device.type == "cpu":
        network.attention = explicit_attention
    family = FAMILIES[name]
    batch_size = batch_size or (48 if name in recipe.two_sizes else 32)
    own = CaptionedLatents(latents, combinations, recipe.say, encoder, tokenizer, batch_size)
    data: TrainingData = own
    objective = OBJECTIVES[family.name]
    if name in recipe.two_sizes:
        more = encode_clips(resized(dataset, 2 * dataset.size), vae, folder, clips, settings.seed + 6)
        double = CaptionedLatents(*more, recipe.say, encoder, tokenizer, max(1, batch_size // 2))
        data = KindsOfClips({"own": own, "double": double}, lambda: TWO_SIZES)
        objective = KindsObjective(objective, data)
    trained = TrainedModel(run, "miniflux", network.config, family, latent_format)
    return train(trained, objective, data, TEXT_DROPOUT, on_step)
