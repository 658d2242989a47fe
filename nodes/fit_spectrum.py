"""The block that measures how a VAE spreads detail over frequencies, so that a pyramid knows when to grow."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..drawings.pen import COARSE, FAINT, FINE, INK, PAPER, Pen, as_image, mix, on_node
from ..host import get_host
from .block import Block, Output, Wire
from .messages import show_message

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from ..samplers.fit_spectrum import FittedSpectrum

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 768, 440, 96, 744, 56, 380
USUAL_ROWS = (60, 90, 135)  # of latents that are 8 times smaller than 480p, 720p and 1080p


class FitSpectrum(Block):
    ID, NAME = "PyramidVideoFitSpectrum", "Fit spectrum"
    CATEGORY = "pyramid video/schedule"
    DESCRIPTION = (
        "Measures how the latents of a VAE spread detail over frequencies, from clips of what you make. 'Pyramid "
        "stages (any model)' then knows when to grow for a VAE that it does not know."
    )
    ALIASES = "spectrum, power law, vae, calibrate, frequency, measure"
    REQUIRED = (
        Wire("images", "IMAGE").tip(
            "A clip or pictures of what you make, at the size that you use: 64 frames or more."
        ),
        Wire("vae", "VAE").tip("The VAE of the model."),
    )
    OPTIONAL = (
        Wire("model", "MODEL").tip(
            "The model, whose own scale of latents is then used. Not connected: every channel is scaled to variance "
            "1, which is close for most."
        ),
        Wire("more_images", "IMAGE").tip("A second clip, of any size."),
    )
    OUTPUTS = (
        Output("PYRAMID_SPECTRUM", "For 'Pyramid stages (any model)' and 'Finish a clip'.", "spectrum"),
        Output("IMAGE", "The measured power and the fitted law.", "plot"),
        Output("STRING", "The table, the fit, and where pictures of usual sizes would grow.", "table"),
    )
    FUNCTION = "fit"

    def fit(self, images: Tensor, vae, model, more_images: Tensor | None):
        from ..samplers.fit_spectrum import fit_spectrum

        host = get_host().any_model
        clips = [host.encode(vae, clip, model) for clip in (images, more_images) if clip is not None]
        fitted = fit_spectrum(clips, "measured here", normalised=model is not None)
        drawing, text = draw_spectrum(fitted), text_of(fitted)
        ui = {**show_message(summary(fitted)), **on_node(drawing, name="spectrum")}
        return {"ui": ui, "result": (fitted.spectrum, as_image(drawing), text)}


def summary(fitted: FittedSpectrum) -> str:
    """What was found, in two sentences."""
    law = f"P(w) = {fitted.spectrum.amplitude:.3g} w^-{fitted.spectrum.exponent:.3g}, r squared {fitted.r_squared:.3f}"
    if fitted.is_law:
        return f"{law}, from {fitted.pictures} latent pictures."
    return f"{law}, from {fitted.pictures} latent pictures: a poor description, so the measured table is used."


def text_of(fitted: FittedSpectrum) -> str:
    """The summary, the levels of usual sizes, and the table."""
    lines = [summary(fitted), "", "rows of latents: half size ends at a share of noise of (careful / fast)"]
    for rows in USUAL_ROWS:
        careful, fast = (fitted.spectrum.jump_level(0.5, rows, delta) for delta in (0.01, 0.05))
        lines.append(f"{rows}: {careful:.3f} / {fast:.3f}")
    lines += ["", "cycles per shorter side: power"]
    return "\n".join([*lines, *(f"{w:.2f}: {power:.4g}" for w, power in fitted.table)])


def draw_spectrum(fitted: FittedSpectrum) -> Image:
    """Power by frequency, both in logarithms: dots as measured, a line as fitted."""
    pen = Pen(WIDTH, HEIGHT)
    law = [(w, fitted.spectrum.amplitude * w**-fitted.spectrum.exponent) for w, _ in fitted.table]
    frequencies = [math.log10(w) for w, _ in fitted.table]
    powers = [math.log10(p) for _, p in (*fitted.table, *law)]
    low, high = math.floor(min(powers)), math.ceil(max(powers))

    def place(w: float, p: float) -> tuple[float, float]:
        across = (math.log10(w) - frequencies[0]) / (frequencies[-1] - frequencies[0])
        return LEFT + (RIGHT - LEFT) * across, BOTTOM + (TOP - BOTTOM) * (math.log10(p) - low) / max(1, high - low)

    for power in range(low, high + 1):
        y = place(1.0, 10.0**power)[1]
        pen.line((LEFT, y), (RIGHT, y), colour=mix(PAPER, FAINT, 0.3), width=1)
        pen.text(LEFT - 12, y, f"{10.0**power:g}", FAINT, 15, "rm")
    for w in (0.5, 1, 2, 4, 8, 16, 32, 64, 128):
        if fitted.table[0][0] <= w <= fitted.table[-1][0]:
            pen.text(place(w, 1.0)[0], BOTTOM + 20, f"{w:g}", FAINT, 15)
    pen.text((LEFT + RIGHT) / 2, BOTTOM + 44, "cycles per shorter side", INK, 15)
    pen.text(LEFT, 26, f"power of {fitted.pictures} latent pictures, r squared {fitted.r_squared:.3f}", INK, 18, "lm")
    pen.line(*(place(w, p) for w, p in law), colour=FINE, width=2)
    for w, p in fitted.table:
        pen.dot(*place(w, p), COARSE, 4)
    return pen.finished()


BLOCKS = (FitSpectrum,)
