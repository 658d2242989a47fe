"""Pictures and animations through Pillow, read as a browser shows them, one frame in memory at a time."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageCms, ImageOps, ImageSequence

from .files import other_file
from .info import MOST_PIXELS, ClipError, ClipInfo

ANIMATIONS = (".webp", ".gif", ".png", ".apng")
PICTURES = (*ANIMATIONS, ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
# What may be inside. Pillow reads more, some of it by starting other programs.
FORMATS = ("PNG", "GIF", "WEBP", "JPEG", "BMP", "TIFF")
ANIMATED = ("GIF", "WEBP", "PNG")  # the others hold further pictures: thumbnails, pages, the other eye's view
DEFAULT_FRAME_SECONDS = 0.1  # what browsers give a frame that states no duration, or one that no screen could show
SHORTEST_FRAME_SECONDS = 0.011
MOST_DECODED = 1 << 32  # pixels of all frames together; a minute or so of work
MOST_FRAMES = 10_000
MOST_BYTES = 1 << 29  # of a file
ORIENTATION, LYING = 0x0112, range(5, 9)  # in EXIF: rows and columns change places


@contextmanager
def open_picture(file: BinaryIO) -> Iterator[Image.Image]:
    """Open a picture file; whatever goes wrong in it becomes a ValueError that says so."""
    try:
        with Image.open(file, formats=FORMATS) as picture:
            check_size(picture)
            yield picture
    except ClipError:
        raise
    except Image.DecompressionBombError as error:
        raise ClipError(f"is too large; at most {MOST_PIXELS:,} pixels are read") from error
    except Image.UnidentifiedImageError as error:
        reason = other_file(file) or f"cannot be read as a picture (none of {', '.join(FORMATS)})"
        raise ClipError(reason) from error
    except Exception as error:  # Pillow's readers raise nearly anything on damaged files
        raise ClipError(f"cannot be read as a picture ({error or type(error).__name__})") from error


def check_size(picture: Image.Image) -> None:
    """Refuse a picture that says it is huge before a byte of it is decoded."""
    if picture.width * picture.height > MOST_PIXELS:
        raise ClipError(f"is {picture.width}x{picture.height}; at most {MOST_PIXELS:,} pixels are read")


def shown_frames(picture: Image.Image) -> Iterator[tuple[Image.Image, float]]:
    """Yield the frames of an open picture and for how many seconds a browser shows each."""
    decoded = count = 0
    frames = ImageSequence.Iterator(picture) if picture.format in ANIMATED else iter([picture])
    for frame in islice(
        frames, 1 if picture.info.get("default_image") else 0, None
    ):  # what old programs show of an apng
        check_size(frame)
        decoded, count = decoded + frame.width * frame.height, count + 1
        if decoded > MOST_DECODED or count > MOST_FRAMES:
            most = f"{MOST_FRAMES:,} frames or {MOST_DECODED:,} pixels in all of them"
            raise ClipError(f"has more than {most}; make it a video")
        frame.load()  # webp says how long a frame is shown when it is decoded, and not before
        seconds = frame.info.get("duration", 0) / 1000
        yield frame, seconds if seconds >= SHORTEST_FRAME_SECONDS else DEFAULT_FRAME_SECONDS


def shown_size(frame: Image.Image) -> tuple[int, int]:
    """Width and height of a loaded frame as `to_rgba` makes it, without the work."""
    check_numbers(frame)
    width, height = frame.size
    return (height, width) if frame.getexif().get(ORIENTATION) in LYING else (width, height)


def check_numbers(frame: Image.Image) -> None:
    """Refuse what cannot be shown in eight bits."""
    if frame.mode == "F":
        raise ClipError("has pixels that are not whole numbers; save it with 8 or 16 bits")


def to_rgba(frame: Image.Image) -> Image.Image:
    """A frame upright and in eight bits of red, green, blue and alpha; 16 bits of grey keep their brightness."""
    check_numbers(frame)
    frame = ImageOps.exif_transpose(frame)
    if frame.mode.startswith("I"):
        grey = np.asarray(frame).astype(np.int64)
        frame = Image.fromarray((grey.clip(0, 65535) / 257).round().astype(np.uint8))
    return frame.convert("RGBA")


def to_srgb(frame: Image.Image) -> Image.Image:
    """A frame as `to_rgba` makes it, with its colour profile applied."""
    profile, rgba = frame.info.get("icc_profile"), to_rgba(frame)
    if not profile or frame.mode not in ("RGB", "RGBA", "P", "CMYK"):
        return rgba
    source = frame if frame.mode == "CMYK" else rgba.convert("RGB")
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        colours = ImageCms.profileToProfile(source, own, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return rgba  # a profile that is damaged, or for other colours than the picture's: browsers pass it over
    if frame.mode == "CMYK":
        return ImageOps.exif_transpose(colours).convert("RGBA")
    colours.putalpha(rgba.getchannel("A"))
    return colours


def on_white(frame: Image.Image) -> np.ndarray:
    """A frame in sRGB with white where it is transparent, `(h, w, 3)` bytes."""
    rgba = to_srgb(frame)
    return np.asarray(Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB"))


def inspect_picture(file: BinaryIO) -> ClipInfo:
    """Add up how long the frames of a picture are shown; 0 seconds for a single one. ValueError says what is wrong."""
    with open_picture(file) as picture:
        count, seconds, size = 0, 0.0, (0, 0)
        for frame, shown in shown_frames(picture):
            if not count:
                size = shown_size(frame)
            count, seconds = count + 1, seconds + shown
        if not count:
            raise ClipError("holds no picture")
        return ClipInfo(*size, count / seconds, seconds if count > 1 else 0.0)


def picture_frames_at(file: BinaryIO, times: Sequence[float]) -> Iterator[np.ndarray]:
    """The frames shown at rising `times` in seconds, `(h, w, 3)` bytes; after its end a file shows its last frame."""
    with open_picture(file) as picture:
        wanted, end, frame = list(times), 0.0, None
        for frame, seconds in shown_frames(picture):
            end += seconds
            past = [time for time in wanted if time < end - 1e-6]
            if past:
                yield from [on_white(frame)] * len(past)
                del wanted[: len(past)]
            if not wanted:
                return
        if frame is None:
            raise ClipError("holds no picture")
        yield from [on_white(frame)] * len(wanted)
