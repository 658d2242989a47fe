"""Clips side by side, brought to one height and one length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .pen import INK, PAPER, Pen

if TYPE_CHECKING:
    from torch import Tensor

GAP = 4
STRIP = 28  # height of the labels
SMALLEST_LABELLED = 192  # height of a clip, so that there is room for words above it


def side_by_side(clips: Sequence[Tensor], labels: Sequence[str]) -> tuple[Tensor, list[str]]:
    """Join clips `(frames, h, w, c)` in 0..1 from left to right; labels may be fewer, or none.

    Lower clips are enlarged to the height of the highest, all to twice that or more where they are too small for
    labels, and shorter ones repeat their last frame. Returns the clip, of even width and height as video files want
    it, and a sentence for everything that was changed.
    """
    import torch

    height = max(clip.shape[1] for clip in clips)
    if any(labels):
        height *= -(-SMALLEST_LABELLED // height)
    length = max(len(clip) for clip in clips)
    columns, changed = [], {}
    for number, clip in enumerate(clips, 1):
        pixels, change = fit(clip[..., :3], height, length)
        if change:
            changed.setdefault(change, []).append(number)
        columns.append(with_label(pixels, labels[number - 1] if number <= len(labels) else "", any(labels)))
    gap = paper(length, columns[0].shape[1], GAP, columns[0])
    parts = [part for column in columns for part in (gap, column)][1:]
    joined = torch.cat(parts, dim=2)
    odd = [joined.shape[axis] % 2 for axis in (1, 2)]
    even = paper(length, joined.shape[1] + odd[0], joined.shape[2] + odd[1], joined)
    even[:, : joined.shape[1], : joined.shape[2]] = joined
    return even, [f"{named(numbers, len(clips))}: {change}." for change, numbers in changed.items()]


def named(numbers: Sequence[int], count: int) -> str:
    """What to call some of `count` clips."""
    if len(numbers) == count:
        return "All clips"
    return f"Clip{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"


def fit(clip: Tensor, height: int, length: int) -> tuple[Tensor, str]:
    """A clip of that height and length, and what was done to it."""
    import torch
    from torch.nn.functional import interpolate

    frames, h, w = clip.shape[:3]
    done = []
    if h != height:
        width = max(1, round(w * height / h))
        clip = interpolate(clip.movedim(-1, 1), (height, width), mode="bilinear").movedim(1, -1)
        done.append(f"enlarged from {w}x{h} to {width}x{height}")
    if frames != length:
        clip = torch.cat([clip, clip[-1:].expand(length - frames, -1, -1, -1)])
        done.append(f"ends after {frames} of {length} frames and repeats its last one")
    return clip, ", ".join(done)


def with_label(clip: Tensor, label: str, labelled: bool) -> Tensor:
    """A clip with a strip above that holds its label, where clips are labelled."""
    import torch

    from .pen import as_image

    if not labelled:
        return clip
    pen = Pen(clip.shape[2], STRIP)
    pen.text(clip.shape[2] / 2, STRIP / 2, label, INK, fitting_size(label, clip.shape[2]))
    strip = as_image(pen.finished()).to(clip)
    return torch.cat([strip.expand(len(clip), -1, -1, -1), clip], dim=1)


def fitting_size(label: str, width: int) -> int:
    """The font size at which a label is about as wide as its clip, if it is long."""
    return max(6, min(16, round(1.8 * width / max(1, len(label)))))


def paper(length: int, height: int, width: int, like: Tensor) -> Tensor:
    """An empty clip in the colour of the drawings."""
    return like.new_tensor(PAPER).div(255).expand(length, height, width, 3).clone()
