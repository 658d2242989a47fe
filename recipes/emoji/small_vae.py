"""The VAE of the pack's small model: what it is made of, and the runs that train it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from ...models import causal_vae, checkpoints, frame_discriminator
from ...training.block_fit import fit_block_shortcut
from ...training.data.captions import Combination
from ...training.data.datasets import AnimationDataset
from ...training.objectives.vae import VAELoss
from ...training.presets import ENCODING, FITTED_CLIPS, SMALL_VAE_CONFIG
from ...training.run.loop import OnStep, TrainingRun, TrainSettings

SUBJECTS = (
    "tiger", "rabbit", "octopus", "snail", "penguin", "whale", "dolphin", "dragon", "pig", "cow", "elephant",
    "turtle", "honeybee", "baby chick", "racing car", "birthday cake", "christmas tree", "sun", "fish", "snake",
)  # fmt: skip

VAE_TRAINING = {"steps": 750, "learning_rate": 3e-4, "warmup": 50, "average": 0.998}
DECODER_TRAINING = {"steps": 1500, "learning_rate": 5e-4, "warmup": 50, "average": 0.998}
PIECES = ((9, 2), (17, 1))  # frames and batch of the VAE's steps, in turn
VAE_FILE = "vae/pyramid_video_small_vae.safetensors"


def render(dataset: AnimationDataset, count: int, generator: torch.Generator) -> tuple[Tensor, list[Combination]]:
    """Draw `count` clips once, as bytes `(n, 3, t, h, w)`, so that training does not wait for drawing."""
    videos, combinations = [], []
    for _ in range(count):
        video, _, chosen = dataset.sample(generator, 1)
        videos.append(to_bytes(video[0]))
        combinations += chosen
    return torch.stack(videos), combinations


def to_bytes(videos: Tensor) -> Tensor:
    """Pixels in -1..1 to the nearest of 0..255; any shape."""
    return ((videos + 1) * 127.5).round().to(torch.uint8)


def train_vae(
    dataset: AnimationDataset,
    folder: Path,
    settings: TrainSettings,
    clips: int = 1200,
    begun: causal_vae.CausalVideoVAE | None = None,
    judged_from: int | None = None,
    on_step: OnStep | None = None,
) -> TrainingRun:
    """Train the small VAE on pieces of clips, from the best linear code of their blocks on.

    Or train the decoder of a VAE that is `begun` already: its encoder stays as it is, so that transformers which know
    its latents still do. From step `judged_from` on (None: never) a discriminator learns beside it, and the VAE learns
    to look real too.
    """
    draw = torch.Generator().manual_seed(settings.seed + 1)
    pool, _ = render(dataset, clips, draw)
    if begun is None:
        vae = causal_vae.CausalVideoVAE(causal_vae.CausalVAEConfig.from_dict(SMALL_VAE_CONFIG))
        causal_vae.init_weights(vae, torch.Generator().manual_seed(settings.seed))
        fit_block_shortcut(vae, pool[:FITTED_CLIPS].float() / 127.5 - 1, draw)
    else:
        vae = begun.train()
        freeze_encoder(vae)
    modules: dict[str, nn.Module] = {"vae": vae}
    if judged_from is not None:
        modules["discriminator"] = new_discriminator(settings.seed)
    run = TrainingRun(modules, settings, folder)
    run.resume()
    loss = VAELoss()

    def objective(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        frames, batch = PIECES[step % len(PIECES)]
        chosen = torch.randint(len(pool), (batch,), generator=generator)
        start = int(torch.randint(pool.shape[2] - frames + 1, (1,), generator=generator))
        video = pool[chosen, :, start : start + frames].to(run.device).float() / 127.5 - 1
        judged = judged_from is not None and step >= judged_from
        return loss(vae, video, generator, modules["discriminator"] if judged else None)

    return run.train(objective, on_step=on_step)


def freeze_encoder(vae: causal_vae.CausalVideoVAE) -> None:
    """Let nothing learn that latents depend on."""
    for name, parameter in vae.named_parameters():
        parameter.requires_grad_(not name.startswith(ENCODING))


def new_discriminator(seed: int) -> frame_discriminator.FrameDiscriminator:
    """A discriminator of frames that knows nothing yet."""
    discriminator = frame_discriminator.FrameDiscriminator()
    frame_discriminator.init_weights(discriminator, torch.Generator().manual_seed(seed + 2))
    return discriminator


def export_vae(run: TrainingRun, folder: Path) -> Path:
    """Write the averaged VAE where the loaders look, in float16: half the size, no visible difference."""
    config = run.modules["vae"].config
    return checkpoints.save(folder / VAE_FILE, run.averaged()["vae"], "causal_vae", config, dtype=torch.float16)
