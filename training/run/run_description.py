"""What the run in a folder trains, so that it is not gone on with as something else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...models.files import write_beside
from ...models.json_file import NotReadable, read_object
from ...models.latent_format import LatentFormat
from .run_state import run_exists

DESCRIPTION = "model.json"
EARLIER = {"start_percent": 0.0, "end_percent": 1.0}  # of runs whose version did not write it down


def earlier_description(folder: Path, now: Mapping[str, Any]) -> dict[str, Any]:
    """What was written of the run in `folder`, empty when there is none; ValueError where it differs from `now`."""
    path = Path(folder) / DESCRIPTION
    if not run_exists(folder) or not path.exists():
        return {}
    before = read_record(path, "remove it: then nobody compares what the run learns with what it learned before")
    for name, value in json.loads(json.dumps(now)).items():
        known = before.get(name, EARLIER.get(name, value))
        if known != value:
            was = f" ({known}, not {value})" if isinstance(value, int | float) else ""
            raise ValueError(
                f"the run in {folder} is another one: its {name} differs from what is wired here{was}. Give this run a "
                "new name, or the model, data and settings it was started with"
            )
    return before


def read_record(path: Path, otherwise: str) -> dict[str, Any]:
    """The JSON object in a file of a run; ValueError, with what can be done `otherwise`, where it is damaged."""
    try:
        return read_object(path)
    except NotReadable as error:
        raise ValueError(f"{path} cannot be read: {error}. Put back a copy of it, or {otherwise}") from error


def earlier_format(path: Path, values: Any) -> LatentFormat:
    """The latent format in the file `path` of a run; ValueError where it is none."""
    try:
        return LatentFormat.from_dict(values)
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} has a damaged latent format ({error}). Put back a copy of it, or give the run a new name"
        ) from error


def write_description(folder: Path, description: Mapping[str, Any]) -> None:
    """Keep the description of a run beside its state."""
    with write_beside(Path(folder) / DESCRIPTION) as part:
        part.write_text(json.dumps(description, indent=1), encoding="utf-8")
