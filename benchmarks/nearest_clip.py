"""The real clip that a made clip comes closest to: same combination, at the best moment, size and place.

Places are found for all shifts at once by correlation; then moment, size and place are refined in turn.
"""

from __future__ import annotations

import torch
from pyramid_video.training.data.captions import BACKGROUNDS, Combination
from pyramid_video.training.data.datasets import AnimationDataset
from torch import Tensor

PHASES = 24  # moments at which the animation may begin
SCALES = (0.96, 0.98, 1.0, 1.02, 1.04)  # sizes of the subject
REFINEMENTS = (1.0, 0.5, 0.25)  # pixels, and parts of the distance of two phases


def nearest_clip(dataset: AnimationDataset, combination: Combination, clip: Tensor) -> Tensor:
    """The real clip (3, t, h, w) in -1..1 that is nearest to `clip` of that shape."""
    found = begin(dataset, combination, clip)
    best = squared_error(dataset, combination, found, clip)
    for part in REFINEMENTS:
        tried = [{"scale": scale} for scale in SCALES]
        tried += [{"phase": found["phase"] + sign * part / PHASES} for sign in (-1, 1)]
        tried += [{axis: found[axis] + sign * part} for axis in ("x", "y") for sign in (-1, 1)]
        for change in tried:
            changed = {**found, **change}
            error = squared_error(dataset, combination, changed, clip)
            if error < best:
                best, found = error, changed
    return dataset.clip_at(combination, **found)


def begin(dataset: AnimationDataset, combination: Combination, clip: Tensor) -> dict[str, float]:
    """The best of `PHASES` moments at the best shift by whole pixels."""
    size = dataset.size
    colour = torch.tensor(BACKGROUNDS[combination.background]).view(3, 1, 1, 1) / 127.5 - 1
    spectrum = torch.fft.rfft2(clip - colour, s=(2 * size, 2 * size))
    best, found = -float("inf"), {}
    for phase in range(PHASES):
        real = dataset.clip_at(combination, phase / PHASES) - colour
        product = (spectrum * torch.fft.rfft2(real, s=(2 * size, 2 * size)).conj()).sum((0, 1))
        agreement = torch.fft.irfft2(product) - real.square().sum() / 2
        place = int(agreement.argmax())
        if float(agreement.flatten()[place]) > best:
            best = float(agreement.flatten()[place])
            down, across = (float(shift - 2 * size * (shift > size)) for shift in divmod(place, 2 * size))
            found = {"phase": phase / PHASES, "scale": 1.0, "x": across, "y": down}
    return found


def squared_error(
    dataset: AnimationDataset, combination: Combination, changes: dict[str, float], clip: Tensor
) -> float:
    return float((dataset.clip_at(combination, **changes) - clip).square().mean())
