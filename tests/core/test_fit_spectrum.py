"""Measuring the spectrum of latents: a known law is found, a bent one is told, and bad clips are refused."""

from __future__ import annotations

import pytest
import torch
from pyramid_video.nodes.fit_spectrum import draw_spectrum, text_of
from pyramid_video.samplers.fit_spectrum import fit_spectrum
from pyramid_video.samplers.spectral import dct_matrix
from pyramid_video.samplers.spectrum import WAN


def clips(power, rows: int, columns: int, frames: int = 40, seed: int = 0) -> torch.Tensor:
    """A clip (1, 4, frames, rows, columns) whose coefficients have the variance `power` of their frequency."""
    noise = torch.randn(1, 4, frames, rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    down, across = (torch.arange(n, dtype=torch.float64) / (2 * n) for n in (rows, columns))
    w = min(rows, columns) * (down[:, None].square() + across.square()).sqrt()
    coefficients = noise * power(w.clamp_min(0.5)).sqrt()
    return dct_matrix(rows).T @ coefficients @ dct_matrix(columns)


def wan(w: torch.Tensor) -> torch.Tensor:
    return WAN.amplitude * w**-WAN.exponent


def test_a_law_is_found():
    fitted = fit_spectrum([clips(wan, 24, 40), clips(wan, 30, 30, seed=1)], "measured", normalised=True)
    assert fitted.is_law and fitted.r_squared > 0.98 and fitted.pictures == 80
    assert fitted.spectrum.exponent == pytest.approx(WAN.exponent, rel=0.05)
    assert fitted.spectrum.jump_level(0.5, 60, 0.01) == pytest.approx(WAN.jump_level(0.5, 60, 0.01), abs=0.02)


def test_a_bent_spectrum_is_told_and_its_table_used():
    def bent(w: torch.Tensor) -> torch.Tensor:
        return wan(w) / (1 + (w / 3) ** 6)

    fitted = fit_spectrum([clips(bent, 40, 40)], "measured", normalised=True)
    assert not fitted.is_law and "poor description" in text_of(fitted)
    for w in (2.0, 5.0, 10.0):
        assert fitted.spectrum.power(w) == pytest.approx(float(bent(torch.tensor(w))), rel=0.35)


def test_the_scale_of_the_channels_does_not_matter():
    scale = torch.tensor([1.0, 10.0, 0.1, 3.0], dtype=torch.float64).view(1, 4, 1, 1, 1)
    plain, scaled = (
        fit_spectrum([c], "x", normalised=False) for c in (clips(wan, 24, 24), clips(wan, 24, 24) * scale + 2)
    )
    assert plain.spectrum.amplitude == pytest.approx(scaled.spectrum.amplitude, rel=1e-4)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda: clips(wan, 24, 24, frames=4), "16 or more"),
        (lambda: clips(wan, 4, 24), "larger clips"),
        (lambda: torch.ones(1, 4, 40, 24, 24), "no detail"),
        (lambda: torch.full((1, 4, 40, 24, 24), torch.nan), "NaN"),
    ],
)
def test_clips_that_tell_nothing_are_refused(made, words):
    with pytest.raises(ValueError, match=words):
        fit_spectrum([made()], "x", normalised=True)


def test_it_is_drawn():
    assert draw_spectrum(fit_spectrum([clips(wan, 24, 40)], "x", normalised=True)).size == (768, 440)
