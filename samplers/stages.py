"""The stages of a pyramidal flow: which resolution removes which part of the noise (Pyramid Flow, section 3.2).

The paper counts stages from the finest and time from noise (0) to data (1); here stage 0 is the coarsest, and the noise
level `sigma` runs from 1 (noise) to 0 (data). Two scales of it occur: the *share of noise* in the picture, and the
sigma *inside a stage*, 1 where the stage starts and 0 where it ends. Everything here is a Python float computed in
float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from ..models.families import PYRAMID_FLOW
from ..models.layers import PATCH
from ..models.sizes import nearest_multiple
from .names import DISTILLED_SOLVERS
from .sigma_schedule import NUM_TRAIN_TIMESTEPS, SigmaSchedule
from .stage_solvers import check_solver

Steps = int | Sequence[int]


@dataclass(frozen=True)
class Stage:
    """One stage of the pyramid: a resolution and the part of the noise that it removes."""

    downscale: int  # 4, 2, 1 from the first stage to the last
    sigma_start: float  # share of noise where the stage starts, after the jump
    sigma_end: float  # share of noise where it ends, before the next jump
    timestep_start: float  # the network's timestep at sigma 1 and 0 inside the stage, 0..1000
    timestep_end: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.sigma_end < self.sigma_start <= 1.0:
            raise ValueError(
                f"a stage runs from noise {self.sigma_start} to {self.sigma_end}; expected 1 >= start > end >= 0"
            )

    def timestep(self, sigma: float) -> float:
        """The timestep 0..1000 that belongs to `sigma` (1..0) inside this stage."""
        return self.timestep_end + sigma * (self.timestep_start - self.timestep_end)

    def noise_share(self, sigma: float) -> float:
        """Share of noise in the picture at `sigma` (1..0) inside this stage."""
        return sigma * self.sigma_start + (1 - sigma) * self.sigma_end

    def clean_estimate(self, x: Tensor, velocity: Tensor, sigma: float) -> Tensor:
        """The clean picture that `x` at `sigma` is heading for, at the size of this stage (for previews).

        The velocity of a stage is `noise - data` times the noise travelled, but for detail that only this stage adds.
        """
        return x - self.noise_share(sigma) / (self.sigma_start - self.sigma_end) * velocity.to(x.dtype)


@dataclass(frozen=True)
class PyramidStages:
    """All stages, the block-noise correlation `gamma` of the jumps between them, and the steps spent on each.

    `first_steps` belong to the first unit of a clip, `video_steps` to all later ones; one number per stage, coarsest
    first. `solver` (a name of `STAGE_SOLVERS`) takes the steps of each stage, at the levels of `sigma_schedule`.
    `made_for` is the kind of model that these stages are for.
    """

    stages: tuple[Stage, ...]
    gamma: float
    first_steps: tuple[int, ...]
    video_steps: tuple[int, ...]
    solver: str = "euler"
    sigma_schedule: SigmaSchedule = SigmaSchedule()
    made_for: str = PYRAMID_FLOW

    def __post_init__(self) -> None:
        check_gamma(self.gamma)
        check_solver(self.solver)
        for name, steps in (("first_steps", self.first_steps), ("video_steps", self.video_steps)):
            if len(steps) != len(self.stages) or any(type(n) is not int or n < 1 for n in steps):
                raise ValueError(
                    f"{name} is {steps}; expected a whole number of at least 1, or {len(self.stages)} of them"
                )

    def __len__(self) -> int:
        return len(self.stages)

    def steps_for(self, unit: int) -> tuple[int, ...]:
        """Steps per stage of unit 0, 1, ..."""
        return self.first_steps if unit == 0 else self.video_steps

    def sigmas(self, stage: int, steps: int, tokens: int | None = None) -> tuple[float, ...]:
        """The `steps + 1` noise levels inside a stage of `tokens` tokens, down to 0."""
        spare = self.solver in DISTILLED_SOLVERS  # the distilled model has a row more, and never stands on the last
        return (*self.sigma_schedule.sigmas(steps + spare, tokens)[:steps], 0.0)

    def timesteps(self, stage: int, steps: int, tokens: int | None = None) -> tuple[float, ...]:
        """The network's timestep in each of the `steps` steps of a stage of `tokens` tokens, 0..1000."""
        sigmas = self.sigmas(stage, steps, tokens)[:-1]
        return tuple(self.sigma_schedule.network_timestep(self.stages[stage].timestep(sigma)) for sigma in sigmas)

    def training_sigma(self, stage: int, index: Tensor) -> Tensor:
        """Noise level inside the stage, float32, for table rows `index` (long, 0..999)."""
        return training_line(1.0, 0.0).to(index.device)[index]

    def training_timestep(self, stage: int, index: Tensor) -> Tensor:
        """Timestep 0..1000, float32, for table rows `index` (long, 0..999)."""
        start, end = self.stages[stage].timestep_start, self.stages[stage].timestep_end
        return training_line(start, end).to(index.device)[index]

    def jump(self, stage: int) -> tuple[float, float]:
        """`(alpha, beta)` of the jump into `stage` > 0: `x = alpha * double(x) + beta * block_noise`."""
        return jump_scales(self.stages[stage - 1].sigma_end, self.gamma)

    def size_multiple(self, space_compression: int, patch: int = PATCH) -> int:
        """What width and height in pixels must divide by: VAE, halvings, the network's patches at the first stage."""
        return space_compression * patch * self.stages[0].downscale

    def check_latent_size(self, height: int, width: int, patch: int = PATCH) -> None:
        """Raise ValueError unless a latent of `height` x `width` cells has whole patches at the first stage."""
        multiple = self.size_multiple(1, patch)
        if height % multiple == 0 and width % multiple == 0:
            return
        near = tuple(nearest_multiple(n, multiple) for n in (height, width))
        whole = math.gcd(height, width) // patch if height % patch == width % patch == 0 else 0
        fewer = f"; this size allows {(whole & -whole).bit_length()} at most" if whole else ""
        raise ValueError(
            f"a latent of {height} rows and {width} columns does not fit {len(self)} stages: "
            f"both must be multiples of {multiple}, the nearest size is {near[0]} x {near[1]}{fewer}"
        )


