"""What a run writes down of its steps: `losses.jsonl`, one JSON object a line, every step once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..models.files import write_beside

LOSSES = "losses.jsonl"


class LossLog:
    """Lines gathered in memory by `add` and put at the end of the file by `write`."""

    def __init__(self, folder: Path) -> None:
        self.path = Path(folder) / LOSSES
        self._end = 0  # bytes of the file that are ours
        self._waiting: list[str] = []

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Note the values of one step."""
        self._waiting.append(line_of({"step": step, **values}))

    def write(self) -> None:
        """Append what was added; after a write that failed half-way, the next one begins at the same place."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "r+b" if self.path.exists() else "wb") as file:
            file.truncate(self._end)
            file.seek(self._end)
            file.write("".join(self._waiting).encode())
            file.flush()
            end = file.tell()
        self._end, self._waiting = end, []  # at once, so that Ctrl-C does not fall between

    def rewind(self, step: int) -> None:
        """Keep the steps before `step` only: later ones were made but not saved, and will be made again."""
        self._waiting.clear()
        rows = {row["step"]: row for row in read_rows(self.path) if row["step"] < step}
        text = "".join(line_of(row) for _, row in sorted(rows.items())).encode()
        with write_beside(self.path) as part:
            part.write_bytes(text)
        self._end = len(text)


def line_of(row: Mapping[str, Any]) -> str:
    return json.dumps(row) + "\n"


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a log, none where there is no file; a line that a kill tore is left out."""
    rows = []
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows
