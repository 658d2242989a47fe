"""Files that are either the old one or the new one, never half of one, also after a power cut."""

from __future__ import annotations

import glob
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def write_beside(path: Path) -> Iterator[Path]:
    """Give a path beside `path`, renamed onto it when the block ends well and removed otherwise; folders are made.

    The file is on the disk before it gets its name, and its name before this returns. It has the permissions of any
    new file (0666 less the umask), whatever the block wrote it with.
    """
    make_folder(path.parent)
    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    part.unlink(missing_ok=True)  # of a killed process that had our number
    try:
        part.touch()
        permissions = part.stat().st_mode  # asking the file is safe; os.umask can only be read by changing it
        yield part
        part.chmod(permissions)  # safetensors, for one, makes files that only their owner can read
        sync_file(part)
        os.replace(part, path)
        sync_folder(path.parent)
    finally:
        part.unlink(missing_ok=True)


def remove_parts(path: Path) -> None:
    """Remove what killed processes left beside `path`; for files that one process at a time writes."""
    for part in path.parent.glob(f".{glob.escape(path.stem)}.*.part{glob.escape(path.suffix)}"):
        part.unlink(missing_ok=True)


def publish(unfinished: Path, folder: Path, stem: str, suffix: str) -> Path:
    """Move a finished file to `stem_00001_suffix` in `folder`, numbered after the highest there; never overwrites.

    The file is on the disk before it gets its name, and its name before this returns.
    """
    sync_file(unfinished)
    while not claim(unfinished, target := free_name(folder, stem, suffix)):
        pass  # another run took the name meanwhile
    sync_folder(folder)
    return target


def free_name(folder: Path, stem: str, suffix: str, taken: Collection[Path] = ()) -> Path:
    """`stem_00001_suffix` in `folder`, numbered after the highest that is there or `taken`."""
    names = [path.name for path in (*folder.iterdir(), *taken) if path.parent == folder]
    used = [name[len(stem) + 1 :].split("_")[0] for name in names if name.startswith(f"{stem}_")]
    number = max((int(text) for text in used if text.isdecimal()), default=0) + 1
    return folder / f"{stem}_{number:05}_{suffix}"


def claim(unfinished: Path, target: Path) -> bool:
    """Move a file to a name that nobody has; says whether that was so."""
    try:
        os.link(unfinished, target)  # unlike a rename it fails where there is a file of that name
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links: an empty file holds the name while the whole one moves there
        try:
            target.touch(exist_ok=False)
        except FileExistsError:
            return False
        try:
            os.replace(unfinished, target)
        except OSError:
            target.unlink()
            raise
    else:
        unfinished.unlink()
    return True


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, so that they outlast a power cut."""
    new = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for place in new:
        sync_folder(place.parent)


def sync_file(path: Path) -> None:
    """Come back when the content of a file is on the disk."""
    with open(path, "r+b") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Come back when the names in a folder are on the disk, as far as the system can do that."""
    with suppress(OSError):  # Windows opens no folders, and some network file systems do not sync them
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
