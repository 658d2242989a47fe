"""Everything that lies in a folder of clips, by name, and why some of it is not opened."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

from ...media.clips import inspect_clip
from ...media.files import open_inside
from ...media.info import ClipInfo

BLOCK = 1 << 26

_hashes: dict[tuple[Path, str, tuple[int, int, int]], str] = {}


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


def content_key(folder: Path, name: str, on_block: Callable[[], None] | None = None) -> str:
    """A key of the bytes of a file of `folder`, wherever and whenever it was put there.

    `on_block` is called after each 64 MB; what it raises ends the work. A file is not read again in this process while
    its size and times stay.
    """
    place = folder, name, version_of(folder / name)
    if place not in _hashes:
        _hashes[place] = hash_content(folder, name, on_block)
    return _hashes[place]


def clip_info(folder: Path, name: str) -> ClipInfo:
    """What the clip `name` of `folder` holds; ValueError says why it cannot be used."""
    try:
        version = version_of(folder / name)
    except OSError:  # a link to nowhere, for example
        return inspect_clip(folder, folder / name)  # which says what is wrong with it
    return read_header(folder, name, *version)


def version_of(path: Path) -> tuple[int, int, int]:
    """Size and times of a file, which change with it."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


def folder_version(folder: Path) -> str:
    """A key of the names, sizes and times of all files in `folder` and below; none of them is opened."""
    found = hashlib.sha256()
    for name in list_folder(folder):
        path = folder / name
        version = version_of(path) if path.exists() else ()  # a link may lead nowhere
        found.update(repr((name, version)).encode())
    return found.hexdigest()


def hash_content(folder: Path, name: str, on_block: Callable[[], None] | None) -> str:
    """The hash of a file's content."""
    found = hashlib.sha256()
    with open_inside(folder, folder / name) as file:
        while block := file.read(BLOCK):
            found.update(block)
            if on_block is not None:
                on_block()
    return found.hexdigest()


@lru_cache(maxsize=1 << 16)
def read_header(folder: Path, name: str, *version: int) -> ClipInfo:
    """What a clip holds; not read again in this process while its `version` stays."""
    return inspect_clip(folder, folder / name)
