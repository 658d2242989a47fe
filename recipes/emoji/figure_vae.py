"""The recipe of the VAE for the small models of 128 pixels: convolutions that overlap, taught on pieces with a figure.

Pictures come first: a share of the run learns single frames, many in little time; then it learns clips. Beside a plain
code of blocks this one keeps faces and stripes, and what a transformer gets wrong comes out as soft grain, not as
coloured blocks.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from ...models import causal_vae
from ...training.data.datasets import AnimationDataset
from ...training.objectives.vae import VAELoss
from ...training.run.loop import OnStep, TrainingRun, TrainSettings
from .figure_crops import FigureCrops
from .small_vae import freeze_encoder, new_discriminator, render

VAE_CONFIG = {
    "patch_size": 4,
    "frame_blocks": True,
    "encoder_out_channels": 16,
    "encoder_block_out_channels": [96, 96],
    "encoder_layers_per_block": [1, 1],
    "encoder_spatial_down_sample": [True, False],
    "encoder_temporal_down_sample": [True, True],
    "encoder_norm_num_groups": 8,
    "decoder_in_channels": 16,
    "decoder_block_out_channels": [96, 96, 96],
    "decoder_layers_per_block": [1, 1, 2],
    "decoder_spatial_up_sample": [False, True, False],
    "decoder_temporal_up_sample": [True, True, False],
    "decoder_norm_num_groups": 8,
}
VAE_TRAINING = {
    "steps": 60000,
    "learning_rate": 2e-3,
    "warmup": 60,
    "betas": (0.9, 0.99),
    "optimizer": "muon",
    "precision": "bf16",
    "average": 0.999,
}
DECODER_TRAINING = {**VAE_TRAINING, "learning_rate": 1e-3}
LOSS = VAELoss(squared=2.0, foreground=4.0, gradient=2.0, latent_noise=0.25, downscaled=0.1)
PICTURES_FIRST = 0.1  # share of the run
PICTURES = 16  # in a batch of them
PIECES = ((5, 6), (5, 6), (9, 6))  # frames and batch of the later steps, in turn
CLIPS = 1500  # fewer are learned by heart: with 480 the VAE was 1 dB better on them than on unseen ones


def train_figure_vae(
    dataset: AnimationDataset,
    folder: Path,
    settings: TrainSettings,
    clips: int = CLIPS,
    begun: causal_vae.CausalVideoVAE | None = None,
    judged_from: int | None = None,
    on_step: OnStep | None = None,
) -> TrainingRun:
    """Train the VAE on pieces of `clips` drawn clips; `begun` and `judged_from` as in `small_vae.train_vae`."""
    pool, _ = render(dataset, clips, torch.Generator().manual_seed(settings.seed + 1))
    crops = FigureCrops(pool, edge=dataset.size // 2)
    if begun is None:
        vae = causal_vae.CausalVideoVAE(causal_vae.CausalVAEConfig.from_dict(VAE_CONFIG))
        causal_vae.init_weights(vae, torch.Generator().manual_seed(settings.seed))
    else:
        vae = begun
        freeze_encoder(vae)
    vae = vae.train().to(memory_format=torch.channels_last_3d)
    modules: dict[str, nn.Module] = {"vae": vae}
    if judged_from is not None:
        modules["discriminator"] = new_discriminator(settings.seed)
    run = TrainingRun(modules, settings, folder)
    run.resume()

    def objective(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        pictures = begun is None and run.done < PICTURES_FIRST
        frames, batch = (1, PICTURES) if pictures else PIECES[step % len(PIECES)]
        video = crops.draw(frames, batch, generator).to(run.device)
        judged = judged_from is not None and step >= judged_from
        discriminator = modules["discriminator"] if judged else None
        return LOSS(vae, video.contiguous(memory_format=torch.channels_last_3d), generator, discriminator)

    return run.train(objective, on_step=on_step)
