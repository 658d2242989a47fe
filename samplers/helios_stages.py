"""The stages of Helios (arXiv 2603.04379): those of Pyramid Flow on a grid of noise levels that begins at 0.999."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from ..models.families import HELIOS
from .sigma_schedule import NUM_TRAIN_TIMESTEPS, SigmaSchedule, TokenShift
from .stages import (
    PyramidStages,
    Stage,
    Steps,
    check_gamma,
    grid_borders,
    per_stage,
    start_after_jump,
    window_levels,
)

SIGMA_MAX = 0.999  # the first noise level, of the whole and of every stage
LARGEST_TIMESTEP = 999.0


def make_helios_stages(
    count: int = 3,
    gamma: float = 1 / 3,
    ranges: Sequence[float] | None = None,
    first_steps: Steps = 20,
    video_steps: Steps = 20,
    solver: str = "unipc",
    shift: TokenShift | None = None,
) -> PyramidStages:
    """Build the stages of a Helios model; 1 stage is Helios Base, which knows no other size than the full one.

    `ranges` as in `make_stages`. With `shift` the steps of a stage depend on its number of tokens. ValueError where a
    number is out of range.
    """
    if count < 1:
        raise ValueError(f"stage_count is {count}; Helios Base has 1 stage, the other Helios models have 3")
    check_gamma(gamma)
    steps = per_stage(first_steps, count), per_stage(video_steps, count)
    if count == 1:
        whole = Stage(1, SIGMA_MAX, 0.0, float(NUM_TRAIN_TIMESTEPS), 0.0)
        return PyramidStages(
            (whole,), gamma, *steps, solver, SigmaSchedule(SIGMA_MAX, ends_at_zero=True, shift=shift), HELIOS
        )
    grid = [SIGMA_MAX * level / NUM_TRAIN_TIMESTEPS for level in range(NUM_TRAIN_TIMESTEPS, 0, -1)] + [0.0]
    ends = [grid[border] for border in grid_borders(count, ranges)[1:]]
    starts = [SIGMA_MAX] + [start_after_jump(q, gamma) for q in ends[:-1]]
    levels = [min(level * NUM_TRAIN_TIMESTEPS, LARGEST_TIMESTEP) for level in window_levels(starts, ends, grid)]
    stages = tuple(
        Stage(2 ** (count - 1 - s), starts[s], ends[s], *line_through(high, low, shift is not None))
        for s, (high, low) in enumerate(pairwise(levels))
    )
    table = SigmaSchedule(SIGMA_MAX, shift=shift, integer_timesteps=True)
    return PyramidStages(stages, gamma, *steps, solver, table, HELIOS)


def line_through(high: float, low: float, shifted: bool) -> tuple[float, float]:
    """Timesteps at sigma 1 and 0 of a stage with the window `high` to `low`.

    The released schedulers read them from a table of 1000 rows without its end: by row where nothing is shifted, so
    that the first level meets `high`; else by level, between the first row and the last.
    """
    if shifted:
        return high, low + (high - low) / NUM_TRAIN_TIMESTEPS
    return low + (high - low) / SIGMA_MAX, low
