"""The sigma schedule of a stage: the noise levels of its steps, from 1 (its start) to 0 (its end)."""

from __future__ import annotations

import math
from dataclasses import dataclass

NUM_TRAIN_TIMESTEPS = 1000  # the grid of noise levels, of timesteps, and of every stage's own table
SHIFT_KINDS = ("exponential", "linear")


@dataclass(frozen=True)
class TokenShift:
    """Moves the steps of a stage towards noise, the more so the more tokens it has (Esser et al. 2024, section 5.3.2).

    `mu` is linear in the number of tokens, through `base_shift` at `base_seq_len` and `max_shift` at `max_seq_len`. A
    level becomes `m / (m + 1 / sigma - 1)` with m = exp(mu) where `kind` is "exponential" and m = mu where "linear".
    """

    kind: str = "exponential"
    base_shift: float = 0.5
    max_shift: float = 1.15
    base_seq_len: int = 256
    max_seq_len: int = 4096

    def __post_init__(self) -> None:
        if self.kind not in SHIFT_KINDS:
            raise ValueError(f"unknown kind of token shift {self.kind!r}; expected one of {', '.join(SHIFT_KINDS)}")

    def shift(self, sigma: float, tokens: int) -> float:
        """Where the level `sigma` (1..0) goes in a stage of `tokens` tokens."""
        if sigma == 0:
            return 0.0
        slope = (self.max_shift - self.base_shift) / (self.max_seq_len - self.base_seq_len)
        mu = self.base_shift + slope * (tokens - self.base_seq_len)
        factor = math.exp(mu) if self.kind == "exponential" else mu
        return factor / (factor + 1 / sigma - 1)


@dataclass(frozen=True)
class SigmaSchedule:
    """The noise levels of a stage; the defaults are those of Pyramid Flow, the rest is there for Helios.

    `sigma_max` is the first level. With `ends_at_zero` equal steps lead to 0; without it they lead to the last row of
    a table of 1000, and a last step to 0. `integer_timesteps` rounds timesteps down before the network takes them.
    """

    sigma_max: float = 1.0
    ends_at_zero: bool = False
    shift: TokenShift | None = None
    integer_timesteps: bool = False

    def sigmas(self, rows: int, tokens: int | None = None) -> tuple[float, ...]:
        """The `rows` levels at which the steps begin. Without `tokens` nothing is shifted."""
        if self.ends_at_zero:
            line = [self.sigma_max * (1 - row / rows) for row in range(rows)]
        else:
            last = 1 / NUM_TRAIN_TIMESTEPS
            line = [self.sigma_max] + [self.sigma_max * (1 - (1 - last) * row / (rows - 1)) for row in range(1, rows)]
        if self.shift is not None and tokens is not None:
            line = [self.shift.shift(sigma, tokens) for sigma in line]
        return tuple(line)

    def network_timestep(self, timestep: float) -> float:
        """The timestep passed to the network."""
        return float(math.floor(timestep + 1e-6)) if self.integer_timesteps else timestep  # 998.9999999 is 999
