"""The pyramid for models that were trained at full size only: frequencies join when noise no longer hides them.

Spectral Progressive Diffusion (arXiv 2605.18736). A stage is the low corner of the full picture's DCT, and a jump adds
the next frequencies as noise, all of it from one noise of full size. With the Haar basis, ratio 2 and gamma = 1/3 this
is the jump of Pyramid Flow. Level `t` is the host's sigma. Flows hold a state as `(1 - t) data + t noise`; EPS and V
models, in the scaling of k-diffusion, as `data + sigma noise`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import torch
from torch import Tensor

Size = tuple[int, int]  # rows and columns of latent cells
Walk = Callable[[Tensor, "Segment"], Tensor]  # (state, what to walk) -> state at the last level of the segment
Jump = Callable[[Tensor, "Segment"], Tensor]  # (state before, segment that follows) -> state where the segment begins


@dataclass(frozen=True)
class NoiseScaling:
    """How a family of models mixes data and noise at a level, and what a jump does to both.

    A jump by the ratio r multiplies noise over data by r: `t' / (1 - t') = r t / (1 - t)`, `sigma' = r sigma`.
    """

    is_flow: bool

    def gain(self, level: float, ratio: float) -> float:
        """What a jump multiplies the coefficients with: `k = r / (1 + (r - 1) t)`, for EPS and V `r`."""
        return ratio / (1 + (ratio - 1) * level) if self.is_flow else ratio

    def level_after(self, level: float, ratio: float) -> float:
        """The level after a jump: `k t`."""
        return self.gain(level, ratio) * level

    def mixed(self, data: Tensor, noise: Tensor, level: float) -> Tensor:
        """Data with the noise of `level`."""
        return ((1 - level) if self.is_flow else 1) * data + level * noise

    def from_share(self, share: float) -> float:
        """The level at which noise has `share` (0..1) of data plus noise: `t`, for EPS and V `t / (1 - t)`."""
        if self.is_flow:
            return share
        return share / (1 - share) if share < 1 else math.inf

    def restarted(self, state: Tensor, level: float, after: float, fresh: Tensor) -> Tensor:
        """`state` brought up from `level` to `after` by `fresh` noise: what becomes of a stream that has no size.

        `a x + sqrt(t'^2 - (a t)^2) n`, `a = (1 - t') / (1 - t)`, for EPS and V 1: the data keep their place.
        """
        kept = (1 - after) / (1 - level) if self.is_flow and level < 1 else 1.0
        return kept * state + math.sqrt(max(0.0, after**2 - (kept * level) ** 2)) * fresh


@dataclass(frozen=True)
class PictureInfo:
    """What a pyramid has to know of a model that was made for one size."""

    patch: int  # latent cells that rows and columns are multiples of
    scaling: NoiseScaling
    latents: str  # the host's name of its latents, by which their spectrum may be known
    cell: int  # pixels of a latent cell, 0 where nobody says


FLOW, VARIANCE_EXPLODING = NoiseScaling(True), NoiseScaling(False)


NO_JUMP: tuple[float | None, Size | None] = (None, None)  # level and size before it


@dataclass(frozen=True)
class Segment:
    """The part of a schedule that one stage walks; the first of its levels is the one after the jump into it."""

    stage: int
    size: Size
    sigmas: tuple[float, ...]
    first_step: int  # of the whole schedule
    level_before: float | None = None  # of the jump into it; None where the run begins in this stage
    size_before: Size | None = None

    @property
    def steps(self) -> int:
        return len(self.sigmas) - 1


def stage_sizes(rows: int, columns: int, scales: Sequence[float], patch: int) -> tuple[Size, ...]:
    """Latent cells of every stage: whole patches, at least one; the last stage keeps its size, whatever it is."""

    def scaled(cells: int, scale: float) -> int:
        return max(1, math.floor(cells * scale / patch + 0.5)) * patch

    return (*((scaled(rows, s), scaled(columns, s)) for s in scales[:-1]), (rows, columns))


def size_of(x: Tensor) -> Size:
    """Rows and columns of (..., h, w)."""
    return x.shape[-2], x.shape[-1]


def ratio_of(small: Size, large: Size) -> float:
    """`r = sqrt(h' w' / (h w))`, of the real sizes: only then is the mean of a picture kept."""
    return math.sqrt(large[0] * large[1] / (small[0] * small[1]))


def plan_segments(
    sizes: Sequence[Size],
    sigmas: Sequence[float],
    levels: Sequence[float],
    scaling: NoiseScaling,
    stage: int | None = None,
) -> tuple[Segment, ...]:
    """Cut falling `sigmas` where the picture grows: stage i ends before the first step at or below `levels[i]`.

    Levels are sigmas. Those that repeat, as in long schedules of some schedulers, are steps that do nothing and are not
    counted. A run that begins at `sigmas[0]` leaves out the stages that it is past; one that goes on from `stage` jumps
    out of them instead.
    """
    sigmas = [level for level, _ in groupby(sigmas)]
    check_falling(sigmas)
    last = len(sizes) - 1
    if stage is None:
        stage = next((i for i in range(last) if sigmas[0] > levels[i]), last)
    segments: list[Segment] = []
    walked: list[float] = []
    start, before = 0, NO_JUMP
    for step, sigma in enumerate(sigmas[:-1]):
        walked.append(sigma)
        while stage < last and walked[-1] <= levels[stage]:
            if len(walked) > 1:  # at two jumps in one place the stage between has no step
                segments.append(Segment(stage, sizes[stage], tuple(walked), start, *before))
            if len(walked) > 1 or before[0] is None:
                start, before = step, (sigma, sizes[stage])
            after = scaling.level_after(walked[-1], ratio_of(sizes[stage], sizes[stage + 1]))
            walked, stage = [after], stage + 1
    return (*segments, Segment(stage, sizes[stage], (*walked, sigmas[-1]), start, *before))


def check_falling(sigmas: Sequence[float]) -> None:
    """ValueError unless levels make a step or more and fall in each, to 0 or above."""
    if len(sigmas) < 2:
        raise ValueError(
            f"the schedule has {len(sigmas) or 'no'} noise level{'s' * (len(sigmas) != 1)}, which is no step: take "
            "more steps, or more of a split schedule"
        )
    for step, (level, after) in enumerate(pairwise(sigmas), 1):
        if not 0 <= after < level:
            raise ValueError(
                f"step {step} of {len(sigmas) - 1} leads from noise level {level:.4g} to {after:.4g}; expected levels "
                "that fall, to 0 at the lowest: take another scheduler, or the parts of a split schedule in their order"
            )


@torch.no_grad()
def play(walk: Walk, jump: Jump, state: Tensor, segments: Sequence[Segment]) -> Tensor:
    """Walk segment after segment, with a jump before each that follows on another stage."""
    for segment in segments:
        if segment.level_before is not None:
            state = jump(state, segment)
        state = walk(state, segment)
    return state


def dct_matrix(cells: int) -> Tensor:
    """The orthonormal DCT-II of so many cells, (frequency, cell), float64 on the CPU."""
    place = torch.arange(cells, dtype=torch.float64)
    matrix = torch.cos(math.pi / cells * (place + 0.5) * place[:, None]) * math.sqrt(2 / cells)
    matrix[0] /= math.sqrt(2)
    return matrix


def dct(x: Tensor) -> Tensor:
    """The coefficients (..., h, w) of the rows and columns of `x`, in float32 or better."""
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    rows, columns = (dct_matrix(cells).to(x) for cells in x.shape[-2:])
    return rows @ x @ columns.T


def resample(x: Tensor, size: Size) -> Tensor:
    """`x` (..., h, w) at another size, made of the coefficients that both sizes have; white noise stays white.

    `IDCT(DCT(x)[:h', :w'])` where it shrinks, `IDCT(pad(DCT(x)))` where it grows. Works in float32 or better.
    """
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    if size_of(x) == tuple(size):
        return x
    rows, columns = (
        resampling_matrix(old, new).to(device=x.device, dtype=x.dtype)
        for old, new in zip(size_of(x), size, strict=True)
    )
    return rows @ x @ columns.T


def resampling_matrix(old: int, new: int) -> Tensor:
    """What brings one axis from `old` to `new` cells, (new, old), float64: inverse DCT of the shared frequencies."""
    shared = min(old, new)
    return dct_matrix(new)[:shared].T @ dct_matrix(old)[:shared]


def resample_picture(data: Tensor, size: Size) -> Tensor:
    """Clean data at another size, as bright as before: `r * resample`."""
    return ratio_of(size_of(data), size) * resample(data, size)


def jump_up(state: Tensor, noise: Tensor, level: float, size: Size, scaling: NoiseScaling = FLOW) -> Tensor:
    """Bring a state at `level` up to `size`; the new frequencies are those of the run's `noise` of full size.

    `C = t DCT(N)` with the low corner replaced by `DCT(x)`, then `x' = k IDCT(C)`; its level is `k t`.
    """
    here = size_of(state)
    ours = resample(noise, size)
    grown = level * ours + resample(state - level * resample(ours, here), size)
    return scaling.gain(level, ratio_of(here, size)) * grown
