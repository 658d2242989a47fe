"""Where inside a stage the steps lie: the noise levels a stage is asked at, from 1 (its start) to 0 (its end)."""

from __future__ import annotations

import math
from dataclasses import dataclass

TRAIN_STEPS = 1000  # the grid of noise levels, of timesteps, and of every stage's own table
SHIFT_KINDS = ("exponential", "linear")


@dataclass(frozen=True)
class TokenShift:
    """Moves the steps of a stage towards noise, the more so the more tokens it has (Esser et al. 2024, section 5.3.2).

    The strength `mu` rises in a line with the tokens, through `base` at `base_tokens` and `most` at `most_tokens`. A
    level becomes `m / (m + 1 / sigma - 1)` with m = exp(mu) where `kind` is "exponential" and m = mu where "linear".
    """

    kind: str = "exponential"
    base: float = 0.5
    most: float = 1.15
    base_tokens: int = 256
    most_tokens: int = 4096

    def __post_init__(self) -> None:
        if self.kind not in SHIFT_KINDS:
            raise ValueError(f"unknown kind of token shift {self.kind!r}; expected one of {', '.join(SHIFT_KINDS)}")

    def move(self, sigma: float, tokens: int) -> float:
        """Where the level `sigma` (1..0) goes in a stage of `tokens` tokens."""
        if sigma == 0:
            return 0.0
        slope = (self.most - self.base) / (self.most_tokens - self.base_tokens)
        mu = self.base + slope * (tokens - self.base_tokens)
        factor = math.exp(mu) if self.kind == "exponential" else mu
        return factor / (factor + 1 / sigma - 1)


@dataclass(frozen=True)
class Timetable:
    """The noise levels of a stage; the defaults are those of Pyramid Flow, the rest is there for Helios.

    `top` is the first level. The steps go to the last row of a table of 1000 and then jump to 0, or with `even` in
    equal steps to 0. `whole_timesteps` cuts what the network is told to whole numbers.
    """

    top: float = 1.0
    even: bool = False
    shift: TokenShift | None = None
    whole_timesteps: bool = False

    def sigmas(self, rows: int, tokens: int | None = None) -> tuple[float, ...]:
        """The `rows` levels at which the steps begin. Without `tokens` nothing is shifted."""
        if self.even:
            line = [self.top * (1 - row / rows) for row in range(rows)]
        else:
            last = 1 / TRAIN_STEPS
            line = [self.top] + [self.top * (1 - (1 - last) * row / (rows - 1)) for row in range(1, rows)]
        if self.shift is not None and tokens is not None:
            line = [self.shift.move(sigma, tokens) for sigma in line]
        return tuple(line)

    def told(self, timestep: float) -> float:
        """What the network is told of a timestep."""
        return float(math.floor(timestep + 1e-6)) if self.whole_timesteps else timestep  # 998.9999999 is 999
