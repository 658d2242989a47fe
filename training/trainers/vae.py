"""Train a causal video VAE on any dataset: from nothing, or one from a file, whole or its decoder alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from ...models import checkpoints
from ...models.causal_vae import CausalVideoVAE, init_weights
from ...models.causal_vae_config import CausalVAEConfig
from ...models.frame_discriminator import FrameDiscriminator
from ...models.frame_discriminator import init_weights as init_discriminator
from ..batch import Losses, Networks
from ..data.video_pool import Pool, VideoPieces, from_bytes
from ..objectives.vae import VAEObjective
from ..presets import ENCODING, FITTED_CLIPS, VAE_SIZES
from ..run.loop import OnStep, TrainingRun, open_run
from ..run.run_state import run_exists
from ..run.train_settings import TrainSettings
from .block_fit import fit_block_shortcut


@dataclass(frozen=True)
class VAESource:
    """A new VAE of a `size`, or the one in the file `weights`.

    With `decoder_only` what makes latents stays as it is, so that models which know them still do.
    """

    size: str = "small"
    weights: Path | None = None
    decoder_only: bool = False

    def __post_init__(self) -> None:
        if self.weights is None and self.size not in VAE_SIZES:
            raise ValueError(f"unknown size {self.size!r}; expected one of {', '.join(VAE_SIZES)}")
        if self.weights is None and self.decoder_only:
            raise ValueError(
                "decoder_only keeps an encoder that has learned something: choose a VAE from a file for it"
            )


@dataclass(frozen=True)
class TrainedVAE:
    """A run that trains a VAE: it travels on a TRAINING_RUN wire."""

    run: TrainingRun
    config: CausalVAEConfig

    def save(self, path: Path, dtype: torch.dtype = torch.float16, replace: bool = True) -> Path:
        """Write the VAE with averaged weights as one file that the loader takes; see `checkpoints.save`."""
        weights = self.run.averaged()["vae"]
        return checkpoints.save(path, weights, "causal_vae", self.config, dtype=dtype, replace=replace)


class VideoBatches(Protocol):
    """What a VAE learns from."""

    def draw(self, step: int, done: float, generator: torch.Generator) -> Tensor:
        """A batch (b, 3, t, h, w) in -1..1 for the step `step`, before which a part `done` of the run is done."""
        ...


def start_vae_run(
    source: VAESource, pieces: VideoPieces, folder: Path, settings: TrainSettings, discriminator: bool, data_key: str
) -> TrainedVAE:
    """A run in `folder` of the VAE from `source`: a new one, or the one that is there, where it stopped.

    ValueError where the run that is there trains another VAE, or this one cannot learn from such pieces.
    """
    if source.weights is None:
        vae = new_vae(CausalVAEConfig.from_dict(VAE_SIZES[source.size]), settings.seed)
    else:
        vae = cast(CausalVideoVAE, checkpoints.load(source.weights, ["causal_vae"], dtype=torch.float32)[0])
    check_pieces(vae.config, pieces)
    if source.weights is None and vae.config.block_shortcut and not run_exists(folder):
        fit_to_pool(vae, pieces.pool, torch.Generator().manual_seed(settings.seed + 1))
    modules = vae_modules(vae.train(), source.decoder_only, discriminator, settings.seed)
    if isinstance(new := modules.get("discriminator"), FrameDiscriminator):
        for clips in pieces.pool:  # now, not at the step from which on it learns
            new.check_size(*clips.shape[3:])
    config = vae.config.to_dict()
    description = {"kind": "causal_vae", "config": config, "seed": settings.seed}
    description |= {"discriminator": discriminator, "data": data_key}
    return TrainedVAE(open_run(modules, settings, folder, description), vae.config)


def new_vae(config: CausalVAEConfig, seed: int) -> CausalVideoVAE:
    """A VAE that knows nothing yet."""
    vae = CausalVideoVAE(config)
    init_weights(vae, torch.Generator().manual_seed(seed))
    return vae


def fit_to_pool(vae: CausalVideoVAE, pool: Pool, generator: torch.Generator) -> None:
    """Start the shortcuts of a VAE from the best linear code of some clips; see `fit_block_shortcut`."""
    fit_block_shortcut(vae, from_bytes(pool[0][:FITTED_CLIPS]), generator)


def vae_modules(vae: CausalVideoVAE, decoder_only: bool, discriminator: bool, seed: int) -> dict[str, nn.Module]:
    """What a run of a VAE trains: the VAE, its encoder fixed if `decoder_only`, and a new discriminator of frames."""
    for name, parameter in vae.named_parameters():
        parameter.requires_grad_(not (decoder_only and name.startswith(ENCODING)))
    modules: dict[str, nn.Module] = {"vae": vae}
    if discriminator:
        modules["discriminator"] = new = FrameDiscriminator()
        init_discriminator(new, torch.Generator().manual_seed(seed + 2))
    return modules


def train_vae(
    trained: TrainedVAE,
    videos: VideoBatches,
    objective: VAEObjective,
    discriminator_start: int | None = None,
    on_step: OnStep | None = None,
) -> TrainedVAE:
    """Take the steps that are left; from step `discriminator_start` on (None: never) a discriminator teaches it too."""
    run = trained.run
    alone: Networks = {"vae": run.modules["vae"]}
    if objective.perceptual is not None:
        objective.perceptual.distance.to(run.device)

    def training_step(step: int, generator: torch.Generator) -> Losses:
        video = videos.draw(step, run.done, generator).to(run.device)
        adversarial = discriminator_start is not None and step >= discriminator_start
        return objective(run.modules if adversarial else alone, video, generator)

    run.train(training_step, on_step=on_step)
    return trained


def check_pieces(config: CausalVAEConfig, pieces: VideoPieces) -> None:
    """Raise ValueError unless the VAE can make latents of pieces this long and this large."""
    step, longest = config.time_compression, min(clips.shape[2] for clips in pieces.pool)
    if (pieces.frames - 1) % step or not 1 <= pieces.frames <= longest:
        near = max(1, (min(pieces.frames, longest) - 1) // step * step + 1)
        raise ValueError(
            f"pieces of {pieces.frames} frames, from clips of {longest}: this VAE takes {step}k+1 frames, not more "
            f"than a clip has. The nearest is {near}"
        )
    for clips in pieces.pool:
        config.check_video(clips[:1, :, : pieces.frames])
