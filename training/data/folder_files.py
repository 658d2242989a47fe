"""Everything that lies in a folder of clips, by name, and why some of it is not opened."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from ...media.files import open_inside

BLOCK = 1 << 20


def list_folder(folder: Path) -> dict[str, str]:
    """Every file in `folder` and below by its name there, sorted, and why it is not opened; empty where it may be.

    Links to folders are not followed and hidden folders not entered; each has one entry.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}; give the folder that holds the videos")
    return dict(sorted(walk(folder)))


def walk(folder: Path) -> Iterator[tuple[str, str]]:
    refused: list[OSError] = []
    for place, folders, files in os.walk(folder, onerror=refused.append):
        below = Path(place).relative_to(folder)
        for name in files:
            yield (below / name).as_posix(), unusable_name(name)
        for name in list(folders):
            reason = (
                "a link to a folder is not followed; put the folder itself here"
                if Path(place, name).is_symlink()
                else ""
            )
            if reason := reason or unusable_name(name):
                folders.remove(name)
                yield (below / name).as_posix(), reason
    for error in refused:
        yield Path(error.filename).relative_to(folder).as_posix(), f"cannot be opened ({error.strerror})"


def unusable_name(name: str) -> str:
    """Why something of this name is left alone; empty when it is not."""
    if name.startswith("."):
        return "hidden, because its name begins with a dot"
    try:
        name.encode()
    except UnicodeEncodeError:
        return "its name is not text in UTF-8; give it another one"
    return ""


def content_key(folder: Path, name: str) -> str:
    """A word for the bytes of a file of `folder`, wherever and whenever it was put there."""
    found = (folder / name).stat()
    return hash_content(folder, name, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


@lru_cache(maxsize=1 << 16)
def hash_content(folder: Path, name: str, *times: int) -> str:
    """The hash of a file's content; not computed again in this process as long as its size and `times` stay."""
    found = hashlib.sha256()
    with open_inside(folder, folder / name) as file:
        while block := file.read(BLOCK):
            found.update(block)
    return found.hexdigest()
