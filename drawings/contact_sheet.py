"""Videos as one picture: frames of clips, a latent video in colours, or each of its channels by itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .animation import to_picture
from .pen import FAINT, Pen

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from ..models.latent_format import LatentFormat

SHEET = 1024  # pixels that the longer edge may have, where cells of latents need not be smaller than they are
SMALLEST, LARGEST = 64, 256  # pixels of the longer edge of a frame
MOST_FRAMES = 8  # of each channel
GAP, LINE = 4, 18
SHOWN = 5  # frames of each clip
SMALLEST_CLIP = 64  # pixels of the shorter side of its frames
CLIP_GAP = 2
SPREAD = 3.0  # deviations from black, or white, to the middle


def clip_sheet(clips: Sequence[Tensor]) -> Image:
    """A few frames of every clip `(frames, h, w, 3)`, a clip a row: small ones larger, large ones smaller.

    Clips are in 0..1, or as `animation.in_bytes` has them.
    """
    from PIL import Image

    height, width = clips[0].shape[1:3]
    scale = min(max(1, -(-SMALLEST_CLIP // min(height, width))), (SHEET / SHOWN - CLIP_GAP) / width)
    size = max(1, int(width * scale)), max(1, int(height * scale))
    cell = size[0] + CLIP_GAP, size[1] + CLIP_GAP
    sheet = Image.new("RGB", (cell[0] * SHOWN - CLIP_GAP, cell[1] * len(clips) - CLIP_GAP), "white")
    for row, clip in enumerate(clips):
        for column in range(SHOWN):
            frame = to_picture(clip[round(column * (len(clip) - 1) / (SHOWN - 1))])
            sheet.paste(frame.resize(size), (column * cell[0], row * cell[1]))
    return sheet


def standardised(latent: Tensor) -> Tensor:
    """`(b, c, t, h, w)` with mean 0 and deviation 1 in every channel of every clip."""
    mean = latent.mean(dim=(2, 3, 4), keepdim=True)
    return (latent - mean) / latent.std(dim=(2, 3, 4), keepdim=True, correction=0).clamp_min(1e-6)


def frame_sheet(clip: Tensor, latent_format: LatentFormat) -> Image:
    """All frames of a normalised clip `(c, t, h, w)` in colours, row after row."""
    pictures = latent_format.preview(clip.movedim(1, 0))  # (t, h, w, 3)
    columns = math.ceil(math.sqrt(len(pictures) * pictures.shape[1] / pictures.shape[2]))
    return sheet(pictures, [f"{number}" for number in range(len(pictures))], max(1, columns))


def channel_sheet(clip: Tensor) -> Image:
    """The channels of a clip `(c, t, h, w)` with deviation 1, a row each, grey in the middle, up to 8 frames of it."""
    frames = clip.shape[1]
    shown = min(frames, MOST_FRAMES)
    chosen = [round(number * (frames - 1) / max(1, shown - 1)) for number in range(shown)]
    grey = (clip[:, chosen] / (2 * SPREAD) + 0.5).clamp(0, 1)  # (c, shown, h, w)
    labels = [f"channel {channel}, frame {frame}" for channel in range(len(clip)) for frame in chosen]
    # Two channels share a row where they are many and short, so that the sheet is not a ribbon.
    beside = max(1, round(math.sqrt(len(clip) * clip.shape[2] / (shown * clip.shape[3]))))
    return sheet(grey.flatten(0, 1).unsqueeze(-1).expand(-1, -1, -1, 3), labels, shown * beside)


def sheet(pictures: Tensor, labels: list[str], columns: int) -> Image:
    """Pictures `(n, h, w, 3)` in 0..1 in rows of `columns`, each cell of them a whole number of pixels wide."""
    from PIL import Image

    height, width = pictures.shape[1:3]
    wanted = min(LARGEST, max(SMALLEST, SHEET / columns))
    scale = max(1, round(wanted / max(height, width)))
    across, down = width * scale + GAP, height * scale + GAP + LINE
    pen = Pen(columns * across + GAP, -(-len(pictures) // columns) * down + GAP)
    places = [(GAP + n % columns * across, GAP + n // columns * down) for n in range(len(pictures))]
    for (x, y), label in zip(places, labels, strict=True):
        pen.text(x, y + LINE / 2, fitting(label, width * scale), FAINT, 12, "lm")
    result = pen.finished()
    for (x, y), pixels in zip(places, pictures, strict=True):
        frame = to_picture(pixels)
        result.paste(frame.resize((width * scale, height * scale), Image.Resampling.NEAREST), (x, y + LINE))
    return result


def fitting(label: str, width: int) -> str:
    """A label as it fits over a picture: whole, or its first letters and numbers."""
    return label if len(label) * 7 <= width else "".join(word[0] if word.isalpha() else word for word in label.split())
