"""The stages of the pyramid for any model: which sizes, and at which share of noise each ends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from .spectral import NoiseScaling, Segment, Size, plan_segments, ratio_of, stage_sizes
from .spectrum import KNOWN, Spectrum, jump_levels

CAREFUL, FAST = 0.01, 0.05  # deltas
MOST_SCALES = 6


@dataclass(frozen=True)
class SpectralStages:
    """Sizes as parts of the full one, rising to 1, and what decides where the picture grows.

    That is `levels` (shares of noise, one for every stage but the last) where they are given, else `spectrum` with
    `delta`; without a spectrum, the known one of the model's latents.
    """

    scales: tuple[float, ...] = (0.5, 1.0)
    delta: float = CAREFUL
    spectrum: Spectrum | None = None
    levels: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        scales, levels = self.scales, self.levels
        rising = all(math.isfinite(s) for s in scales) and all(low < high for low, high in pairwise(scales))
        if not 1 <= len(scales) <= MOST_SCALES or not rising or scales[0] <= 0 or scales[-1] != 1:
            raise ValueError(
                f"scales are {words(scales)}; expected at most {MOST_SCALES} numbers above 0 that rise to 1, such as "
                "0.5, 1"
            )
        if not 0 < self.delta < 1:
            raise ValueError(f"care (delta) is {self.delta}; expected {CAREFUL} (careful) to {FAST} (fast)")
        if levels and (len(levels) != len(scales) - 1 or not all(0 < level <= 1 for level in levels)):
            raise ValueError(
                f"levels are {words(levels)}; expected {len(scales) - 1} of them, one for every size but the full one, "
                "each the share of noise (1 to 0) at which that size ends"
            )
        if any(high < low for high, low in pairwise(levels)):
            raise ValueError(f"levels are {words(levels)}; expected them to fall: larger sizes end at less noise")

    def shares(self, size: Size, latents: str = "") -> tuple[float, ...]:
        """Share of noise at which each stage but the last ends, in a picture of `size` latent cells.

        `latents` is the host's name of the model's latents. ValueError where the spectrum is not known.
        """
        if self.levels or len(self.scales) == 1:
            return self.levels
        spectrum = self.spectrum or KNOWN.get(latents)
        if spectrum is None:
            raise ValueError(
                f"the spectrum of this model's latents ({latents or 'without a name'}) is not known, only those of the "
                "VAEs of Wan 2.1 and FLUX are: wire 'Fit spectrum', made from a few clips and the model's VAE, into "
                f"'spectrum' of 'Pyramid stages (any model)', or write {len(self.scales) - 1} numbers into its 'levels'"
            )
        return jump_levels(spectrum, self.scales, *size, self.delta)

    def sizes(self, size: Size, patch: int) -> tuple[Size, ...]:
        """Latent cells of every stage. ValueError where one is smaller than a patch, or not larger than the last."""
        for scale in self.scales:
            if math.floor(min(size) * scale / patch + 0.5) < 1:
                raise ValueError(
                    f"at {scale:g} of its size this picture of {size[0]} x {size[1]} latent cells has less than one "
                    f"patch of {patch} x {patch}: take larger scales or a larger picture"
                )
        sizes = stage_sizes(*size, self.scales, patch)
        for (low, high), scale in zip(pairwise(sizes), self.scales, strict=False):
            if low == high or low[0] > high[0] or low[1] > high[1]:
                raise ValueError(
                    f"at {scale:g} of its size this picture has {low[0]} x {low[1]} latent cells, and {high[0]} x "
                    f"{high[1]} at the next: take fewer scales or a larger picture"
                )
        return sizes

    def plan(
        self,
        size: Size,
        patch: int,
        sigmas: Sequence[float],
        scaling: NoiseScaling,
        latents: str = "",
        stage: int | None = None,
    ) -> tuple[Segment, ...]:
        """The part of the schedule `sigmas` that each stage walks in a picture of `size` cells."""
        levels = [scaling.from_share(share) for share in self.shares(size, latents)]
        return plan_segments(self.sizes(size, patch), sigmas, levels, scaling, stage)


def left_out(stages: SpectralStages, segments: Sequence[Segment]) -> str:
    """A sentence about the stages that a run has no step for; empty where there are none."""
    walked = {segment.stage for segment in segments}
    missing = [scale for stage, scale in enumerate(stages.scales) if stage not in walked]
    if not missing:
        return ""
    sizes = f"{words(missing)} of full size {'has' if len(missing) == 1 else 'have'} no step"
    if segments[0].stage > 0:
        return f"{sizes}: the schedule begins at {segments[0].sigmas[0]:.3g}, where they are done already."
    return f"{sizes}: the schedule has too few between two jumps, or ends before. More steps would use them."


def check_jump(segments: Sequence[Segment], jump: int, shares: Sequence[float], sigmas: Sequence[float]) -> None:
    """ValueError unless a run has jump 1, 2, ... to stop before."""
    jumps = sum(segment.level_before is not None for segment in segments)
    if 1 <= jump <= jumps:
        return
    falls = words([round(share, 3) for share in shares])
    raise ValueError(
        f"this run has {jumps or 'no'} jump{'s' * (jumps != 1)}, so it cannot stop before jump {jump}: its picture "
        f"grows where noise falls to {falls}, and its {len(sigmas) - 1} steps begin at {sigmas[0]:.3g}. Take more "
        "steps, larger levels, or another jump"
    )


def check_start(first: Segment, sigma: float, empty: bool, at_noise: bool) -> None:
    """ValueError where a run leaves out its small sizes, as for a clip that is to be changed, but there is no clip."""
    if first.stage > 0 and empty and not at_noise:
        raise ValueError(
            f"the schedule begins at {sigma:.4g} and not at noise, but the latent is empty: give a clip to begin with, "
            "or a schedule that begins at noise"
        )


def work_share(segments: Sequence[Segment], size: Size, attention: float = 2.0) -> float:
    """Work of a run as a share of the same schedule at full size, where a step costs tokens to the power `attention`.

    2 is attention alone, 1 all that is linear in the tokens; a video model lies between.
    """
    steps = sum(segment.steps for segment in segments)
    return sum(s.steps / ratio_of(s.size, size) ** (2 * attention) for s in segments) / steps


def share_of_noise(sigma: float, scaling: NoiseScaling) -> float:
    """The share of noise at a level: itself for flows, `sigma / (1 + sigma)` for EPS and V."""
    return sigma if scaling.is_flow else sigma / (1 + sigma)


def words(numbers: Sequence[float]) -> str:
    """Numbers as a person writes them."""
    return ", ".join(f"{number:g}" for number in numbers) or "none"
