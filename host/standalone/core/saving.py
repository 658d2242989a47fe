"""How core nodes save a file: under the next free number, the workflow inside, whole or not at all."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from ....models.files import make_folder, publish
from ...folders import resolve_inside


class Staging(Protocol):
    """Where files wait for their names, for whoever wants to name all files of a run at its end."""

    def add(self, folder: Path, stem: str, suffix: str) -> Path:
        """Where to write a file that gets the next free number of `stem` in `folder`."""
        ...


_staging: ContextVar[Staging | None] = ContextVar("staging", default=None)


@contextmanager
def saving_to(staging: Staging) -> Iterator[None]:
    """Let every file that the block saves wait in `staging`."""
    token = _staging.set(staging)
    try:
        yield
    finally:
        _staging.reset(token)


def graph_metadata(prompt: Any, extra_pnginfo: Mapping[str, Any] | None) -> dict[str, str]:
    """The graph as ComfyUI puts it into files: `workflow` in UI format when there is one, `prompt` in API format."""
    entries = {**(extra_pnginfo or {}), **({"prompt": prompt} if prompt is not None else {})}
    return {key: json.dumps(value) for key, value in entries.items()}


def expand(prefix: str, width: int, height: int) -> str:
    """Fill in the placeholders that ComfyUI knows in a file name: `%width%`, `%height%`, `%year%` ... `%second%`."""
    now = time.localtime()
    moments = ("year", "month", "day", "hour", "minute", "second")
    values = {"width": str(width), "height": str(height)}
    values |= {name: f"{value:02}" for name, value in zip(moments, now[:6], strict=True)}
    for name, value in values.items():
        prefix = prefix.replace(f"%{name}%", value)
    return prefix


def save_as(folder: Path, prefix: str, suffix: str, write: Callable[[Path], None]) -> dict[str, str]:
    """Write a file through `write(path)` and give it the next free number; returns what a node's `ui` says about it.

    Inside `saving_to` it waits for that name.
    """
    target = resolve_inside(folder, prefix, "filename_prefix")
    if not target.name or target == folder:
        raise ValueError(f"the filename_prefix {prefix!r} ends in a folder; add a name for the file")
    make_folder(target.parent)
    staging = _staging.get()
    if staging is not None:
        saved = staging.add(target.parent, target.name, f".{suffix}")
        write(saved)
        return {"filename": saved.name, "subfolder": saved.parent.relative_to(folder).as_posix()}
    with TemporaryDirectory(prefix=".unfinished_", dir=target.parent) as beside:
        unfinished = Path(beside) / f"file.{suffix}"
        write(unfinished)
        saved = publish(unfinished, target.parent, target.name, f".{suffix}")
    subfolder = saved.parent.relative_to(folder).as_posix()
    return {"filename": saved.name, "subfolder": "" if subfolder == "." else subfolder}
