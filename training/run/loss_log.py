"""What a run writes down of its steps: `losses.jsonl`, one JSON object a line, every step once."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...models.files import DISK_FULL, write_beside

log = logging.getLogger(__name__)
LOSSES = "losses.jsonl"
OLD_NAMES = {  # of losses, in the files of older versions
    "judge": "discriminator_loss",
    "deceive": "generator_loss",
    "slope": "gradient_penalty",
}
POINTS = 240  # means of equal parts of the run that a curve is drawn through


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
        """Append what was added; after a write that failed half-way, the next one begins at the same place.

        The lines are for people: where they cannot be written they wait. Only a full disk, which would lose the state
        too, is an OSError.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "r+b" if self.path.exists() else "wb") as file:
                file.truncate(self._end)
                file.seek(self._end)
                file.write("".join(self._waiting).encode())
                file.flush()
                end = file.tell()
        except OSError as error:
            pass_over(self.path, error)
        else:
            self._end, self._waiting = end, []  # at once, so that Ctrl-C does not fall between

    def rewind(self, step: int) -> None:
        """Keep the steps before `step` only: later ones were made but not saved, and will be made again."""
        self._waiting.clear()
        try:
            rows = {row["step"]: row for row in read_rows(self.path) if row["step"] < step}
            text = "".join(line_of(row) for _, row in sorted(rows.items())).encode()
            with write_beside(self.path) as part:
                part.write_bytes(text)
        except OSError as error:
            pass_over(self.path, error)
        else:
            self._end = len(text)


def pass_over(path: Path, error: OSError) -> None:
    """Log that a file which is only for people cannot be used; raise the error where the disk is full."""
    if error.errno in DISK_FULL:
        raise error
    log.warning("%s cannot be kept (%s); training goes on without it", path, error.strerror or error)


def line_of(row: Mapping[str, Any]) -> str:
    return json.dumps(row) + "\n"


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a log, none where there is no file; lines that a kill tore or that are none of ours are left out."""
    rows = []
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if is_row(row):
            rows.append({OLD_NAMES.get(name, name): value for name, value in row.items()})
    return rows


def is_row(row: Any) -> bool:
    """Whether a value has a step and numbers beside it."""
    if not isinstance(row, dict) or type(row.get("step")) is not int or row["step"] < 0:
        return False
    return all(type(value) in (int, float) for value in row.values())


def read_losses(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """The losses of a run by name, (step, value) each; of a step that was done again the last counts.

    Steps that were skipped have none, and so has a run whose file cannot be read.
    """
    steps: dict[int, dict[str, float]] = {}
    try:
        rows = read_rows(Path(folder) / LOSSES)
    except OSError as error:
        pass_over(Path(folder) / LOSSES, error)
        return {}
    for row in rows:
        steps[row.pop("step")] = {} if "skipped" in row else row
    names = dict.fromkeys(name for row in steps.values() for name in row)
    curves = {
        name: [(step, row[name]) for step, row in sorted(steps.items()) if math.isfinite(row.get(name, math.nan))]
        for name in names
    }
    return {name: points for name, points in curves.items() if points}


def mean_line(points: Sequence[tuple[int, float]], count: int = POINTS) -> list[tuple[float, float]]:
    """Means of `count` equal parts of a curve, or the curve itself where it is shorter."""
    size = max(1, math.ceil(len(points) / count))
    parts = [points[start : start + size] for start in range(0, len(points), size)]
    return [tuple(sum(values) / len(part) for values in zip(*part, strict=True)) for part in parts]
