"""What films and pictures have in common."""

from __future__ import annotations

from dataclasses import dataclass

MOST_PIXELS = 1 << 26  # of a frame: 8192 x 8192


class ClipError(ValueError):
    """What is wrong with a film or a picture, as the end of a sentence that begins with its name."""


@dataclass(frozen=True)
class ClipInfo:
    """What a film or an animated picture is, as a player shows it."""

    width: int
    height: int
    fps: float
    seconds: float  # from its first frame until the last has been shown; 0 for a picture that stands still
    note: str = ""  # what is wrong with it, though it can be used
