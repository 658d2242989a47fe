"""Solvers inside a stage, against flows whose exact way is known. A new one is tested here by its name alone."""

from __future__ import annotations

import math

import pytest
import torch
from pyramid_video.samplers.names import DISTILLED_SOLVERS
from pyramid_video.samplers.stage_solvers import STAGE_SOLVERS

# (least, most) of what twice the steps divide the error by: 2 for the first order, 4 or more for the second. Distilled
# models take few steps and follow no flow, so for theirs this says nothing.
GAINS = {"euler": (1.7, 2.3), "unipc": (3.2, 12.0)}


def line(steps: int, top: float) -> list[float]:
    return [top * (1 - step / steps) for step in range(steps)] + [0.0]


@pytest.mark.parametrize("solver", STAGE_SOLVERS)
@pytest.mark.parametrize("top", (1.0, 0.999))
@pytest.mark.parametrize("steps", (1, 2, 7))
def test_a_field_that_knows_the_clean_end_is_walked_exactly(solver, top, steps):
    """On the straight line between noise and data every solver arrives at the data."""
    noise, data = torch.randn(2, 1, 2, 3, 4, 4, dtype=torch.float64)
    sigmas = line(steps, top)
    x = top * noise + (1 - top) * data
    advance = STAGE_SOLVERS[solver](x, sigmas)
    for step in range(steps):
        x = advance(step, x, (x - data) / sigmas[step])
    torch.testing.assert_close(x, data, rtol=0, atol=1e-7)


def error_on_gaussian(solver: str, steps: int, top: float) -> float:
    """Data of variance 1/4 under a flow: the true velocity is linear in x and the true way is known."""
    sigmas = [top * (1 - step / (steps + 1)) for step in range(steps + 1)]
    spread = lambda sigma: math.sqrt(sigma**2 + (1 - sigma) ** 2 / 4)  # noqa: E731
    x = torch.full((1, 1, 1, 1, 1), spread(top), dtype=torch.float64)
    advance = STAGE_SOLVERS[solver](x, [*sigmas, 0.0])
    for step, sigma in enumerate(sigmas[:-1]):
        x = advance(step, x, x * (sigma - (1 - sigma) / 4) / spread(sigma) ** 2)
    return abs(x.item() - spread(sigmas[-1]))


@pytest.mark.parametrize("solver", [name for name in STAGE_SOLVERS if name not in DISTILLED_SOLVERS])
@pytest.mark.parametrize("top", (1.0, 0.999))
def test_more_steps_bring_what_the_order_of_a_solver_promises(solver, top):
    assert solver in GAINS, f"add to GAINS what twice the steps of {solver} divide the error by: (least, most)"
    gains = [error_on_gaussian(solver, n, top) / error_on_gaussian(solver, 2 * n, top) for n in (40, 80)]
    least, most = GAINS[solver]
    assert all(least < gain < most for gain in gains), gains