def make_stages(
    count: int = 3,
    shift: float = 1.0,
    gamma: float = 1 / 3,
    ranges: Sequence[float] | None = None,
    first_steps: Steps = 20,
    video_steps: Steps = 10,
    solver: str = "euler",
) -> PyramidStages:
    """Build the stages of Pyramid Flow, `count` of them.

    `ranges` are the `count + 1` borders of the stages on the grid of noise levels, 0 (all noise) to 1 (none); equal
    parts when None. `shift` moves the grid towards noise. Steps are one number for all stages, or one per stage.
    """
    if count < 1:
        raise ValueError(f"stage_count is {count}; a pyramid has at least 1 stage (the released models have 3)")
    if not 0 < shift < math.inf:
        raise ValueError(f"shift is {shift}; expected a number above 0 (the released models use 1)")
    check_gamma(gamma)
    grid = noise_grid(shift)
    ends = [grid[index] for index in grid_borders(count, ranges)[1:]]
    starts = [1.0] + [start_after_jump(q, gamma) for q in ends[:-1]]
    timesteps = timestep_windows(starts, ends, grid)
    stages = tuple(Stage(2 ** (count - 1 - s), starts[s], ends[s], *timesteps[s]) for s in range(count))
    return PyramidStages(stages, gamma, per_stage(first_steps, count), per_stage(video_steps, count), solver)


def check_gamma(gamma: float) -> None:
    """Raise ValueError where the covariance (1 + gamma) I - gamma J of a 2x2 block of noise does not exist."""
    if not 0.0 <= gamma <= 1 / 3 + 1e-9:
        raise ValueError(f"gamma is {gamma}; such block noise exists for 0 to 1/3 only (the released models use 1/3)")


def jump_scales(q: float, gamma: float) -> tuple[float, float]:
    """`(alpha, beta)` that make the noise of a doubled picture with noise share `q` white again (3.2.2, equation 15).

    Written without 1 / gamma, so that gamma 0 is a plain limit: forget the picture, start from white noise.
    """
    scale = q * math.sqrt(1 + gamma) + (1 - q) * math.sqrt(gamma)
    return math.sqrt(gamma) / scale, q / scale


def start_after_jump(q: float, gamma: float) -> float:
    """Noise share right after the jump from a stage that ended with share `q`."""
    alpha, _ = jump_scales(q, gamma)
    return 1 - alpha * (1 - q)


def noise_grid(shift: float) -> list[float]:
    """The 1001 noise levels from 1 to 0, made in float32 as the released models did, then exact."""
    level = torch.arange(NUM_TRAIN_TIMESTEPS, 0, -1, dtype=torch.float32) / NUM_TRAIN_TIMESTEPS
    return [*(shift * level / (1 + (shift - 1) * level)).tolist(), 0.0]


def grid_borders(count: int, ranges: Sequence[float] | None) -> list[int]:
    """Where the stages begin and end on the grid of noise levels."""
    ranges = [s / count for s in range(count + 1)] if ranges is None else list(ranges)
    borders = [int(r * NUM_TRAIN_TIMESTEPS) for r in ranges if math.isfinite(r)]
    rising = all(low < high for low, high in pairwise(borders))
    if len(borders) != count + 1 or borders[0] != 0 or borders[-1] != NUM_TRAIN_TIMESTEPS or not rising:
        raise ValueError(f"stage ranges are {ranges}; expected {count + 1} numbers rising from 0 to 1 by 0.001 or more")
    return borders


def timestep_windows(
    starts: Sequence[float], ends: Sequence[float], grid: Sequence[float]
) -> list[tuple[float, float]]:
    """Share out the timesteps 1000..0 in proportion to the noise that each stage travels."""
    # The network was trained with float32 timesteps.
    return list(pairwise(torch.tensor(window_levels(starts, ends, grid)).mul(NUM_TRAIN_TIMESTEPS).tolist()))


def window_levels(starts: Sequence[float], ends: Sequence[float], grid: Sequence[float]) -> list[float]:
    """The noise levels of `grid` that bound the windows of timesteps; the last is row 999, not 0."""
    lengths = [start - end for start, end in zip(starts, ends, strict=True)]
    shares = [sum(lengths[:s]) / sum(lengths) for s in range(len(lengths))] + [1.0]
    return [grid[min(int(share * NUM_TRAIN_TIMESTEPS), NUM_TRAIN_TIMESTEPS - 1)] for share in shares]


def training_line(start: float, end: float) -> Tensor:
    """1000 float32 values on the even line from `start` towards `end`, without `end`."""
    return torch.linspace(start, end, NUM_TRAIN_TIMESTEPS + 1, dtype=torch.float64)[:-1].float()


def per_stage(steps: Steps, count: int) -> tuple[int, ...]:
    """One number of steps for every stage, or one each, as a tuple."""
    return (steps,) * count if isinstance(steps, int) else tuple(steps)
