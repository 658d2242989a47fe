"""The VAE of 128 pixels: convolutions that overlap, taught on pieces with a figure.

Pictures come first: a share of the run learns single frames, many in little time; then it learns clips. Beside a plain
code of blocks this one keeps faces and stripes, and what a transformer gets wrong comes out as soft grain, not as
coloured blocks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ...models.causal_vae import CausalVideoVAE
from ...models.causal_vae_config import CausalVAEConfig
from ...training.data.datasets import AnimationDataset
from ...training.data.video_pool import draw_pool
from ...training.objectives.vae import VAEObjective
from ...training.run.loop import OnStep
from ...training.run.train_settings import TrainSettings
from ...training.trainers.vae import TrainedVAE, new_vae, train_vae
from .figure_crops import FigureCrops
from .recipe import RECIPES, Recipe
from .small_vae import start_vae

OBJECTIVE = VAEObjective(squared=2.0, foreground=4.0, gradient=2.0, latent_noise=0.25, downscaled=0.1)
DECODER_OBJECTIVE = replace(OBJECTIVE, adversarial=0.3, feature_matching=0.1, colour=6.0)
PICTURES_FIRST = 0.1  # share of the run
PICTURES = 16  # in a batch of them
# Frames and batch of the later steps, in turn. A VAE that knew pieces of nine frames alone let the colours of the
# frames after them drift, by 5 to 12 of 255.
PIECES = ((17, 3), (9, 6), (17, 3), (5, 6))


@dataclass(frozen=True, eq=False)
class PicturesThenClips:
    """Crops with a figure: at first single frames, if `pictures_first`, then pieces of the lengths in `PIECES`."""

    crops: FigureCrops
    pictures_first: bool

    def draw(self, step: int, done: float, generator: torch.Generator) -> Tensor:
        """A batch (b, 3, t, h, w) in -1..1, channels last."""
        pictures = self.pictures_first and done < PICTURES_FIRST
        frames, batch = (1, PICTURES) if pictures else PIECES[step % len(PIECES)]
        return self.crops.draw(frames, batch, generator).contiguous(memory_format=torch.channels_last_3d)


def train_figure_vae(
    dataset: AnimationDataset,
    folder: Path,
    settings: TrainSettings,
    clips: int = 1500,  # fewer are learned by heart: with 480 the VAE was 1 dB better on them than on unseen ones
    begun: CausalVideoVAE | None = None,
    discriminator_start: int | None = None,
    on_step: OnStep | None = None,
    recipe: Recipe = RECIPES[128],
) -> TrainedVAE:
    """Train the VAE on pieces of `clips` drawn clips; `begun` as in `train_small_vae`.

    From step `discriminator_start` on a discriminator learns beside it. None is the first step for a decoder that is
    `begun`: its latents stay as they are, and what they do not tell is blurred unless it must look real. For a whole
    VAE it is never.
    """
    (pool,) = draw_pool(dataset, clips, torch.Generator().manual_seed(settings.seed + 1))
    vae = begun if begun is not None else new_vae(CausalVAEConfig.from_dict(recipe.vae), settings.seed)
    vae = vae.to(memory_format=torch.channels_last_3d)
    decoder_only = begun is not None
    if decoder_only and discriminator_start is None:
        discriminator_start = 0
    if discriminator_start:
        settings = replace(settings, module_rates={})  # nothing is to wait for
    objective = DECODER_OBJECTIVE if decoder_only else OBJECTIVE
    trained = start_vae(vae, decoder_only, discriminator_start is not None, folder, settings)
    pieces = PicturesThenClips(FigureCrops(pool, edge=dataset.size // 2), pictures_first=not decoder_only)
    return train_vae(trained, pieces, objective, discriminator_start, on_step)
