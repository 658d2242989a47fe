"""Files of a run on their way to their names: what a killed process had finished is not made again.

A run writes into a hidden folder. When it has ended, a plan says which file gets which name, and is on the disk
before the first of them moves; the next batch carries out the plans that it finds.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..host.folders import resolve_inside
from ..host.standalone.core.saving import saving_to
from ..models.files import claim, free_name, make_folder, sync_file, sync_folder, write_beside
from .responses import fits

BATCH, SINGLE = ".making_", ".unfinished_"  # what the folders of runs of a batch are called, and of others
PLAN = "plan.json"
LARGEST_PLAN = 16 << 20  # bytes
SHAPE = {"entry": dict, "moves": [{"from": str, "to": str, "bytes": int, "name": [str]}]}


@dataclass
class Move:
    """A finished file and the name that it gets."""

    source: Path
    target: Path
    size: int
    name: tuple[str, str]  # stem and suffix, for another number where the name was taken


class Staging:
    """The files of one run, below the output folder `out`."""

    def __init__(self, out: Path, folder: Path) -> None:
        self.out = out
        self.folder = folder
        self.moves: dict[Path, Move] = {}

    def add(self, folder: Path, stem: str, suffix: str) -> Path:
        """Where to write a file that gets the next free number of `stem` in `folder`."""
        source = self.folder / f"{len(self.moves)}{suffix}"
        self.moves[source] = Move(source, folder / stem, 0, (stem, suffix))
        return source

    def deliver(self, entry: Mapping[str, Any]) -> dict[Path, Path]:
        """Give every file its name; nothing is overwritten. Returns the names by what the files were called here.

        `entry` is for whoever finds the plan of a killed process.
        """
        for move in self.moves.values():
            make_folder(move.target.parent)
            sync_file(move.source)
            move.size = move.source.stat().st_size
            taken = {other.target for other in self.moves.values() if other is not move}
            move.target = free_name(move.target.parent, *move.name, taken)
        self.write_plan(entry)
        return self.carry_out(entry)

    def carry_out(self, entry: Mapping[str, Any]) -> dict[Path, Path]:
        for move in self.moves.values():
            while move.source.exists() and not claim(move.source, move.target):
                move.target = free_name(move.target.parent, *move.name)
                self.write_plan(entry)
            sync_folder(move.target.parent)
        return {source: move.target for source, move in self.moves.items()}

    def write_plan(self, entry: Mapping[str, Any]) -> None:
        moves = [
            {
                "from": move.source.name,
                "to": move.target.relative_to(self.out).as_posix(),
                "bytes": move.size,
                "name": list(move.name),
            }
            for move in self.moves.values()
        ]
        with write_beside(self.folder / PLAN) as part:
            part.write_text(json.dumps({"entry": entry, "moves": moves}), "utf-8")

    def clear(self) -> None:
        """Forget what was added."""
        self.moves.clear()

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def staged(out: Path, prefix: str = BATCH) -> Iterator[Staging]:
    """Let everything that the block saves below `out` wait for its name; what has none at the end is removed."""
    out.mkdir(parents=True, exist_ok=True)
    staging = Staging(out, Path(tempfile.mkdtemp(prefix=prefix, dir=out)))
    try:
        with saving_to(staging):
            yield staging
    finally:
        staging.remove()


def finish_plans(out: Path) -> Iterator[tuple[dict[str, Any], Sequence[Path]]]:
    """Carry out what killed processes had planned: `entry` and files of each; what they had not finished is removed.

    Only for the one process that works in the folder.
    """
    for folder in sorted(out.glob(f"{BATCH}*")):
        if folder.is_symlink() or not folder.is_dir():
            continue
        staging = Staging(out, folder)
        entry = read_plan(staging)
        if entry is not None:
            yield entry, list(staging.carry_out(entry).values())
        staging.remove()


def read_plan(staging: Staging) -> dict[str, Any] | None:
    """Take in the moves of a plan; None where there is none whose files are all whole, here or under their names."""
    try:
        with open(staging.folder / PLAN, "rb") as file:
            plan = json.loads(file.read(LARGEST_PLAN))
        if not fits(plan, SHAPE):
            return None
        for number, move in enumerate(plan["moves"]):
            source = staging.folder / os.path.basename(move["from"])
            target = resolve_inside(staging.out, move["to"])
            stem, suffix = move["name"]
            if Path(stem + suffix).name != stem + suffix:
                return None
            if (
                source.exists() and target.is_file()
            ):  # killed between the two halves of the move, with a link or without
                if source.samefile(target):
                    source.unlink()
                elif target.stat().st_size == 0:
                    target.unlink()
            place = source if source.exists() else target
            if not place.is_file() or place.stat().st_size != move["bytes"]:
                return None
            staging.moves[staging.folder / str(number)] = Move(source, target, move["bytes"], (stem, suffix))
        return plan["entry"]
    except (OSError, ValueError, RecursionError):
        return None
