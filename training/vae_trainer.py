"""Train a causal video VAE on any dataset: from nothing, or one from a file, whole or its decoder alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..models import checkpoints
from ..models.causal_vae import CausalVideoVAE, init_weights
from ..models.causal_vae_config import CausalVAEConfig
from ..models.frame_discriminator import FrameDiscriminator
from ..models.frame_discriminator import init_weights as init_discriminator
from .block_fit import fit_block_shortcut
from .data.datasets import VideoDataset
from .objectives.vae import VAELoss
from .presets import ENCODING, FITTED_CLIPS, SMALL_VAE_CONFIG
from .run.loop import OnStep, TrainingRun, run_exists
from .run.run_description import earlier_description, write_description
from .trainer import TrainingPlan

SIZES = {"small": CausalVAEConfig.from_dict(SMALL_VAE_CONFIG), "official": CausalVAEConfig()}
Pool = tuple[Tensor, ...]  # byte clips (n, 3, t, h, w), one tensor for each size of clip


@dataclass(frozen=True)
class VAETrainee:
    """A VAE before it is trained: a new one of a `size`, or the one in the file `weights`.

    With `decoder_only` what makes latents stays as it is, so that models which know them still do.
    """

    size: str = "small"
    weights: Path | None = None
    decoder_only: bool = False

    def __post_init__(self) -> None:
        if self.weights is None and self.size not in SIZES:
            raise ValueError(f"unknown size {self.size!r}; expected one of {', '.join(SIZES)}")
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


@dataclass(frozen=True)
class Pieces:
    """What is learned in a step: `frames` pictures of some clips, or every `pictures_every`-th step single pictures."""

    frames: int
    batch: int
    pictures_every: int = 4

    def draw(self, pool: Pool, step: int, generator: torch.Generator) -> Tensor:
        """A batch (b, 3, t, h, w) in -1..1; sizes are drawn as often as they have clips."""
        counts = torch.tensor([float(len(clips)) for clips in pool])
        clips = pool[int(torch.multinomial(counts, 1, generator=generator))]
        single = self.pictures_every > 0 and step % self.pictures_every == self.pictures_every - 1
        frames, batch = (1, self.batch * self.frames) if single else (self.frames, self.batch)
        rows = torch.randint(len(clips), (batch,), generator=generator)
        starts = torch.randint(clips.shape[2] - frames + 1, (batch,), generator=generator).tolist()
        cut = [clips[row, :, start : start + frames] for row, start in zip(rows.tolist(), starts, strict=True)]
        return torch.stack(cut).float() / 127.5 - 1


def draw_pool(dataset: VideoDataset, clips: int, seed: int, on_clip: Callable[[int, int], None] | None = None) -> Pool:
    """Draw `clips` clips once, as bytes, so that training does not wait for them."""
    generator, by_size = torch.Generator().manual_seed(seed), {}
    for done in range(1, clips + 1):
        video = ((dataset.sample(generator, 1)[0][0] + 1) * 127.5).round().to(torch.uint8)
        by_size.setdefault(tuple(video.shape), []).append(video)
        if on_clip is not None:
            on_clip(done, clips)
    return tuple(torch.stack(videos) for videos in by_size.values())


def start_vae_run(
    trainee: VAETrainee, pool: Pool, pieces: Pieces, folder: Path, plan: TrainingPlan, judged: bool, data_key: str
) -> TrainedVAE:
    """A run of `trainee` in `folder`: a new one, or the one that is there; ValueError where that is of another VAE."""
    settings = plan.settings
    if trainee.weights is None:
        vae = CausalVideoVAE(SIZES[trainee.size])
        init_weights(vae, torch.Generator().manual_seed(settings.seed))
    else:
        vae, _ = checkpoints.load(trainee.weights, ["causal_vae"], dtype=torch.float32)
    check_pieces(vae.config, pool, pieces)
    if trainee.weights is None and vae.config.block_shortcut and not run_exists(folder):
        some = pool[0][:FITTED_CLIPS].float() / 127.5 - 1
        fit_block_shortcut(vae, some, torch.Generator().manual_seed(settings.seed + 1))
    for name, parameter in vae.train().named_parameters():
        parameter.requires_grad_(not (trainee.decoder_only and name.startswith(ENCODING)))
    modules: dict[str, nn.Module] = {"vae": vae}
    if judged:
        modules["discriminator"] = FrameDiscriminator()
        for clips in pool:  # now, not at the step from which on it judges
            modules["discriminator"].check_size(*clips.shape[3:])
        init_discriminator(modules["discriminator"], torch.Generator().manual_seed(settings.seed + 2))
    config = vae.config.to_dict()
    description = {"kind": "causal_vae", "config": config, "seed": settings.seed}
    description |= {"discriminator": judged, "data": data_key}
    earlier_description(folder, description)
    run = TrainingRun(modules, settings, folder)
    run.resume()
    if run.is_main:
        write_description(folder, description)
    return TrainedVAE(run, vae.config)


def train_vae(
    trained: TrainedVAE,
    pool: Pool,
    pieces: Pieces,
    loss: VAELoss,
    judged_from: int | None = None,
    on_step: OnStep | None = None,
) -> TrainedVAE:
    """Take the steps that are left; from step `judged_from` on (None: never) a discriminator teaches the VAE too."""
    run = trained.run
    if loss.perceptual is not None:
        loss.perceptual.distance.to(run.device)

    def lesson(step: int, generator: torch.Generator) -> Mapping[str, Tensor]:
        video = pieces.draw(pool, step, generator).to(run.device)
        judged = judged_from is not None and step >= judged_from
        return loss(run.modules["vae"], video, generator, run.modules["discriminator"] if judged else None)

    run.train(lesson, on_step=on_step)
    return trained


def check_pieces(config: CausalVAEConfig, pool: Pool, pieces: Pieces) -> None:
    """Raise ValueError unless the VAE can make latents of pieces this long and this large."""
    step, longest = config.time_compression, min(clips.shape[2] for clips in pool)
    if (pieces.frames - 1) % step or not 1 <= pieces.frames <= longest:
        near = max(1, (min(pieces.frames, longest) - 1) // step * step + 1)
        raise ValueError(
            f"pieces of {pieces.frames} frames, from clips of {longest}: this VAE takes {step}k+1 frames, not more "
            f"than a clip has. The nearest is {near}"
        )
    for clips in pool:
        config.check_video(clips[:1, :, : pieces.frames])
