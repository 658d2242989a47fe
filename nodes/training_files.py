"""Where trained things are kept: the folder of a run, and the file that a block saves; checked before a run."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..host import get_host
from ..host.folders import resolve_new
from .block import Block, Input, Text, Wire
from .messages import show_message
from .widget_validation import validation_result

CACHE = "cache"  # beside the runs: latents and texts that several runs may share
SAVERS = {
    "TrainedModel": "Save trained model",
    "TrainedVAE": "Save trained VAE",
    "TrainedLoRA": "Save trained LoRA",
    "TrainedModelLoRA": "Save trained LoRA",
}


def run_folder(name: str) -> Path:
    """Where a run of this name is kept; ValueError for names that lead elsewhere."""
    root = get_host().output_dir / "training"
    folder = resolve_new(root, name, "training run")
    called_so = folder.relative_to(root).parts[0].casefold() == CACHE
    if called_so or folder.resolve().is_relative_to((root / CACHE).resolve()):
        raise ValueError(
            f"a training run cannot be called {name!r}: the folder {CACHE!r} beside the runs holds what all of them "
            "share, and may be emptied at any time. Choose another name"
        )
    return folder


def RunName(default: str) -> Input:
    """The name under which a trainer keeps its run."""
    return Text("run_name", default).tip(
        "The run is kept in output/training under this name; run the graph again to continue it. Another name starts "
        "another run."
    )


_seen: dict[Path, str] = {}  # what lay in the folders of runs when this process last looked
_changes: Counter[Path] = Counter()  # how often that was not what it had left


def leave_run(folder: Path) -> None:
    """Remember how a trainer leaves a run, so that it trains again where somebody else changes it."""
    _seen[folder] = version_of_run(folder)


def changes_of_run(folder: Path) -> int:
    """How often somebody else has changed a run; the number rises and never comes back to one that it had."""
    with suppress(OSError):  # a file went while it was looked at: the next look tells
        now = version_of_run(folder)
        if _seen.setdefault(folder, now) != now:
            _seen[folder] = now
            _changes[folder] += 1
    return _changes[folder]


def version_of_run(folder: Path) -> str:
    from ..training.data.folder_files import folder_version

    return folder_version(folder) if folder.is_dir() else "none"


class NamesRun(Block):
    """A block with a `run_name`: one that leads elsewhere is refused before the graph runs."""

    @classmethod
    def IS_CHANGED(cls, run_name: Any = None, **_):
        """Nothing new, but for a run whose folder was emptied or trained elsewhere since."""
        try:
            return changes_of_run(run_folder(str(run_name)))
        except (OSError, ValueError):  # such a name is refused by VALIDATE_INPUTS
            return 0

    @classmethod
    def VALIDATE_INPUTS(cls, run_name: Any = None):
        return validation_result(lambda name: run_folder(str(name)), run_name)


class Saver(Block):
    """A block that saves a trained run of one kind as a file, and gives on what the file holds."""

    CATEGORY = "pyramid video/training"
    FUNCTION = "save"
    OUTPUT_NODE = True
    KIND: str  # of the file, as the folders of models are called
    WHAT: str

    @classmethod
    def VALIDATE_INPUTS(cls, name: Any = None):
        return validation_result(lambda name: cls.file(str(name)), name)

    @classmethod
    def file(cls, name: str) -> Path:
        """Where a file of this name goes; ValueError for names that lead elsewhere."""
        place = resolve_new(get_host().output_dir / cls.KIND, name.removesuffix(".safetensors"), cls.WHAT)
        return place.with_name(f"{place.name}.safetensors")

    @classmethod
    def check(cls, run: Any, kind: type) -> None:
        """Raise ValueError unless a TRAINING_RUN is of the kind that this block saves."""
        if not isinstance(run, kind):
            found = type(run).__name__
            hint = f": use '{SAVERS[found]}'" if found in SAVERS else "; wire a trainer here"
            raise ValueError(f"'{cls.NAME}' cannot save this run, a {found}{hint}")


def saver_inputs(trainer: str, folder: str, name: str) -> tuple[Input, Input]:
    """What every saver takes: the run of a trainer, and a name in a folder of the output."""
    return (
        Wire("run", "TRAINING_RUN").tip(f"From {trainer}."),
        Text("name", name).tip(
            f"Name of the file in output/{folder}. An existing file is kept, and the new one gets a number."
        ),
    )


def saved(path: Path, wanted: Path, result: Any) -> dict[str, Any]:
    """The result of a block that has saved `path` where `wanted` is the name that was given."""
    output = get_host().output_dir
    place = Path(output.name) / path.relative_to(output)
    sentences = [f"Saved as {place}, {path.stat().st_size / 1e6:.2f} MB."]
    if path != wanted:
        sentences.append(f"{wanted.name} was there before and stays as it was.")
    return {"ui": show_message(*sentences), "result": (result,)}
