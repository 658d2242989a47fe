"""Pictures as one animated webp."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

# Every frame is whole. One that only says what changes shows thin lines around it, and is not smaller.
WHOLE_FRAMES = {"kmin": 0, "kmax": 1}


def save_webp(
    file: Path | IO[bytes], pictures: Sequence[Image], milliseconds: int, quality: int, effort: int = 4
) -> None:
    """Save pictures that are shown for `milliseconds` each; an `effort` of 6 takes longest and is smallest."""
    pictures[0].save(
        file,
        format="WEBP",
        save_all=True,
        append_images=pictures[1:],
        duration=milliseconds,
        loop=0,
        quality=quality,
        method=effort,
        **WHOLE_FRAMES,
    )
