"""Transparent animations as sprites, and sprites drawn into clips.

A sprite is drawn by exact area coverage: every pixel of the picture is the mean of the patch of sprite under it, so
that edges are smooth and motion finer than a pixel shows. Scale and shift act on rows and columns apart, which makes
drawing two small matrix products per frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...media.files import open_inside
from ...media.pictures import ANIMATIONS, MOST_BYTES, open_picture, shown_frames, to_rgba
from .captions import subject_name

KEPT_BYTES = 1 << 27  # of a decoded animation that is not decoded twice


@dataclass(frozen=True)
class Sprite:
    """One decoded animation, cropped to what it ever covers."""

    pixels: Tensor  # (frames, 4, h, w) uint8, red green blue premultiplied by alpha, and alpha
    ends: Tensor  # (frames,) seconds at which each frame ends

    @property
    def seconds(self) -> float:
        return float(self.ends[-1])

    def frames_at(self, times: Tensor) -> Tensor:
        """The frames shown at `times` (n,) in seconds, repeating for ever: (n, 4, h, w) float in 0..1."""
        shown = torch.searchsorted(self.ends, times.double() % self.seconds, right=True)
        return self.pixels[shown.clamp(max=len(self.ends) - 1)].float() / 255


def find_animations(folder: str | Path) -> list[Path]:
    """All animation files directly in `folder` whose names name something, sorted by name; no hidden ones."""
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}; give the folder that holds the animations")
    there = (path for path in folder.iterdir() if path.suffix.lower() in ANIMATIONS)
    found = sorted(path for path in there if not path.name.startswith(".") and subject_name(path.stem).strip())
    if not found:
        raise FileNotFoundError(f"{folder} holds no animations; expected files that end in {', '.join(ANIMATIONS)}")
    return found


def load_sprite(path: str | Path, side: int) -> Sprite:
    """Decode an animation and shrink it so that its longer side is at most `side` pixels.

    ValueError names a file that cannot be read. Of a large one, one frame is in memory at a time, besides the sprite.
    """
    path = Path(path)
    try:
        frames = repeatable_frames(path)
        covered = covered_part(pixels for pixels, _ in frames())
        shrunk, seconds = zip(*((shrink(pixels[covered], side), shown) for pixels, shown in frames()), strict=True)
    except (ValueError, OSError) as error:
        raise ValueError(
            f"{path} {getattr(error, 'strerror', None) or error}; make it again or take it away"
        ) from error
    return Sprite(torch.stack(shrunk), torch.tensor(seconds, dtype=torch.float64).cumsum(0))


def frames_of(path: Path) -> Iterator[tuple[np.ndarray, float]]:
    """The frames of an animation, `(h, w, 4)` bytes, and for how many seconds each is shown."""
    with open_inside(path.parent, path, MOST_BYTES) as file, open_picture(file) as picture:
        for frame, seconds in shown_frames(picture):
            yield np.asarray(to_rgba(frame)), seconds


def repeatable_frames(path: Path) -> Callable[[], Iterable[tuple[np.ndarray, float]]]:
    """Gives what `frames_of` gives, each time that it is called: out of memory if it is little, else decoded anew."""
    kept, size = [], 0
    for frame in frames_of(path):
        kept.append(frame)
        size += frame[0].nbytes
        if size > KEPT_BYTES:
            return lambda: frames_of(path)
    return lambda: kept


def covered_part(frames: Iterable[np.ndarray]) -> tuple[slice, slice]:
    """The rows and columns that an animation ever covers; ValueError where it has no transparent background."""
    ever: Any = np.False_
    always: Any = np.True_
    for pixels in frames:
        ever, always = ever | (pixels[..., 3] > 0), always & (pixels[..., 3] > 0)
    if not ever.any():
        raise ValueError("is transparent everywhere; there is nothing to draw")
    if always.all():
        raise ValueError("has no transparent background; expected an animation with an alpha channel")
    rows, columns = np.flatnonzero(ever.any(axis=1)), np.flatnonzero(ever.any(axis=0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def shrink(picture: np.ndarray, side: int) -> Tensor:
    """Premultiply a picture (h, w, 4) by its alpha and bring its longer side down to `side`: (4, h, w) uint8."""
    pixels = torch.from_numpy(picture.astype(np.float32)).permute(2, 0, 1)
    pixels[:3] *= pixels[3:] / 255
    height, width = picture.shape[:2]
    scale = min(1.0, side / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    return resample(pixels[None], torch.zeros(1), torch.zeros(1), size, size)[0].round().to(torch.uint8)


def draw_sprite(
    sprite: Tensor, top: Tensor, left: Tensor, sprite_size: tuple[float, float], size: int, background: Sequence[int]
) -> Tensor:
    """Draw sprite frames (n, 4, h, w) over a plain colour (red, green, blue in 0..255): (n, 3, size, size) in 0..1.

    `top` and `left` (n,) say in pixels where each frame's corner goes, `sprite_size` how tall and wide it is there.
    """
    picture = resample(sprite, top, left, sprite_size, (size, size))
    colour = torch.tensor(background, dtype=picture.dtype).view(3, 1, 1) / 255
    return picture[:, :3] + (1 - picture[:, 3:]) * colour


def resample(picture: Tensor, top: Tensor, left: Tensor, size: tuple[float, float], canvas: tuple[int, int]) -> Tensor:
    """Place pictures (n, c, h, w), scaled to `size`, on an empty canvas by area coverage: (n, c, *canvas)."""
    n, c, h, w = picture.shape
    rows = coverage(h, top, size[0], canvas[0]).expand(n, -1, -1)
    columns = coverage(w, left, size[1], canvas[1]).expand(n, -1, -1)
    across = (picture.reshape(n, c * h, w) @ columns.mT).unflatten(1, (c, h))  # (n, c, h, canvas width)
    return (rows @ across.transpose(1, 2).flatten(2)).unflatten(2, (c, -1)).transpose(1, 2)


def coverage(length: int, start: Tensor, scaled: float, canvas: int) -> Tensor:
    """How much of each canvas pixel each source pixel fills: (n, canvas, length), for `start` (n,) in canvas pixels."""
    per_pixel = length / scaled  # source pixels under one canvas pixel
    low = (torch.arange(canvas) - start[:, None]) * per_pixel  # (n, canvas)
    source = torch.arange(length)
    overlap = torch.minimum(low[..., None] + per_pixel, source + 1) - torch.maximum(low[..., None], source)
    return overlap.clamp(min=0) / per_pixel
