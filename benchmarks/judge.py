"""Says what a clip shows, by rules that know the animations but nothing of any model.

Background: the colour most pixels of the border are nearest to. Motion: the path of the foreground's centre, where
foreground is what differs from the border's own colour. Subject and size: the real animation that, drawn over that
colour at the best place and moment, differs least from the clip. A clip that no animation explains to two fifths shows
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pyramid_video.training.data.animations import resample
from pyramid_video.training.data.captions import BACKGROUNDS, MOTIONS, SIZES, Combination
from pyramid_video.training.data.datasets import TRAVEL, AnimationDataset
from torch import Tensor
from torch.nn.functional import avg_pool2d

NOTHING = "nothing"
BORDER = 2  # pixels
FOREGROUND = (
    20.0,
    40.0,
)  # distances from the background, in 0..255, at which a pixel begins to count, and counts in full
MOMENTS = 12  # frames of each animation that are tried
LOOKS = 4  # frames of the clip that are looked at
GRID = 32  # subjects are compared at this many pixels
PADDED = 48  # a subject fills at most two thirds of the grid, so half a grid of shift to each side does not wrap
LEAST_LIKENESS = 0.4


@dataclass(frozen=True)
class Verdict:
    """What a clip shows; `likeness` is the part of its foreground that the named animation explains, 0..1."""

    subject: str
    background: str
    motion: str
    size: str
    likeness: float

    def agrees(self, asked: Combination) -> dict[str, bool]:
        """Which of the things asked for are there."""
        return {
            name: getattr(self, name) == getattr(asked, name) for name in ("background", "motion", "subject", "size")
        }


class Judge:
    """Judges clips of the subjects, size and length of a dataset."""

    def __init__(self, dataset: AnimationDataset) -> None:
        if dataset.size % GRID:
            raise ValueError(f"clips of {dataset.size} pixels cannot be judged; expected a multiple of {GRID}")
        self.subjects = dataset.subjects
        self._kernels = self._draw_all(dataset)

    def __call__(self, video: Tensor) -> Verdict:
        """Judge one clip (3, t, h, w) in -1..1."""
        pixels = (video.float().clamp(-1, 1) + 1) * 127.5
        background, colour = find_background(pixels)
        subject, size, likeness = self._find_subject(pixels, colour)
        return Verdict(subject, background, find_motion(pixels, colour), size, likeness)

    def _draw_all(self, dataset: AnimationDataset) -> Tensor:
        """Spectra of every subject at every size and moment: (subjects, sizes, moments, 9, rows, columns).

        With a sprite p (colour times alpha) and a (alpha) over colour b the picture minus b is p - a b. So p, a (4) and
        the sums for its square, p p, p a and a a (5), give the distance to any picture over any colour at any place.
        """
        drawn = []
        for subject in dataset.subjects:
            sprite = dataset.sprite(subject)
            times = torch.arange(MOMENTS) * sprite.seconds / MOMENTS
            pictures = sprite.frames_at(times)
            for part in SIZES.values():
                height, width = (part * GRID * side / max(pictures.shape[-2:]) for side in pictures.shape[-2:])
                top, left = (torch.full((MOMENTS,), (GRID - side) / 2) for side in (height, width))
                drawn.append(resample(pictures, top, left, (height, width), (GRID, GRID)))
        p, a = torch.stack(drawn).split((3, 1), dim=2)  # (subjects * sizes, moments, 3 | 1, GRID, GRID)
        kernels = torch.cat([p, a, (p * p).sum(2, keepdim=True), p * a, a * a], 2)
        spectra = torch.fft.rfft2(kernels, s=(PADDED, PADDED)).conj()
        return spectra.unflatten(0, (len(dataset.subjects), len(SIZES)))

    def _find_subject(self, pixels: Tensor, colour: Tensor) -> tuple[str, str, float]:
        looks = torch.linspace(0, pixels.shape[1] - 1, LOOKS).round().long()
        difference = (pixels[:, looks] - colour.view(3, 1, 1, 1)).transpose(0, 1) / 255  # (looks, 3, h, w)
        difference = avg_pool2d(difference, pixels.shape[-1] // GRID)
        b = (colour / 255).view(3, 1, 1)
        p, a, pp, pa, aa = self._kernels.split((3, 1, 1, 3, 1), dim=3)

        frame = torch.fft.rfft2(torch.ones(GRID, GRID), s=(PADDED, PADDED))
        energy = pp[..., 0, :, :] - 2 * (b * pa).sum(3) + (b * b).sum() * aa[..., 0, :, :]
        energy = torch.fft.irfft2(energy * frame)  # (subjects, sizes, moments, shift y, shift x): what lies inside
        own = difference.square().sum()
        total = own.expand(len(self.subjects), len(SIZES)).clone()
        over_colour = p - b * a
        for look in torch.fft.rfft2(difference, s=(PADDED, PADDED)):
            agreement = torch.fft.irfft2((over_colour * look).sum(3))
            total += (energy - 2 * agreement).amin((2, 3, 4))
        best = int(total.argmin())
        explained = own - total.flatten()[best]
        likeness = float(explained / own.clamp(min=1.0))  # all that an empty clip holds is rounding
        subject, size = self.subjects[best // len(SIZES)], list(SIZES)[best % len(SIZES)]
        return (subject, size, likeness) if likeness >= LEAST_LIKENESS else (NOTHING, NOTHING, likeness)


def find_background(pixels: Tensor) -> tuple[str, Tensor]:
    """The named colour that most border pixels of (3, t, h, w) in 0..255 are nearest to, and their own median (3,)."""
    border = pixels[:, :, is_border(pixels)].flatten(1).T  # (n, 3)
    named = torch.cdist(border, torch.tensor(list(BACKGROUNDS.values())).float()).argmin(1)
    most = int(named.bincount(minlength=len(BACKGROUNDS)).argmax())
    return list(BACKGROUNDS)[most], border[named == most].median(0).values


def is_border(pixels: Tensor) -> Tensor:
    """Which pixels (h, w) of (..., h, w) lie at the edge of the frame."""
    border = torch.ones(pixels.shape[-2:], dtype=torch.bool)
    border[BORDER:-BORDER, BORDER:-BORDER] = False
    return border


def find_motion(pixels: Tensor, colour: Tensor) -> str:
    """How the foreground of (3, t, h, w) in 0..255 moves over background `colour`: a name of `MOTIONS`."""
    apart = (pixels - colour.view(3, 1, 1, 1)).norm(dim=0)  # (t, h, w)
    least, full = FOREGROUND
    grain = 2 * apart[:, is_border(pixels)].median()  # of the background itself
    weight = ((apart - least - grain) / (full - least)).clamp(0, 1) + 1e-6
    time = torch.linspace(-0.5, 0.5, pixels.shape[1])
    moved = []  # parts of the frame over the clip: the slope of the centre's path, x then y
    for axis, side in ((1, pixels.shape[-1]), (2, pixels.shape[-2])):
        mass = weight.sum(axis)  # (t, side)
        place = (mass @ torch.arange(side).float()) / mass.sum(1) / side
        moved.append(float((place * time).sum() / (time * time).sum()))
    step = [0, 0]
    axis = 0 if abs(moved[0]) > abs(moved[1]) else 1
    if abs(moved[axis]) > TRAVEL / 2:
        step[axis] = 1 if moved[axis] > 0 else -1
    return next(name for name, direction in MOTIONS.items() if direction == tuple(step))
