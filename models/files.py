"""Files that are either the old one or the new one, never half of one, also after a power cut."""

from __future__ import annotations

import errno
import filecmp
import glob
import os
import secrets
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

DISK_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))  # EDQUOT is unknown on Windows
LONGEST_PART = 200  # bytes of a name that its unfinished file begins with; file systems take 255 in all
ABANDONED = 3600.0  # seconds without growth after which an unfinished file is what a killed process left
PATIENCE = 2.0 if os.name == "nt" else 0.0  # seconds; scanners of Windows hold a file that is new or has a new name
T = TypeVar("T")


@contextmanager
def write_beside(path: Path) -> Iterator[Path]:
    """Give a path beside `path`, renamed onto it when the block ends well and removed otherwise; folders are made.

    The file is on the disk before it gets its name, and its name before this returns. It has the permissions of any
    new file (0666 less the umask), whatever the block wrote it with. What a kill leaves is hidden and has no ending
    that lists of models look for.
    """
    with unfinished_file(path) as (part, permissions):
        yield part
        seal(part, permissions)
        patiently(os.replace, part, path)
        sync_folder(path.parent)


def write_new(path: Path, write: Callable[[Path], object]) -> Path:
    """Let `write` make a file that replaces none; returns its path, which has a number where the name is taken.

    The names are as the host's, `name_00002_` after `name`. What the last of them holds already is not kept twice.
    """
    remove_parts(path, ABANDONED)
    with unfinished_file(path) as (part, permissions):
        write(part)
        seal(part, permissions)
        number, target = 1, path
        while target.exists() or not claim(part, target):
            last, number = target, number + 1
            target = path.with_name(f"{path.stem}_{number:05}_{path.suffix}")
            if not target.exists() and filecmp.cmp(last, part, shallow=False):
                return last
        sync_folder(path.parent)
        return target


@contextmanager
def unfinished_file(path: Path) -> Iterator[tuple[Path, int]]:
    """An empty file beside `path` and its permissions; what still has its name after the block is removed."""
    make_folder(path.parent)
    # Threads share the number of a process, and containers on one volume may have the same.
    part = path.with_name(f"{part_stem(path)}{os.getpid()}.{secrets.token_hex(4)}.part")
    try:
        try:
            part.touch()
        except OSError as error:  # of the name that is wanted, not of a hidden one that nobody knows
            raise OSError(error.errno, error.strerror, str(path)) from error
        yield part, part.stat().st_mode  # asking the file is safe; os.umask can only be read by changing it
    finally:
        patiently(part.unlink, True)


def patiently(work: Callable[..., T], *arguments: object) -> T:
    """Do `work` on a file; on Windows again for a while, where a scanner that has just opened it is in the way."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return work(*arguments)
        except PermissionError:
            if time.monotonic() >= until:
                raise
        time.sleep(0.05)


def seal(part: Path, permissions: int) -> None:
    """Bring a written file to the disk; safetensors, for one, makes files that only their owner can read."""
    part.chmod(permissions)
    sync_file(part)


def part_stem(path: Path) -> str:
    """How the names of unfinished files beside `path` begin."""
    return f".{path.name.encode()[:LONGEST_PART].decode(errors='ignore')}."


def remove_parts(path: Path, older_than: float = 0.0) -> None:
    """Remove what killed processes left beside `path`; with an age in seconds, what others are writing stays."""
    for part in path.parent.glob(f"{glob.escape(part_stem(path))}*.part"):
        with suppress(OSError):  # it may be finished or removed meanwhile
            if time.time() - part.stat().st_mtime >= older_than:
                part.unlink()


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
            patiently(os.replace, unfinished, target)
        except OSError:
            target.unlink()
            raise
    else:
        patiently(unfinished.unlink)
    return True


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, so that they outlast a power cut."""
    new = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for place in new:
        sync_folder(place.parent)


def sync_file(path: Path) -> None:
    """Come back when the content of a file is on the disk."""
    with patiently(lambda: open(path, "r+b")) as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Come back when the names in a folder are on the disk, as far as the system can do that."""
    with suppress(OSError):  # Windows opens no folders, and some network file systems do not sync them
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
