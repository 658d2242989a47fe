"""Folders that options of a command name: refused before the long work starts where they will not do."""

from __future__ import annotations

import argparse
import errno
import os
import shutil
import tempfile
from pathlib import Path

from .errors import RunnerError

SPARE_BYTES = 16 << 20  # a clip needs far less; below this a disk is as good as full


def check_folders(options: argparse.Namespace) -> None:
    """Refuse folders that are not there."""
    for name in ("models", "input"):
        folder = getattr(options, name, None)
        if folder is not None and not folder.is_dir():
            raise RunnerError(f"--{name}: there is no folder {folder}")


def check_writable(folder: Path) -> None:
    """Refuse an output folder that cannot be written or is full, before the long work starts."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise RunnerError(f"the output folder {folder} cannot be written: {reason}") from error
    free = shutil.disk_usage(folder).free
    if free < SPARE_BYTES:
        raise RunnerError(f"the output folder {folder} has only {free >> 20} MB left: {os.strerror(errno.ENOSPC)}")
