"""Which of the released Helios models a checkpoint is: they have the same network and are sampled in different ways."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from .checkpoint_files import read_json
from .families import DEFAULT_VARIANT, HELIOS

NAMED = re.compile(r"(?<![a-z])(base|mid|distilled)(?![a-z])")

log = logging.getLogger(__name__)


def helios_variant(path: Path) -> str:
    """Return "base", "mid" or "distilled" for a component folder or a file in or beside an official folder.

    Read from `model_index.json` and `scheduler/scheduler_config.json` of the pipeline around it; where they are
    missing, from the name of the file or of the folders around it; else a logged guess.
    """
    top = (path if path.is_dir() else path.parent).parent
    if (variant := pipeline_variant(top)) is not None:
        return variant
    for name in (path.stem if path.is_file() else path.name, path.parent.name, top.name):
        if variants := NAMED.findall(name.lower()):
            return variants[-1]
    guess = DEFAULT_VARIANT[HELIOS]
    log.warning("%s does not say which Helios it is; taken for the %s one", path, guess)
    return guess


def pipeline_variant(top: Path) -> str | None:
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
