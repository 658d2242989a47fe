"""What the files that a graph names hold: another picture under the same name is another graph."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..host import get_host
from ..host.folders import BUNDLED, KINDS
from .specs import InputSpec

SAMPLES, SAMPLE_BYTES = 64, 4096  # of a model's file: training changes nearly every number in it


class Contents:
    """Digests of files on this machine; each is read once, and again when it changes.

    Input files count by all of their content, models by samples of it. Those that came with the pack count by name,
    and so do the models of a server (`models` is false), whose files nobody here can read.
    """

    def __init__(self, models: bool = True) -> None:
        self.models = models
        self.digests: dict[tuple[Path, int, int], str] = {}
        self.places: dict[str, Path | None] = {}  # of models

    def of(self, spec: InputSpec, value: Any) -> dict[str, str] | None:
        """What stands for a value that names such a file; None for any other."""
        if not isinstance(value, str):
            return None
        if spec.takes_files:
            path, samples = input_file(value), None
        elif self.models and spec.choices is not None:
            path, samples = self.model(value), SAMPLES
        else:
            return None
        if path is None:
            return None
        return {"content": " ".join(self.digest(file, samples) for file in files_of(path))}

    def model(self, name: str) -> Path | None:
        """Where a model of one's own lies; nowhere for other choices."""
        if name not in self.places:
            self.places[name] = next(filter(None, (find_model(kind, name) for kind in KINDS)), None)
        return self.places[name]

    def digest(self, path: Path, samples: int | None) -> str:
        found = path.stat()
        key = path, found.st_mtime_ns, found.st_size
        if key not in self.digests:
            digest = hashlib.sha256(str(found.st_size).encode())
            for piece in pieces(path, found.st_size, samples):
                digest.update(piece)
            self.digests[key] = digest.hexdigest()[:16]
        return self.digests[key]


def pieces(path: Path, size: int, samples: int | None) -> Iterator[bytes]:
    """All of a file, or evenly spaced samples of a larger one."""
    with open(path, "rb") as file:
        if samples is None or size <= samples * SAMPLE_BYTES:
            while piece := file.read(1 << 20):
                yield piece
        else:
            for i in range(samples):
                file.seek(i * (size - SAMPLE_BYTES) // (samples - 1))
                yield file.read(SAMPLE_BYTES)


def files_of(path: Path) -> list[Path]:
    """A file, or the files of a model's folder."""
    return sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]


def input_file(name: str) -> Path | None:
    try:
        return get_host().input_file(name)
    except (ValueError, FileNotFoundError):
        return None  # the check of the graph names it


def find_model(kind: str, name: str) -> Path | None:
    try:
        path = get_host().find_model(kind, name)
    except FileNotFoundError:
        return None
    return None if path.resolve().is_relative_to(BUNDLED) else path
