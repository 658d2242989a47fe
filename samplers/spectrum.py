"""How much power the latents of a VAE have at each frequency, and when noise stops hiding it.

Frequency `w` is in cycles per shorter side of the picture; power is the variance of an orthonormal DCT coefficient.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

LEAST_FREQUENCY = 0.5  # of the coefficient next to the mean


@dataclass(frozen=True)
class Spectrum:
    """The power law `P(w) = A w^-beta`, or a measured table, which is better where the law describes it badly.

    `table` holds (frequency, power), rising in frequency; between its rows power is a straight line of logarithms,
    and the law goes on where it ends.
    """

    name: str
    amplitude: float  # A
    exponent: float  # beta
    table: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        numbers = [self.amplitude, self.exponent, *(number for row in self.table for number in row)]
        if not all(math.isfinite(number) and number > 0 for number in numbers):
            raise ValueError(f"the spectrum {self.name!r} holds {numbers[:6]}; expected numbers above 0")
        if any(low[0] >= high[0] for low, high in zip(self.table, self.table[1:], strict=False)):
            raise ValueError(f"the frequencies of the spectrum {self.name!r} do not rise")

    def power(self, frequency: float) -> float:
        """P(w)."""
        frequency = max(frequency, LEAST_FREQUENCY)
        rows = self.table
        for (low, below), (high, above) in zip(rows, rows[1:], strict=False):
            if low <= frequency <= high:
                share = math.log(frequency / low) / math.log(high / low)
                return float(below ** (1 - share) * above**share)
        law = float(self.amplitude * frequency**-self.exponent)
        if not rows:
            return law
        at, measured = rows[0] if frequency < rows[0][0] else rows[-1]
        return law * measured / float(self.amplitude * at**-self.exponent)  # the law, moved to meet the table

    def jump_level(self, scale: float, shorter_side: int, delta: float) -> float:
        """Share of noise at which a stage of `scale` ends: detail above `w = scale * side / 2` is no longer hidden.

        `t* = 1 / (1 + sqrt(delta / (P (1 + P - delta))))`.
        """
        power = self.power(scale * shorter_side / 2)
        return 1 / (1 + math.sqrt(delta / (power * (1 + power - delta))))


WAN = Spectrum("Wan 2.1 VAE", 219.484718, 2.422687)  # both as published with the method
FLUX = Spectrum("FLUX VAE", 203.615097, 1.915461)
KNOWN = {"Wan21": WAN, "Flux": FLUX}  # by the host's name of the latents


def jump_levels(
    spectrum: Spectrum, scales: Sequence[float], rows: int, columns: int, delta: float
) -> tuple[float, ...]:
    """Where each stage but the last ends, as shares of noise; `delta` from 0.01 (careful) to 0.05 (fast)."""
    return tuple(spectrum.jump_level(scale, min(rows, columns), delta) for scale in scales[:-1])
