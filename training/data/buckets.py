"""Sizes of clips: a few aspects of about the same area, and how a picture is made to fit one."""

from __future__ import annotations

import math
from collections.abc import Iterable

from torch import Tensor
from torch.nn.functional import interpolate

from ...media.info import ClipInfo

WIDEST = 3.0  # aspect ratio of the widest bucket; the tallest is its inverse
WIDEST_SOURCE = 16.0  # a picture wider than that shows nothing in any bucket
AREA_RANGE = 1.5  # buckets have at most so many times the area that was asked for, or one so many times smaller
CLEARLY = 0.08  # of a picture: what another area must keep of it, so that folders are cut as ever where that is good
Bucket = tuple[int, int]  # height and width


def make_buckets(size: int, multiple: int) -> list[Bucket]:
    """Heights and widths of about `size` x `size` pixels, sides divisible by `multiple`, up to 3 to 1."""
    sides = range(multiple, int(size * math.sqrt(WIDEST)) + multiple, multiple)
    pairs = {(max(multiple, round(size * size / width / multiple) * multiple), width) for width in sides}
    misfits = {(h, w): misfit(h, w, size) for h, w in pairs if 1 / WIDEST <= w / h <= WIDEST}
    most = max(min(misfits.values()), math.log(AREA_RANGE))  # a coarse `multiple` may leave nothing nearer
    fitting = {pair for pair, far in misfits.items() if far <= most}
    return sorted(fitting | {(w, h) for h, w in fitting})


def more_buckets(size: int, multiple: int) -> list[Bucket]:
    """All heights and widths that `AREA_RANGE` allows, those of about `size` x `size` pixels first."""
    sides = range(multiple, int(size * math.sqrt(WIDEST * AREA_RANGE)) + multiple, multiple)
    pairs = [(h, w) for h in sides for w in sides if 1 / WIDEST <= w / h <= WIDEST]
    misfits = {(h, w): misfit(h, w, size) for h, w in pairs}
    return sorted((pair for pair in pairs if misfits[pair] <= math.log(AREA_RANGE) + 1e-9), key=misfits.__getitem__)


def misfit(height: int, width: int, size: int) -> float:
    """How far the area is from `size` x `size`, by ratio."""
    return abs(math.log(height * width / size**2))


def nearest_bucket(height: int, width: int, buckets: Iterable[Bucket], more: Iterable[Bucket] = ()) -> Bucket:
    """The bucket whose aspect is nearest, by ratio; one of `more` only where it keeps clearly more of the picture."""

    def far(bucket: Bucket) -> float:
        return abs(math.log(bucket[1] / bucket[0] * height / width))

    nearest = min(buckets, key=far)
    kept = math.exp(-far(nearest))  # of the picture; the rest is cut off
    for bucket in more if kept < 1 - CLEARLY else ():
        if math.exp(-far(bucket)) > kept + CLEARLY:
            nearest, kept = bucket, math.exp(-far(bucket))
    return nearest


def describe_change(found: ClipInfo, bucket: tuple[int, int], fps: float) -> str:
    """What is done to a video so that it fits: frames, size, edges."""
    height, width = bucket
    pace = found.fps / fps
    parts = [found.note] if found.note else []
    if found.seconds:
        pace_note = f"one frame in {pace:.3g}" if pace > 1 else "frames repeat"
        parts.append("every frame" if abs(pace - 1) < 0.01 else pace_note)
    scale = max(height / found.height, width / found.width)
    if scale > 1.01:
        parts.append(f"enlarged {scale:.2g} times")
    lost = 1 - height * width / (found.height * found.width * scale**2)
    if lost > 0.01:
        parts.append(f"{lost:.0%} cut off at the edges")
    return ", ".join(parts) or "as it is"


def fill(pictures: Tensor, size: tuple[int, int]) -> Tensor:
    """Scale pictures (n, c, h, w) to cover `size` and cut off what hangs over on both sides; bicubic."""
    height, width = size
    scale = max(height / pictures.shape[2], width / pictures.shape[3])
    covering = [max(side, round(old * scale)) for side, old in zip(size, pictures.shape[2:], strict=True)]
    pictures = interpolate(pictures, covering, mode="bicubic", antialias=True, align_corners=False).clamp(-1, 1)
    top, left = (covering[0] - height) // 2, (covering[1] - width) // 2
    return pictures[:, :, top : top + height, left : left + width]
