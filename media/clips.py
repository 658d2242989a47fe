"""Films and pictures alike: what a file of a data set holds, and its frames at given times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from .files import open_inside
from .info import ClipInfo
from .pictures import MOST_BYTES, PICTURES, inspect_picture, picture_frames_at
from .video_reader import VIDEOS, inspect_video, video_frames_at

CLIPS = (*VIDEOS, *PICTURES)


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
