"""What a batch has delivered, written down beside it, so that the same command goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..models.files import sync_folder
from .contents import Contents
from .responses import NOTHING, fits
from .specs import NodeSpec
from .workflow import Workflow

FILE = "results.jsonl"
ENTRY = {"key": str, "files": [str]}
SIZES = ([int], NOTHING)


class Results:
    """The file `results.jsonl` in an output folder: a line for each prompt that was delivered.

    A line has the prompt and the seed, the files that were made and their sizes, and the key of what made them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / FILE
        self.files = dict(self._read())

    def _read(self) -> Iterator[tuple[str, list[tuple[Path, int | None]]]]:
        if not self.path.is_file():
            return
        for line in self.path.read_text("utf-8", "replace").split("\n"):
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                continue  # empty, or cut short by a power cut
            if fits(entry, ENTRY) and fits(entry.get("bytes"), SIZES):
                files = [self.folder / name for name in entry["files"]]
                sizes = [None] * len(files) if entry.get("bytes") is None else entry["bytes"]  # older lines have none
                if len(files) == len(sizes):
                    yield entry["key"], list(zip(files, sizes, strict=True))

    def has(self, key: str) -> bool:
        """Whether what has this key was delivered, and its files are still there, as large as they were."""
        files = self.files.get(key)
        return files is not None and all(is_whole(file, size) for file, size in files)

    def add(self, entry: Mapping[str, Any], files: Sequence[Path]) -> None:
        """Write one down once its files and their names are on the disk; several threads and processes may.

        `entry` has the `key`, and what else people may want to know of it.
        """
        sizes = [file.stat().st_size for file in files]
        names = [file.relative_to(self.folder).as_posix() for file in files]
        line = json.dumps({**entry, "files": names, "bytes": sizes}).encode() + b"\n"
        is_new = not self.path.exists()
        with open(self.path, "a+b", buffering=0) as file:
            file.seek(-min(1, file.seek(0, os.SEEK_END)), os.SEEK_END)
            torn = file.read(1) not in (b"", b"\n")
            file.write(b"\n" * torn + line)  # one write, which is appended whole
            os.fsync(file.fileno())
        if is_new:
            sync_folder(self.folder)
        self.files[entry["key"]] = list(zip(files, sizes, strict=True))


def is_whole(file: Path, size: int | None) -> bool:
    """Whether a file is there and as large as it was; of one whose size nobody wrote down, whether it is not empty."""
    found = file.stat().st_size if file.is_file() else 0
    return found > 0 if size is None else file.is_file() and found == size


def key_of(workflow: Workflow, specs: Mapping[str, NodeSpec], contents: Contents) -> str:
    """The key of a graph: the same values, links and files have the same, whatever the titles."""
    nodes = {}
    for node_id, node in workflow.prompt.items():
        spec = specs.get(node["class_type"])
        known = {} if spec is None else spec.inputs
        inputs = {
            name: contents.of(known[name], value) or value if name in known else value
            for name, value in node["inputs"].items()
        }
        nodes[node_id] = (node["class_type"], inputs)
    return hashlib.sha256(json.dumps(nodes, sort_keys=True).encode()).hexdigest()[:16]
