"""What a pyramidal flow learns from: noisy clips, their noise level, the velocity to predict (arXiv 2410.05954).

Random numbers come from one `Draw` in a fixed order: white noise for the whole batch; then for each column the
timesteps, the strength of the history noise, and that noise itself, newest clip first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...models.sizes import nearest_multiple
from ...models.text_features import TextFeatures
from ...samplers.history import corrupt_clips, history_clips
from ...samplers.noise import double, noise_pyramid, pyramid
from ...samplers.sigma_schedule import NUM_TRAIN_TIMESTEPS
from ...samplers.stages import PyramidStages
from ..batch import Batch, Losses, Networks
from .draw import UNIFORM, Draw, GeneratorDraw, TimestepSampling

HISTORY_NOISE = 1 / 3  # largest share of noise in the history during training
# A stage's end is nearly its clip, and the noise that is left there cannot be told; what it will be is decided before.
BEGINNINGS = TimestepSampling("logit_normal", mean=0.7, deviation=1.2)


@dataclass(frozen=True)
class Column:
    """One call of the network in a training step: samples at the same stage with the same length of history."""

    stage: int
    samples: slice  # rows of the batch: `text[column.samples]`
    clips: tuple[Tensor, ...]  # (n, c, t, h, w) each, oldest first; the last is the noisy one
    sigma: Tensor  # (n,) noise level inside the stage, 1 = its start, 0 = its end
    timestep: Tensor  # (n,) 0..1000, passed to the network
    target: Tensor  # velocity, shape of clips[-1]


def pyramid_batch(
    latent: Tensor,
    stages: PyramidStages,
    ratios: Sequence[int],
    units_per_stage: Sequence[int] | None,
    draw: Draw,
    history_noise: float = HISTORY_NOISE,
    timesteps: TimestepSampling = UNIFORM,
    seen: Tensor | None = None,
) -> list[Column]:
    """Turn normalised latents (b, c, T, h, w) into the columns of one training step.

    `ratios` says how many columns each stage gets ([1, 2, 1] for the released models); column j takes samples j, j +
    columns, ... With `units_per_stage`, stage s learns the last of its first `units_per_stage[s]` units (capped by
    the clip) from a noisy history. With None every frame is learned at once, without history: pictures, and models
    that are not autoregressive. `timesteps` says how often each part of a stage is learned. The history is that of
    `seen`, a clip of the same shape, by default of `latent` itself.
    """
    check_batch(latent, stages, ratios, units_per_stage)
    stage_of_column = [stage for stage, columns in enumerate(ratios) for _ in range(columns)]
    clean = pyramid(latent, len(stages))
    history = clean if seen is None else pyramid(seen, len(stages))
    noise = noise_pyramid(draw.normal(latent.shape), len(stages))
    columns = []
    for offset, stage in enumerate(stage_of_column):
        samples = slice(offset, None, len(stage_of_column))
        units = None if units_per_stage is None else units_per_stage[stage]
        now = slice(0, None) if units is None else last_frame(units, latent.shape[2])
        levels = [level[samples] for level in clean]
        index = draw_indices(timesteps, len(levels[0]), draw)
        strength = (draw.uniform(len(levels[0])) * history_noise).view(-1, 1, 1, 1, 1)
        past: tuple[Tensor, ...] = ()
        if now.start > 0:
            past = history_clips([level[samples, :, : now.start] for level in history], stage)
            past = corrupt_clips(past, strength, lambda clip: draw.normal(clip.shape))
        start, end = endpoints([level[:, :, now] for level in levels], noise[stage][samples, :, now], stages, stage)
        sigma, timestep = stages.training_sigma(stage, index), stages.training_timestep(stage, index)
        noisy = end + sigma.view(-1, 1, 1, 1, 1) * (start - end)
        columns.append(Column(stage, samples, (*past, noisy), sigma, timestep, start - end))
    return columns


def draw_indices(timesteps: TimestepSampling, count: int, draw: Draw) -> Tensor:
    """Places (count,) in a stage's table of timesteps, which begins with most noise."""
    sigma = timesteps.draw_sigmas(count, draw)
    along = sigma if timesteps.name == "uniform" else 1 - sigma  # the official code's draws are places
    return (along * NUM_TRAIN_TIMESTEPS).long().clamp_max(NUM_TRAIN_TIMESTEPS - 1)


def endpoints(clean: Sequence[Tensor], noise: Tensor, stages: PyramidStages, stage: int) -> tuple[Tensor, Tensor]:
    """Where a stage starts (after the jump) and ends, sharing one noise; `clean` holds the frames at every level."""
    borders = stages.stages[stage]
    coarse = double(clean[stage - 1]) if stage > 0 else 0.0  # the first stage starts from noise alone
    start = borders.sigma_start * noise + (1 - borders.sigma_start) * coarse
    end = borders.sigma_end * noise + (1 - borders.sigma_end) * clean[stage]
    return start, end


def last_frame(units: int, frames: int) -> slice:
    """The last of the first `units` units of a clip of `frames` latent frames; a unit is one latent frame."""
    last = min(units, frames)
    return slice(last - 1, last)


def check_batch(latent: Tensor, stages: PyramidStages, ratios: Sequence[int], units: Sequence[int] | None) -> None:
    """Raise ValueError where batch, stages, ratios and units do not fit together."""
    if len(ratios) != len(stages) or min(ratios) < 0 or sum(ratios) < 1:
        raise ValueError(f"stage ratios are {list(ratios)}; expected {len(stages)} whole numbers, one per stage")
    check_columns(len(latent), ratios)
    if units is not None and (len(units) != len(stages) or min(units) < 1):
        raise ValueError(f"units per stage are {list(units)}; expected {len(stages)} whole numbers of at least 1")


