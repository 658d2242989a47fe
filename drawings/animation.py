"""Clips as one animated file, and frames as PIL has them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..media.webp import save_webp
from ..models.files import write_beside

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

GAP = 2  # pixels between two clips
WIDEST = 4096  # pixels of a row of them; webp ends at 16383 either way


def save_animation(clips: Sequence[Tensor], path: Path, fps: float, effort: int = 4) -> Path:
    """All clips as one animated webp, beside each other and, where that becomes too wide, in rows.

    They are in 0..1, or as `in_bytes` has them. `effort` is that of `save_webp`.
    """
    from PIL import Image

    frames = []
    for shown in zip(*clips, strict=True):
        height, width = shown[0].shape[:2]
        columns = min(len(shown), max(1, (WIDEST + GAP) // (width + GAP)))
        rows = -(-len(shown) // columns)
        sheet = Image.new("RGB", ((width + GAP) * columns - GAP, (height + GAP) * rows - GAP), "white")
        for number, frame in enumerate(shown):
            row, column = divmod(number, columns)
            sheet.paste(to_picture(frame), (column * (width + GAP), row * (height + GAP)))
        frames.append(sheet)
    with write_beside(path) as part:
        save_webp(part, frames, round(1000 / fps), quality=90, effort=effort)
    return path


def to_picture(frame: Tensor) -> Image:
    """A frame `(h, w, 3)` in 0..1, or of a clip `in_bytes`."""
    from PIL import Image

    return Image.fromarray(frame_in_bytes(frame).numpy())


def reduced(clip: Tensor, longest: int) -> Iterator[Tensor]:
    """The frames `(h, w, 3)` of a clip in 0..1 as `in_bytes` has them, where their longer side is at most `longest`."""
    import numpy as np
    import torch

    for frame in clip:
        picture = to_picture(frame)
        picture.thumbnail((longest, longest))
        yield torch.from_numpy(np.array(picture))


def in_bytes(clip: Tensor) -> Tensor:
    """A clip `(frames, h, w, 3)` in 0..1 to be drawn, in a quarter of the memory of float32."""
    import torch

    small = torch.empty(clip.shape, dtype=torch.uint8)
    for frame, place in zip(clip, small, strict=True):  # one by one: on the way a frame is there three times
        place.copy_(frame_in_bytes(frame))
    return small


def frame_in_bytes(frame: Tensor) -> Tensor:
    """A frame in 0..1 as whole numbers in 0..255; one of these as it is."""
    return (frame.clamp(0, 1) * 255).round().byte().cpu() if frame.is_floating_point() else frame
