"""Clips that a pyramid makes unit after unit while they go on showing what drawn clips show: its own history.

Who has only seen true frames before a new one trusts them, and what a pyramid draws a little wrong grows from unit to
unit (exposure bias, Bengio et al. 2015, arXiv 1506.03099; for video Self Forcing, Huang et al. 2025, arXiv 2506.08009).
A clip that is rolled out has the pyramid's own faults. Its coarse pictures are led back to the drawn clip in each unit,
so figures stand and move as they do there, and the drawn clip's next frame is what should follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ...models.fingerprint import fingerprint
from ...models.latent_format import LatentFormat
from ...models.miniflux import MiniFluxTransformer
from ...models.text_encoder import encode_texts
from ...samplers.guidance import PyramidGuidance
from ...samplers.noise import block_noise, double, draw_noise, noise_pyramid, pyramid, row_generators
from ...samplers.pyramid import StepInfo, Velocity, sample_pyramid
from ...samplers.stages import PyramidStages, make_stages
from ...training.batch import Batch
from ...training.data.cache_files import SUFFIX, digest, read_tensors, write_tensors
from ...training.data.captions import caption
from ...training.run.run_state import run_exists
from .texts import CaptionedLatents

TRUE_STAGES = (2, 1)  # coarse stages of the first unit and of later ones that end at the drawn clip
STEPS = ((1, 1, 5), (1, 2, 2))  # one where the end is known
GUIDANCE = PyramidGuidance(3.5, 2.5, coarse=0.0)
MOST = 1000  # clips; more than these cost more time than they save
BATCH = 32
OWN = 0.5  # share of the rows that have a history of the pyramid's own


@dataclass(frozen=True, eq=False)
class RolledOutLatents(CaptionedLatents):
    """Batches in which a share `OWN` of the rows has a history that was rolled out: `rolled`, of the first clips."""

    rolled: Tensor

    def draw(self, generator: torch.Generator, dropout: float) -> Batch:
        """One batch; a share `dropout` of the texts is empty."""
        own = torch.rand(self.batch_size, generator=generator) < OWN
        any_clip, one_of_these = (
            torch.randint(len(clips), (self.batch_size,), generator=generator) for clips in (self.latents, self.rolled)
        )
        chosen = torch.where(own, one_of_these, any_clip)
        batch = self.batch_of(chosen.tolist(), generator, dropout)
        history = batch.latents.clone()
        history[own] = self.rolled[chosen[own]].to(history)
        return replace(batch, history=history)


def with_own_history(
    data: CaptionedLatents, network: MiniFluxTransformer, latent_format: LatentFormat, folder: Path, seed: int
) -> RolledOutLatents:
    """The same clips, the first of which the pyramid `network` rolls out, once; the run's `folder` keeps what it made.

    Raises ValueError where a run that has begun in `folder` learned from others.
    """
    count, made_by, rolled = min(MOST, len(data.latents)), fingerprint(network), []
    begun = run_exists(folder)  # whose network has learned since
    for first in range(0, count, BATCH):
        path = folder / "rolled_out" / f"{first:05}{SUFFIX}"
        rows = slice(first, min(first + BATCH, count))
        key = digest([TRUE_STAGES, STEPS, seed], [("latents", data.latents[rows])])
        kept = read_tensors(path)
        if begun and (kept is None or kept[1]["clips"] != key):
            raise ValueError(
                f"the run in {folder} learned from other clips, or they are there no more: give the run a new folder, "
                "or the VAE, animations, number of clips and seed that it was started with"
            )
        described = {"clips": key, "pyramid": made_by}
        if kept is None or not (begun or kept[1] == described):
            kept = {"rolled": roll_out_rows(data, rows, network, latent_format, seed + first)}, described
            write_tensors(path, *kept)
        rolled.append(kept[0]["rolled"])
    return RolledOutLatents(**vars(data), rolled=torch.cat(rolled))


@torch.no_grad()
def roll_out_rows(
    data: CaptionedLatents, rows: slice, network: MiniFluxTransformer, latent_format: LatentFormat, seed: int
) -> Tensor:
    """Roll out some rows of `data`, with captions drawn by `seed`; latents in the VAE's scale."""
    generator, device = torch.Generator().manual_seed(seed), next(network.parameters()).device
    captions = [caption(combination, generator) for combination in data.combinations[rows]]
    clean = latent_format.normalize(data.latents[rows].float().to(device))
    stages = make_stages(first_steps=STEPS[0], video_steps=STEPS[1])
    rolled = roll_out(guided(network, data, captions), clean, stages, seed)
    return latent_format.denormalize(rolled).cpu()


def guided(network: MiniFluxTransformer, data: CaptionedLatents, captions: Sequence[str]) -> Velocity:
    """The velocity of a pyramid for captions, with guidance."""
    texts = encode_texts(data.encoder, data.tokenizer, [*[""] * len(captions), *captions])

    def velocity(x: Tensor, info: StepInfo) -> Tensor:
        clips = tuple(torch.cat([clip, clip]) for clip in (*info.history, x))
        timestep = torch.full((len(texts),), info.timestep, device=x.device)
        without, with_text = network(clips, timestep, texts.tokens, texts.mask, texts.pooled).chunk(2)
        return GUIDANCE.combine(without, with_text, info.unit, info.stage)

    return velocity


def roll_out(velocity: Velocity, clean: Tensor, stages: PyramidStages, seed: int) -> Tensor:
    """Make a clip in the shape of the normalised clip `clean (n, c, t, h, w)`, led back to it as `TRUE_STAGES` says.

    After a stage that counts as true the jump starts from `q * noise + (1 - q) * clean`, where the stage would have
    ended had it met the clip; q is the share of noise there.
    """
    levels, noise, generators = (
        pyramid(clean, len(stages)),
        draw_noise(clean.shape, seed),
        row_generators(seed, len(clean)),
    )
    noises = noise_pyramid(noise.to(clean), len(stages))

    def renoise(unit: int, stage: int, like: Tensor) -> Tensor:
        white = block_noise(like, stages.gamma, generators)
        if stage > TRUE_STAGES[unit > 0]:
            return white
        q, now = stages.stages[stage - 1].sigma_end, slice(unit, unit + 1)
        end = q * noises[stage - 1][:, :, now] + (1 - q) * levels[stage - 1][:, :, now]
        alpha, beta = stages.jump(stage)
        return white + alpha / beta * (double(end) - like)

    return sample_pyramid(velocity, noise.to(clean), stages, generators=generators, renoise=renoise)
