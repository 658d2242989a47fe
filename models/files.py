"""Files that are either the old one or the new one, never half of one."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def write_beside(path: Path) -> Iterator[Path]:
    """Give a path beside `path`, renamed onto it when the block ends well and removed otherwise; folders are made.

    The file is on the disk before it gets its name, and has the permissions of any new file (0666 less the umask),
    whatever the block wrote it with.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    part.unlink(missing_ok=True)  # of a killed process that had our number
    try:
        part.touch()
        permissions = part.stat().st_mode  # asking the file is safe; os.umask can only be read by changing it
        yield part
        part.chmod(permissions)  # safetensors, for one, makes files that only their owner can read
        with open(part, "r+b") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def remove_parts(path: Path) -> None:
    """Remove what killed processes left beside `path`; for files that one process at a time writes."""
    for part in path.parent.glob(f".{glob.escape(path.stem)}.*.part{glob.escape(path.suffix)}"):
        part.unlink(missing_ok=True)
