"""Films and pictures alike: what a file of a data set holds, and its frames at given times."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from .files import open_inside, open_real
from .info import ClipError, ClipInfo
from .pictures import (
    MOST_BYTES,
    PICTURES,
    inspect_picture,
    on_white,
    open_picture,
    picture_frames_at,
    shown_frames,
    to_rgba,
)
from .video_reader import VIDEOS, inspect_video, open_video, video_frames_at

CLIPS = (*VIDEOS, *PICTURES)
MOST_VALUES = 1 << 30  # numbers of a clip that is read at once: 4 GiB in float32


def inspect_clip(folder: Path, path: Path) -> ClipInfo:
    """What a file of `folder` holds; ValueError says why it cannot be used."""
    picture = path.suffix.lower() in PICTURES
    with open_inside(folder, path, MOST_BYTES if picture else None) as file:
        return inspect_picture(file) if picture else inspect_video(file)


def clip_frames_at(folder: Path, path: Path, times: Sequence[float]) -> Iterator[np.ndarray]:
    """The frames that a file of `folder` shows at rising `times` in seconds, `(h, w, 3)` bytes.

    After its end a file shows its last frame. Raises ValueError when it cannot be decoded.
    """
    picture = path.suffix.lower() in PICTURES
    with open_inside(folder, path, MOST_BYTES if picture else None) as file:
        yield from picture_frames_at(file, times) if picture else video_frames_at(file, times)


def read_video(path: Path) -> tuple[list[np.ndarray], Fraction]:
    """All frames of a film or an animated picture, `(h, w, 3)` bytes, and how many are shown in a second.

    Raises ValueError where it cannot be decoded to its end, or takes too much memory; OSError as `open` does.
    """
    if path.suffix.lower() in PICTURES:
        with open_real(path, MOST_BYTES) as file, open_picture(file) as picture:
            seconds: list[float] = []
            frames = fitting(on_white(frame) for frame, shown in shown_frames(picture) if not seconds.append(shown))
            return frames, Fraction(len(frames) / sum(seconds)).limit_denominator(1000)
    with open_real(path) as file, open_video(file) as video:
        if note := video.cut_note():
            raise ClipError(f"{note}; cut it there or convert it anew")
        return fitting(video.convert(frame) for _, frame in video.frames()), video.rate


def read_picture(path: Path) -> list[np.ndarray]:
    """All frames of a picture that have the size of the first, `(h, w, 4)` bytes with alpha; errors as `read_video`."""
    with open_real(path, MOST_BYTES) as file, open_picture(file) as picture:
        return fitting(np.asarray(to_rgba(frame)) for frame, _ in shown_frames(picture))


def fitting(frames: Iterable[np.ndarray]) -> list[np.ndarray]:
    """The frames as a list; ValueError where they are of several sizes or too much for memory."""
    kept: list[np.ndarray] = []
    for frame in frames:
        if frame.shape != (kept or [frame])[0].shape:
            (height, width), (old_height, old_width) = frame.shape[:2], kept[0].shape[:2]
            change = f"from {old_width}x{old_height} to {width}x{height}"
            raise ClipError(f"changes its size {change} after {len(kept)} frames; convert it to one size")
        kept.append(frame)
        if len(kept) * frame.size > MOST_VALUES:
            height, width = frame.shape[:2]
            raise ClipError(
                f"has more than {MOST_VALUES // frame.size} frames of {width}x{height}, which fill 4 GB of memory; "
                "shorten it or make it smaller"
            )
    if not kept:
        raise ClipError("holds no picture")
    return kept
