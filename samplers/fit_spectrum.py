"""The spectrum of a VAE's latents, measured from clips: a table of power by frequency, and the law that fits it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .spectral import dct
from .spectrum import LEAST_FREQUENCY, Spectrum

LEAST_CELLS = 8  # rows and columns of latents: fewer do not show how power falls
LEAST_PICTURES = 16
GOOD_FIT = 0.97  # r squared, in logarithms; below it the table goes before the law
BANDS_PER_OCTAVE = 4


@dataclass(frozen=True)
class FittedSpectrum:
    """What was measured: the spectrum to be used, how well the law describes the table, and of how much."""

    spectrum: Spectrum
    table: tuple[tuple[float, float], ...]
    r_squared: float
    pictures: int

    @property
    def is_law(self) -> bool:
        """Whether the law is used, not the table."""
        return not self.spectrum.table


def fit_spectrum(clips: Sequence[Tensor], name: str, normalised: bool) -> FittedSpectrum:
    """Measure latents (n, c, h, w) or (n, c, t, h, w) of clips of any sizes, in the scale that a model works in.

    Latents that are not `normalised` are brought to mean 0 and variance 1 for each channel. ValueError on clips too
    few, too small, or without any detail.
    """
    pictures = [frames_of(clip) for clip in clips]
    count = sum(len(frames) for frames in pictures)
    if count < LEAST_PICTURES:
        raise ValueError(
            f"{count} latent pictures; expected {LEAST_PICTURES} or more, from several clips of what you make: a "
            "spectrum of few says how these few look"
        )
    smallest = min(min(frames.shape[-2:]) for frames in pictures)
    if smallest < LEAST_CELLS:
        raise ValueError(
            f"the clips have {smallest} latent cells on their shorter side; expected {LEAST_CELLS} or more: take "
            "larger clips"
        )
    if not all(torch.isfinite(frames).all() for frames in pictures):
        raise ValueError("the latents of these clips hold NaN or infinity: check the VAE and its type")
    if not normalised:
        pictures = standardised(pictures)
    frequencies, powers = zip(*(coefficients(frames) for frames in pictures), strict=True)
    table = bands(torch.cat(frequencies), torch.cat(powers))
    if len(table) < 4 or any(power <= 0 for _, power in table):
        raise ValueError("these clips have no detail to measure, as of one colour: take clips of what you make")
    amplitude, exponent, r_squared = power_law(table)
    rows = () if r_squared >= GOOD_FIT else table
    return FittedSpectrum(Spectrum(name, amplitude, exponent, rows), table, r_squared, count)


def frames_of(clip: Tensor) -> Tensor:
    """A clip as pictures (frames, c, h, w), float32."""
    flat = clip.movedim(1, -3).flatten(0, -4) if clip.ndim == 5 else clip
    return flat.float()


def standardised(pictures: Sequence[Tensor]) -> list[Tensor]:
    """Every channel with mean 0 and variance 1 over all pictures."""
    values = torch.cat([frames.movedim(1, 0).flatten(1) for frames in pictures], dim=1)
    mean, deviation = values.mean(1).view(1, -1, 1, 1), values.std(1).clamp_min(1e-12).view(1, -1, 1, 1)
    return [(frames - mean) / deviation for frames in pictures]


def coefficients(frames: Tensor) -> tuple[Tensor, Tensor]:
    """Frequency in cycles per shorter side, and mean power, of every coefficient but the mean."""
    rows, columns = frames.shape[-2:]
    power = dct(frames).cpu().double().square().mean((0, 1))  # some devices know no float64
    down, across = (torch.arange(n, dtype=torch.float64) / (2 * n) for n in (rows, columns))
    frequency = min(rows, columns) * (down[:, None].square() + across.square()).sqrt()
    return frequency.flatten()[1:], power.flatten()[1:]


def bands(frequency: Tensor, power: Tensor) -> tuple[tuple[float, float], ...]:
    """Mean power in bands that are a quarter of an octave wide: (middle, power), rising; empty bands are left out."""
    band = (BANDS_PER_OCTAVE * (frequency / LEAST_FREQUENCY).log2()).round().long()
    rows = []
    for index in band.unique().tolist():
        here = band == index
        rows.append((math.exp(float(frequency[here].log().mean())), float(power[here].mean())))
    return tuple(rows)


def power_law(table: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    """A, beta and r squared of the straight line through the logarithms of a table."""
    points = torch.tensor(table, dtype=torch.float64).log()
    x, y = points[:, 0] - points[:, 0].mean(), points[:, 1] - points[:, 1].mean()
    slope = float((x * y).sum() / x.square().sum())
    spread = float(y.square().sum())
    left = float((y - slope * x).square().sum())
    amplitude = math.exp(float(points[:, 1].mean() - slope * points[:, 0].mean()))
    return amplitude, max(-slope, 1e-6), 1 - left / spread if spread > 0 else 0.0
