"""Videos and animated pictures as footage: how long, how large, how fast, and the frames at given times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageSequence, UnidentifiedImageError
from torch import Tensor

from .animations import DEFAULT_FRAME_SECONDS

VIDEOS = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi")
PICTURES = (".webp", ".gif", ".png", ".apng")
LONGEST = 3600.0  # seconds; a container that claims more is taken for broken


@dataclass(frozen=True)
class Footage:
    """What a file holds."""

    width: int
    height: int
    fps: float
    seconds: float  # until the last frame has been shown


def probe(path: Path) -> Footage:
    """Find out what `path` holds; ValueError says why it cannot be used."""
    found = probe_picture(path) if path.suffix.lower() in PICTURES else probe_video(path)
    if not 0 < found.seconds <= LONGEST or not found.fps > 0:
        raise ValueError(f"says it is {found.seconds:g} s long at {found.fps:g} frames a second; it is broken")
    return found


def probe_video(path: Path) -> Footage:
    """Read the header of a video, and its packets where the header does not say how long it is."""
    import av

    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ValueError("holds no video")
            stream = container.streams.video[0]
            fps = float(stream.average_rate or stream.guessed_rate or 0)
            if stream.duration and stream.time_base:
                seconds = float(stream.duration * stream.time_base)
            elif container.duration:
                seconds = container.duration / av.time_base
            else:
                times = [float(packet.pts * packet.time_base) for packet in container.demux(stream) if packet.pts]
                seconds = max(times, default=0.0) + (1 / fps if fps else 0.0)
            next(container.decode(stream), None)  # a header alone proves nothing
            return Footage(stream.width, stream.height, fps, seconds)
    except (av.FFmpegError, OSError) as error:
        raise ValueError(f"cannot be read as a video ({error.strerror or error})") from error


def probe_picture(path: Path) -> Footage:
    """Add up how long the frames of an animated picture are shown."""
    ends, size = [], (0, 0)
    for picture, end in picture_frames(path):
        ends.append(end)
        size = picture.size
    if len(ends) < 2:
        raise ValueError("is a single picture, not an animation")
    return Footage(*size, len(ends) / ends[-1], ends[-1])


def picture_frames(path: Path):
    """Yield the frames of an animated picture and the seconds at which each ends."""
    try:
        with Image.open(path) as file:
            end = 0.0
            for frame in ImageSequence.Iterator(file):
                frame.load()  # webp says how long a frame is shown when it is decoded, and not before
                end += frame.info.get("duration", 0) / 1000 or DEFAULT_FRAME_SECONDS
                yield frame, end
    except (UnidentifiedImageError, OSError, EOFError, SyntaxError, ValueError) as error:
        raise ValueError(f"cannot be read as a picture ({error})") from error


def read_frames(path: Path, times: Sequence[float]) -> Tensor:
    """The frames shown at rising `times` in seconds, `(n, 3, h, w)` bytes; after its end a file shows its last frame.

    Raises ValueError when the file cannot be decoded.
    """
    shown = picture_at(path, times) if path.suffix.lower() in PICTURES else video_at(path, times)
    return torch.from_numpy(np.stack(shown)).permute(0, 3, 1, 2)


def video_at(path: Path, times: Sequence[float]) -> list[np.ndarray]:
    import av

    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            begin = float((stream.start_time or 0) * stream.time_base)
            container.seek(int((begin + times[0]) / stream.time_base), stream=stream)
            wanted, shown, last = list(times), [], None
            for frame in container.decode(stream):
                at = float(frame.pts * frame.time_base) - begin
                while wanted and last is not None and at > wanted[0] + 1e-6:  # the frame before was still shown then
                    shown.append(last.to_ndarray(format="rgb24"))
                    wanted.pop(0)
                last = frame
                if not wanted:
                    break
            if last is None:
                raise ValueError("holds no frame that can be decoded")
            return shown + [last.to_ndarray(format="rgb24")] * len(wanted)
    except (av.FFmpegError, OSError) as error:
        raise ValueError(f"cannot be decoded ({error.strerror or error})") from error


def picture_at(path: Path, times: Sequence[float]) -> list[np.ndarray]:
    wanted, shown, last = list(times), [], None
    for frame, end in picture_frames(path):
        last = on_white(frame)
        while wanted and wanted[0] < end - 1e-6:
            shown.append(last)
            wanted.pop(0)
        if not wanted:
            break
    return shown + [last] * len(wanted)


def on_white(picture: Image.Image) -> np.ndarray:
    """The picture with white where it is transparent, `(h, w, 3)` bytes."""
    picture = picture.convert("RGBA")
    return np.asarray(Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB"))
