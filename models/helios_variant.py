"""Which of the released Helios models a checkpoint is: they have the same network and are asked in different ways."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from .checkpoint_files import read_json

NAMED = re.compile(r"(?<![a-z])(base|mid|distilled)(?![a-z])")
USUAL = "distilled"  # the one that most people can run

log = logging.getLogger(__name__)


def helios_variant(path: Path) -> str:
    """Return "base", "mid" or "distilled" for a component folder or a file in or beside an official folder.

    Told by `model_index.json` and `scheduler/scheduler_config.json` of the pipeline around it; where they are missing,
    by the name of the file or of the folders around it; else by a logged guess.
    """
    top = (path if path.is_dir() else path.parent).parent
    if (told := told_by_pipeline(top)) is not None:
        return told
    for name in (path.stem if path.is_file() else path.name, path.parent.name, top.name):
        if words := NAMED.findall(name.lower()):
            return words[-1]
    log.warning("%s does not say which Helios it is; taken for the %s one", path, USUAL)
    return USUAL


def told_by_pipeline(top: Path) -> str | None:
    """What the descriptions in an official top folder say, None where there are none of Helios."""
    index, scheduler = (
        read_json(file) if file.is_file() else {}
        for file in (top / "model_index.json", top / "scheduler" / "scheduler_config.json")
    )
    pipeline, solver = str(index.get("_class_name", "")), str(scheduler.get("_class_name", ""))
    if not pipeline.startswith("Helios") and not solver.startswith("Helios"):
        return None
    if index.get("is_distilled") or solver == "HeliosDMDScheduler":
        return "distilled"
    if pipeline.startswith("Helios"):
        return "base" if pipeline == "HeliosPipeline" else "mid"
    return "base" if scheduler.get("stages") == 1 else "mid"
