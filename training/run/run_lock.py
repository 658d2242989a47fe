"""One process at a time trains the run in a folder."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...models.file_lock import LockedError, file_lock
from .launch import is_first

LOCK = ".lock"
_holders: dict[Path, int] = {}  # threads of this process by the folders of their runs


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold the run in `folder`; LockedError, which says who has it, where somebody else does.

    Blocks may lie inside each other. Of several processes that train together the first holds it for all.
    """
    place, me = Path(folder).resolve(), threading.get_ident()
    if _holders.get(place) == me or not is_first():
        yield
        return
    try:
        with file_lock(place / LOCK, "training"):
            _holders[place] = me
            try:
                yield
            finally:
                del _holders[place]
    except LockedError as error:
        raise LockedError(f"{error}. Wait until it is done, or give this run another name") from None
