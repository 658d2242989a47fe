"""Classifier-free guidance (Ho and Salimans 2022) with a strength per unit of the clip."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class PyramidGuidance:
    """Guidance strength of the first unit and of all later ones, or falling in a line over the units.

    With `linear` the strength of unit u is `max(first - alpha * u, minimum)` and `video` is not read. `first` at 0
    turns guidance off for the whole clip, as in the released code: the model is then asked for one row, not two.
    """

    first: float = 7.0
    video: float = 5.0
    linear: bool = False
    alpha: float = 0.5
    minimum: float = 2.0

    def __post_init__(self) -> None:
        for name in ("first", "video", "alpha", "minimum"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ValueError(f"guidance {name} is {value}; expected a number of at least 0")

    @property
    def enabled(self) -> bool:
        """Whether the negative prompt is asked at all."""
        return self.first > 0

    def scale(self, unit: int) -> float:
        """Strength in unit 0, 1, ...; units after start frames count on, so image to video uses `video` throughout."""
        if self.linear:
            return max(self.first - self.alpha * unit, self.minimum)
        return self.first if unit == 0 else self.video


def guide(negative: Tensor, positive: Tensor, scale: float) -> Tensor:
    """Velocity from the answers to both prompts: 1 is the positive one, above pushes away from the negative."""
    return negative + scale * (positive - negative)
