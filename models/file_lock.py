"""A lock on a folder's work that the system frees with the process, whatever ended it."""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

TAKEN = (errno.EAGAIN, errno.EACCES)
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)  # file systems without locks
MOST_BYTES = 4096  # that are read of what a holder wrote
WINDOWS_OFFSET = 1 << 30  # Windows lets nobody read locked bytes, so the one we lock lies behind the text


class LockedError(ValueError):
    """Somebody else holds the lock; the sentence says who, since when, and what for."""


@contextmanager
def file_lock(path: Path, purpose: str) -> Iterator[None]:
    """Hold the lock file `path` while the block runs, or raise LockedError at once; nobody waits.

    `path` is a file of its own, such as `run/.lock`: it is made with its folder and removed at the end. `purpose` says
    what its holder does, for the sentence that the second one reads: "training", "making clips". One that a killed
    process left is no lock: the system frees it with the process. A lock excludes other processes and other blocks
    of this one; of processes that share their work only the first takes it. Raises OSError where the folder cannot be
    written. On a file system without locks the block runs unlocked, with a warning.
    """
    file = acquire(path, purpose)
    try:
        yield
    finally:
        with suppress(OSError):  # Windows does not remove an open file; it stays, and is no lock
            path.unlink()
        file.close()


def acquire(path: Path, purpose: str) -> BinaryIO:
    """The open and locked file, holding our name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        file = open(path, "a+b")
        try:
            lock(file)
        except OSError as error:
            if error.errno in TAKEN:
                with file:
                    raise LockedError(f"{path.parent} is in use: {holder(file)}") from None
            if error.errno not in NO_LOCKS:
                file.close()
                raise
            logging.warning("%s: this file system has no locks; two runs in one folder would not be noticed", path)
        if is_same(file, path):
            break
        file.close()  # its holder removed it between our opening and our locking
    me = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    file.truncate(0)
    file.write(json.dumps({**me, "purpose": purpose}).encode())
    file.flush()
    return file


def lock(file: BinaryIO) -> None:
    """Lock an open file, or raise OSError at once."""
    try:
        import fcntl
    except ImportError:
        import msvcrt

        file.seek(WINDOWS_OFFSET)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    else:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_same(file: BinaryIO, path: Path) -> bool:
    """Whether an open file still is the one of that name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def holder(file: BinaryIO) -> str:
    """Who wrote themselves down in a lock file."""
    try:
        file.seek(0)
        said: Any = json.loads(file.read(MOST_BYTES))
        return f"process {said['pid']} on {said['host']} has been {said['purpose']} there since {said['since']}"
    except (ValueError, KeyError, TypeError, RecursionError, OSError):
        return "another process holds it"
