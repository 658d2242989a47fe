"""Solvers inside a stage: Euler, UniPC, or the steps of a distilled model; made for one stage, called step by step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch import Tensor

from .names import STAGE_SOLVER_NAMES
from .solvers import euler_step

Advance = Callable[[int, Tensor, Tensor], Tensor]  # (step, x, velocity there) -> x at the next level
StageSolver = Callable[[Tensor, Sequence[float]], Advance]  # (x where the stage begins, levels with the 0) -> advance

SMALLEST_SIGMA = 1e-8  # stands for 0 where its logarithm is taken


def euler(start: Tensor, sigmas: Sequence[float]) -> Advance:
    """First order: follow the velocity."""
    return lambda step, x, velocity: euler_step(x, velocity, sigmas[step], sigmas[step + 1])


def dmd(start: Tensor, sigmas: Sequence[float]) -> Advance:
    """The steps of a distilled model (Yin et al. 2024, arXiv 2405.14867): to the clean end, and back to noise.

    The noise put back is what the stage began with, so nothing is drawn.
    """

    def advance(step: int, x: Tensor, velocity: Tensor) -> Tensor:
        clean = x - sigmas[step] * velocity.to(x.dtype)
        return clean + sigmas[step + 1] * (start - clean)

    return advance


def unipc(start: Tensor, sigmas: Sequence[float]) -> Advance:
    """Second-order predictor and corrector (Zhao et al. 2023, arXiv 2302.04867, UniPC-2 with B2), on clean estimates.

    One evaluation a step. The first step has no past and is Euler's; the last, onto the data, is of first order.
    """
    last = len(sigmas) - 2
    clean: list[Tensor] = []  # estimates at all steps so far
    walked: list[Tensor] = []  # x at all steps so far, corrected
    orders: list[int] = []

    def advance(step: int, x: Tensor, velocity: Tensor) -> Tensor:
        now = x - sigmas[step] * velocity.to(x.dtype)
        if step > 0:
            x = correct(walked[-1], clean, now, sigmas[: step + 1], orders[-1])
        clean.append(now)
        walked.append(x)
        past = sum(sigma < 1 for sigma in sigmas[:step])  # pure noise holds no news of the data
        orders.append(min(2, last - step + 1, past + 1))
        return predict(x, clean, sigmas[: step + 2], orders[-1])

    return advance


def predict(x: Tensor, clean: Sequence[Tensor], sigmas: Sequence[float], order: int) -> Tensor:
    """UniP: from `sigmas[-2]`, where `x` and `clean[-1]` are, to `sigmas[-1]`."""
    *_, before, after = sigmas
    moved = first_order(x, clean[-1], before, after)
    if order == 1:
        return moved
    ratio = log_snr_ratio(*sigmas[-3:])
    slope = (clean[-2] - clean[-1]) / ratio
    return moved - (1 - after) * math.expm1(-log_snr_step(before, after)) * slope / 2


def correct(x: Tensor, clean: Sequence[Tensor], now: Tensor, sigmas: Sequence[float], order: int) -> Tensor:
    """UniC: the step from `x` at `sigmas[-2]` to `sigmas[-1]` again, knowing the estimate `now` at its end."""
    *_, before, after = sigmas
    span = -log_snr_step(before, after)
    reach = math.expm1(span)
    weights, slopes = [0.5], [now - clean[-1]]
    if order == 2:
        ratio = log_snr_ratio(*sigmas[-3:])
        phi = reach / span - 1
        first, second = phi / reach, 2 * (phi / span - 0.5) / reach
        share = (first - second) / (1 - ratio)
        weights, slopes = [share, first - share], [(clean[-2] - clean[-1]) / ratio, *slopes]
    change = sum(weight * slope for weight, slope in zip(weights, slopes, strict=True))
    return first_order(x, clean[-1], before, after) - (1 - after) * reach * change


def first_order(x: Tensor, clean: Tensor, before: float, after: float) -> Tensor:
    """The exact step where the clean estimate stays as it is."""
    return max(after, SMALLEST_SIGMA) / before * x - (1 - after) * math.expm1(-log_snr_step(before, after)) * clean


def log_snr_step(before: float, after: float) -> float:
    """How far the logarithm of signal over noise rises from one level to a lower one; from pure noise, infinitely."""
    return log_snr(after) - log_snr(before)


def log_snr_ratio(earlier: float, before: float, after: float) -> float:
    """The step before, backwards, as a multiple of this step."""
    return (log_snr(earlier) - log_snr(before)) / log_snr_step(before, after)


def log_snr(sigma: float) -> float:
    sigma = max(sigma, SMALLEST_SIGMA)
    return math.log((1 - sigma) / sigma) if sigma < 1 else -math.inf


STAGE_SOLVERS: dict[str, StageSolver] = dict(zip(STAGE_SOLVER_NAMES, (euler, unipc, dmd), strict=True))


def check_solver(name: str) -> None:
    """Raise ValueError unless there is a solver of this name."""
    if name not in STAGE_SOLVERS:
        raise ValueError(f"unknown solver {name!r}; expected one of {', '.join(STAGE_SOLVERS)}")
