"""Folders that options of a command name: refused before the long work starts where they will not do."""

from __future__ import annotations

import argparse
import errno
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .errors import RunnerError

SPARE_BYTES = 16 << 20  # a clip needs far less; below this a disk is as good as full


def a_name(text: str) -> str:
    """The value of an option that is a name: an empty one would mean the current folder, or nothing at all."""
    if not text.strip():
        raise argparse.ArgumentTypeError("takes a name, not an empty one")
    return text


def a_path(text: str) -> Path:
    """The value of an option that names a file or a folder; `~` is the home folder, as in `--models=~/x` or quotes."""
    return Path(os.path.expanduser(a_name(text)))  # which, unlike that of Path, leaves a ~NAME that is nobody's


def check_folders(options: argparse.Namespace, names: Sequence[str] = ("models", "input")) -> None:
    """Refuse folders that are not there."""
    for name in names:
        folder = getattr(options, name, None)
        if folder is not None and not os.path.isdir(folder):  # which is False where we may not look, unlike `is_dir`
            fault = f"{folder} is a file; name a folder" if os.path.isfile(folder) else f"there is no folder {folder}"
            raise RunnerError(f"--{name}: {fault}")


def check_writable(folder: Path, what: str = "the output folder") -> None:
    """Refuse a folder that cannot be written or is full, before the long work starts; `what` begins the sentence.

    A folder that is not there is not made: a command that is refused for something else leaves none behind.
    """
    for place in (folder, *folder.parents):
        if os.path.exists(place) and not os.path.isdir(place):
            fault = "is a file" if place == folder else f"cannot be made, because {place} is a file"
            raise RunnerError(f"{what} {folder} {fault}; name a folder")
    nearest = next((place for place in (folder, *folder.absolute().parents) if os.path.lexists(place)), folder)
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise RunnerError(f"{what} {folder} cannot be written: {reason}") from error
    free = shutil.disk_usage(nearest).free
    if free < SPARE_BYTES:
        raise RunnerError(f"{what} {folder} has only {free >> 20} MB left: {os.strerror(errno.ENOSPC)}")
