"""What a batch has delivered, written down beside it, so that the same command goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .workflow import Workflow

FILE = "results.jsonl"


class Results:
    """The file `results.jsonl` in an output folder: a line for each prompt that was delivered.

    A line has the prompt and the seed, the files that were made, and the key of the graph that made them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / FILE
        self.files = dict(self._read())

    def _read(self):
        if not self.path.is_file():
            return
        for line in self.path.read_text("utf-8", "replace").split("\n"):
            try:
                entry = json.loads(line)
                yield str(entry["key"]), [self.folder / name for name in entry["files"]]
            except (ValueError, KeyError, TypeError, RecursionError):
                continue  # empty, or cut short by a power cut

    def has(self, key: str) -> bool:
        """Whether the graph of this key was delivered, and its files are still there."""
        files = self.files.get(key)
        return files is not None and all(file.is_file() for file in files)

    def add(self, workflow: Workflow, key: str, files: Sequence[Path]) -> None:
        """Write one down; several threads and processes may."""
        names = [file.relative_to(self.folder).as_posix() for file in files]
        entry: dict[str, Any] = {**(workflow.made_for or {}), "files": names, "key": key}
        with open(self.path, "a+b", buffering=0) as file:
            file.seek(-min(1, file.seek(0, os.SEEK_END)), os.SEEK_END)
            torn = file.read(1) not in (b"", b"\n")
            file.write(b"\n" * torn + json.dumps(entry).encode() + b"\n")  # one write, which is appended whole
            os.fsync(file.fileno())
        self.files[key] = list(files)


def key_of(workflow: Workflow) -> str:
    """A word for a graph: the same values and links have the same, whatever the titles."""
    nodes = {node_id: (node["class_type"], node["inputs"]) for node_id, node in workflow.prompt.items()}
    return hashlib.sha256(json.dumps(nodes, sort_keys=True).encode()).hexdigest()[:16]