def check_columns(batch: int, ratios: Sequence[int]) -> None:
    """Raise ValueError unless a batch of so many clips gives every column as many as the others."""
    if batch % sum(ratios):
        near = nearest_multiple(batch, sum(ratios))
        raise ValueError(
            f"a batch of {batch} does not divide into {sum(ratios)} columns {list(ratios)}; the nearest is {near}"
        )


def pyramid_loss(predictions: Sequence[Tensor], columns: Sequence[Column]) -> Tensor:
    """Mean squared error of each row, averaged over the rows of all columns, in float32."""
    return torch.cat([row_errors(*pair) for pair in zip(predictions, columns, strict=True)]).mean()


def relative_loss(predictions: Sequence[Tensor], columns: Sequence[Column]) -> Tensor:
    """Logarithm of the mean squared error of each column, averaged over the rows: every stage counts by what it lacks.

    Errors of the coarse stages, which decide where things are, are tens of times smaller than those of the last, so in
    a plain mean they weigh nothing. This is the uncertainty weighting of EDM2 (arXiv 2312.02696, section 2.1), with
    the best uncertainty for the batch at hand.
    """
    errors = [row_errors(*pair) for pair in zip(predictions, columns, strict=True)]
    first, *others = [error.mean().log() * len(error) for error in errors]
    return sum(others, first) / sum(map(len, errors))


def row_errors(prediction: Tensor, column: Column) -> Tensor:
    """Mean squared error of every row, (n,) float32."""
    return (prediction.float() - column.target.float()).square().flatten(1).mean(1)


def predict_by_stage(network: nn.Module, columns: Sequence[Column], text: TextFeatures) -> list[Tensor]:
    """The velocity that the network predicts for every column; those of one stage, alike in shape, in one call."""
    predictions: list[Tensor] = [column.target for column in columns]  # all replaced below
    for stage in sorted({column.stage for column in columns}):
        places = [place for place, column in enumerate(columns) if column.stage == stage]
        own = [columns[place] for place in places]
        texts = TextFeatures.cat([text.rows(column.samples) for column in own])
        clips = tuple(torch.cat(parts) for parts in zip(*(column.clips for column in own), strict=True))
        timesteps = torch.cat([column.timestep for column in own])
        prediction = network(clips, timesteps, texts.tokens, texts.mask, texts.pooled)
        for place, part in zip(places, prediction.split([len(column.timestep) for column in own]), strict=True):
            predictions[place] = part
    return predictions


@dataclass(frozen=True)
class PyramidObjective:
    """The loss of a pyramidal flow on one batch, with units drawn by `random_units`.

    A share `first_units` of the steps learns the first unit in every stage: it alone has nothing but the text to go by.
    Without `autoregressive` all frames are learned at once and have no history. `loss` joins the errors, and
    `timesteps` says how often each part of a stage is learned, both by default as the released models were trained;
    with `BEGINNINGS` small models spend less on the ends of stages.
    """

    stages: PyramidStages
    ratios: tuple[int, ...] = (1, 2, 1)  # columns per stage
    history_noise: float = HISTORY_NOISE
    first_units: float = 0.0
    autoregressive: bool = True
    loss: Callable[[Sequence[Tensor], Sequence[Column]], Tensor] = pyramid_loss
    timesteps: TimestepSampling = UNIFORM

    def __call__(self, networks: Networks, batch: Batch, generator: torch.Generator) -> Losses:
        """Losses of the transformer for normalised latents and their texts: `loss`, and one per stage to watch."""
        latent = batch.latents
        draw = GeneratorDraw(generator, latent.device)
        units = self.draw_units(latent.shape[2], generator)
        columns = pyramid_batch(
            latent, self.stages, self.ratios, units, draw, self.history_noise, self.timesteps, batch.history
        )
        predictions = predict_by_stage(networks["transformer"], columns, batch.text)
        losses = {"loss": self.loss(predictions, columns)}
        for stage in sorted({column.stage for column in columns}):
            own = [place for place, column in enumerate(columns) if column.stage == stage]
            watched = [predictions[place].detach() for place in own]
            losses[f"stage_{stage}"] = pyramid_loss(watched, [columns[place] for place in own])
        return losses

    def draw_units(self, frames: int, generator: torch.Generator) -> tuple[int, ...] | None:
        """Units per stage of one step, for clips of so many latent frames; None: all frames at once."""
        if not self.autoregressive:
            return None
        if float(torch.rand(1, generator=generator, device=generator.device)) < self.first_units:
            return (1,) * len(self.stages)
        return random_units(frames, generator, len(self.stages))


def random_units(clip_units: int, generator: torch.Generator, stage_count: int = 3) -> tuple[int, ...]:
    """Units per stage for any number of processes: the finest is uniform over the clip, the others complement it."""
    finest = 1 + int(torch.randint(clip_units, (), generator=generator, device=generator.device))
    return balanced_units(finest, clip_units, clip_units, stage_count)


def balanced_units(finest: int, max_units: int, clip_units: int, stage_count: int) -> tuple[int, ...]:
    """A long finest stage with short coarser ones, or the other way round, capped by the clip."""
    coarser = max(1 + max_units - finest, 1)
    return (min(coarser, clip_units),) * (stage_count - 1) + (min(finest, clip_units),)


def drop_captions(captions: Sequence[str], probability: float, draw: Draw) -> list[str]:
    """Replace captions by the empty text with `probability`: guidance needs a network that can do without."""
    dropped = (draw.uniform(len(captions)) < probability).tolist()
    return ["" if drop else caption for caption, drop in zip(captions, dropped, strict=True)]
