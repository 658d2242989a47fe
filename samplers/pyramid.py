"""The pyramid sampler: unit after unit of latent frames, each from coarse to fine (Pyramid Flow, arXiv 2410.05954).

For each unit this is Algorithm 1 of the paper (section 3.2.2): solve each stage, and between two stages double the
picture and renoise it. Earlier units are the history that a unit sees (section 3.3). Velocity is `noise - data`; sigma
runs from 1 (noise) to 0 (data). No network is known here: the model is a callable, with guidance inside. The terms are
in docs/glossary.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..models.layers import patch_grid
from .history import History, HistoryClips, PyramidHistory
from .noise import Generators, block_noise, double, noise_pyramid
from .stage_solvers import STAGE_SOLVERS
from .stages import PyramidStages
from .units import ONE_FRAME, Units


@dataclass(frozen=True, eq=False)
class StepInfo:
    """One model evaluation: where in the run it is, and what it is given besides the noisy unit."""

    unit: int
    frames: slice  # of the clip's latent frames, those of this unit
    stage: int
    step: int
    index: int  # of all evaluations of this run
    total: int
    units: int  # of the whole clip, start frames included
    stages: int
    steps: int  # in this stage
    sigma: float  # inside the stage, 1 -> 0
    timestep: float  # 0..1000, as the network takes it
    history: HistoryClips  # what the unit sees of the past, normalised
    settled: int = 0  # oldest frames of the history that later units see alike, so that their keys can be kept
    settled_later: int = 0  # how many of them there are before the last unit, 0 in the last


Velocity = Callable[[Tensor, StepInfo], Tensor]  # (noisy unit, info) -> velocity of the same shape
Callback = Callable[[StepInfo, Tensor], None]  # (info, estimate of the clean unit); may raise to stop
Renoise = Callable[[int, int, Tensor], Tensor]  # (unit, stage, like) -> block noise

FULL_CLEAN_HISTORY = PyramidHistory()


@torch.no_grad()
def sample_pyramid(
    velocity: Velocity,
    noise: Tensor,
    stages: PyramidStages,
    *,
    generators: Generators = (),
    history: History = FULL_CLEAN_HISTORY,
    units: Units = ONE_FRAME,
    renoise: Renoise | None = None,
    callback: Callback | None = None,
    model_dtype: torch.dtype | None = None,
) -> Tensor:
    """Make a normalised latent clip from white `noise` (b, c, T, h, w), which has its full size and length.

    `generators` (one per row, `noise.row_generators`) supply the noise of the jumps and of the history; `renoise`
    replaces the former. `history` holds normalised latents; its `start` (1 or b, c, k, h, w) opens the clip, and comes
    back untouched in front of the T - k frames made. `units` says how many latent frames are made at once.
    Raises ValueError on sizes and lengths that do not fit, and when a stage ends in NaN or infinity; it then names
    `model_dtype`, the type that the network computes in, by default that of its output.
    """
    plan = plan_units(noise, stages, history, units)
    known = plan[0][1].start
    if renoise is None:

        def renoise(unit: int, stage: int, like: Tensor) -> Tensor:
            return block_noise(like, stages.gamma, generators)

    noise = noise.to(torch.promote_types(noise.dtype, torch.float32))  # small steps vanish in 16 bits
    coarse_noise = noise_pyramid(noise, len(stages))[0]
    unit_history = history.begin(noise, len(stages), units, generators)
    done = [] if history.start is None else [history.start.to(noise).expand(len(noise), -1, -1, -1, -1)]
    total = sum(sum(stages.steps_for(unit)) for unit, _ in plan)
    index = 0
    last = plan[-1][1]
    before_last = last.start - units.later
    for unit, frames in plan:
        stage_history = unit_history(done)
        x = coarse_noise[:, :, frames.start - known : frames.stop - known]
        for stage, steps in enumerate(stages.steps_for(unit)):
            if stage > 0:
                alpha, beta = stages.jump(stage)
                x = double(x)
                x = alpha * x + beta * renoise(unit, stage, x)
            first = StepInfo(
                unit=unit,
                frames=frames,
                stage=stage,
                step=0,
                index=index,
                total=total,
                units=plan[-1][0] + 1,
                stages=len(stages),
                steps=steps,
                sigma=1.0,
                timestep=0.0,
                history=stage_history(stage),
                settled=history.settled(frames.start, last.stop, stage, units),
                settled_later=0 if frames == last else history.settled(before_last, last.stop, stage, units),
            )
            x = sample_stage(velocity, x, stages, first, callback, model_dtype)
            index += steps
        done.append(x)
    return torch.cat(done, dim=2)


def sample_stage(
    velocity: Velocity,
    x: Tensor,
    stages: PyramidStages,
    first: StepInfo,
    callback: Callback | None,
    model_dtype: torch.dtype | None,
) -> Tensor:
    """Take one unit through the stage of `first`, its first step, with the solver of `stages`."""
    tokens = shift_tokens(x, first.stage)
    sigmas = stages.sigmas(first.stage, first.steps, tokens)
    timesteps = stages.timesteps(first.stage, first.steps, tokens)
    advance = STAGE_SOLVERS[stages.solver](x, sigmas)
    stage = stages.stages[first.stage]
    for step, timestep in enumerate(timesteps):
        info = replace(first, step=step, index=first.index + step, sigma=sigmas[step], timestep=timestep)
        v = velocity(x, info)
        if callback is not None:
            callback(info, stage.clean_estimate(x, v, info.sigma))
        x = advance(step, x, v)
    if not torch.isfinite(x).all():  # once per stage, because reading it makes a GPU wait
        dtype = str(model_dtype or v.dtype).removeprefix("torch.")
        raise ValueError(
            f"unit {first.unit}, stage {first.stage} ended in NaN or infinity; the model computed in {dtype}. "
            "Use bfloat16 or float32 weights (float16 overflows), and check that model, latent and text hold no NaN"
        )
    return x


def calls_left(stages: PyramidStages, info: StepInfo) -> dict[int, int]:
    """How many evaluations of each stage follow `info` in its run."""
    later = [stages.steps_for(unit) for unit in range(info.unit + 1, info.units)]
    left = {stage: sum(steps[stage] for steps in later) for stage in range(len(stages))}
    left[info.stage] += info.steps - info.step - 1
    for stage in range(info.stage + 1, len(stages)):
        left[stage] += stages.steps_for(info.unit)[stage]
    return left


def shift_tokens(x: Tensor, stage: int) -> int:
    """Tokens that a shift counts for a unit (b, c, t, h, w): the released code counts before it doubles the picture."""
    frames, rows, columns = patch_grid(x)
    return frames * (rows * columns if stage == 0 else (rows // 2) * (columns // 2))


def plan_units(noise: Tensor, stages: PyramidStages, history: History, units: Units) -> list[tuple[int, slice]]:
    """Number and latent frames of every unit to be made of `noise`. ValueError on sizes and lengths that do not fit."""
    check_noise(noise, stages)
    known = 0 if history.start is None else check_start(history.start, noise)
    return units.plan(noise.shape[2], known)


def check_noise(noise: Tensor, stages: PyramidStages) -> None:
    """Raise ValueError unless `noise` is a clip that the stages can halve."""
    if noise.ndim != 5 or 0 in noise.shape:
        raise ValueError(
            f"the latent has shape {tuple(noise.shape)}; expected (batch, channel, frame, row, column), none empty"
        )
    stages.check_latent_size(*noise.shape[-2:])


def check_start(start: Tensor, noise: Tensor) -> int:
    """Number of known frames. ValueError unless they fit the clip."""
    b, c, _, h, w = noise.shape
    if start.ndim != 5 or start.shape[0] not in (1, b) or (start.shape[1], *start.shape[3:]) != (c, h, w):
        raise ValueError(
            f"the start frames have shape {tuple(start.shape)}; expected (1 or {b}, {c}, frames, {h}, {w}): "
            "resize the start image to the size of the empty latent, and encode it with the VAE of this model"
        )
    return start.shape[2]
