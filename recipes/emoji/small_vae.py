"""The VAE of 64 pixels: from the best linear code of blocks on, taught on pieces of clips."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...models.causal_vae import CausalVideoVAE
from ...models.causal_vae_config import CausalVAEConfig
from ...training.data.datasets import AnimationDataset
from ...training.data.video_pool import draw_pool, from_bytes
from ...training.objectives.vae import VAEObjective
from ...training.run.loop import OnStep, TrainingRun
from ...training.run.train_settings import TrainSettings
from ...training.trainers.vae import TrainedVAE, fit_to_pool, new_vae, train_vae, vae_modules
from .recipe import RECIPES

PIECES = ((9, 2), (17, 1))  # frames and batch of the steps, in turn


@dataclass(frozen=True, eq=False)
class AlternatingPieces:
    """Pieces of byte clips `(n, 3, t, h, w)`, of the lengths in `PIECES`, all of a batch from the same place."""

    clips: Tensor

    def draw(self, step: int, done: float, generator: torch.Generator) -> Tensor:
        """A batch (b, 3, t, h, w) in -1..1."""
        frames, batch = PIECES[step % len(PIECES)]
        chosen = torch.randint(len(self.clips), (batch,), generator=generator)
        start = int(torch.randint(self.clips.shape[2] - frames + 1, (1,), generator=generator))
        return from_bytes(self.clips[chosen, :, start : start + frames])


def train_small_vae(
    dataset: AnimationDataset,
    folder: Path,
    settings: TrainSettings,
    clips: int = 1200,
    begun: CausalVideoVAE | None = None,
    discriminator_start: int | None = None,
    on_step: OnStep | None = None,
) -> TrainedVAE:
    """Train the VAE on pieces of `clips` drawn clips.

    Or train the decoder of a VAE that is `begun` already: its encoder stays as it is, so that transformers which know
    its latents still do. From step `discriminator_start` on (None: never) a discriminator learns beside it, and the VAE
    learns to look real too.
    """
    generator = torch.Generator().manual_seed(settings.seed + 1)
    pool = draw_pool(dataset, clips, generator)
    vae = begun
    if vae is None:
        vae = new_vae(CausalVAEConfig.from_dict(RECIPES[64].vae), settings.seed)
        fit_to_pool(vae, pool, generator)
    trained = start_vae(vae, begun is not None, discriminator_start is not None, folder, settings)
    return train_vae(trained, AlternatingPieces(pool[0]), VAEObjective(), discriminator_start, on_step)


def start_vae(
    vae: CausalVideoVAE, decoder_only: bool, discriminator: bool, folder: Path, settings: TrainSettings
) -> TrainedVAE:
    """A run of a VAE: a new one, or the one in `folder`."""
    run = TrainingRun(vae_modules(vae.train(), decoder_only, discriminator, settings.seed), settings, folder)
    run.resume()
    return TrainedVAE(run, vae.config)
