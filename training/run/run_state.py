"""The last states of a run on disk.

`state.pt` is the newest and `state-<step>.pt` are those before it. A new state is written beside them; then `state.pt`
takes the name with its step, and the new one takes the name `state.pt`. So at every moment the first file in that
order is a whole state, and whoever wants to go back removes files from the front.
"""

from __future__ import annotations

import logging
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...models.files import patiently, write_beside
from .launch import is_first

log = logging.getLogger(__name__)
STATE = "state.pt"
EARLIER = re.compile(r"state-(\d+)\.pt")


class StateNotSaved(OSError):
    """A state that could not be written; those before it are as they were."""


class StateFolder:
    """Reads and writes the last `keep` states of the run in `folder`; a state is a dict of tensors with its `step`."""

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self.keep = folder, keep
        self._newest: int | None = None  # step of `state.pt`, where we know that it can be read
        self._broken: int | None = None  # the step that it names, where we know that it cannot

    def check(self, step: int) -> None:
        """Raise StateNotSaved where the newest state is further on than `step`: another process made it."""
        newest = step_of(self.folder / STATE)
        if newest not in (None, self._broken) and newest > step:
            raise StateNotSaved(
                f"{self.folder / STATE} is of step {newest}, and this process is at step {step} of the same run: "
                "another one has trained it meanwhile, and nothing of that was replaced. Start the run again, and it "
                "goes on from there"
            )

    def write(self, state: Mapping[str, Any]) -> None:
        """Write `state` as the newest and drop what is too old, or later than it. OSError where it is not written."""
        path = self.folder / STATE
        with write_beside(path) as part:
            with open(part, "wb") as file:  # given a path, torch would not say why a write failed
                torch.save(state, file)
            if self._newest is not None and path.exists():
                patiently(os.replace, path, self.folder / f"state-{self._newest}.pt")
            self._newest = None
        self._newest, self._broken = int(state["step"]), None
        earlier = earlier_states(self.folder)
        kept = [step for step in earlier if step < self._newest][: self.keep - 1]
        for step in earlier.keys() - kept:
            with suppress(OSError):  # the next save tries again
                earlier[step].unlink()

    def read(self) -> dict[str, Any] | None:
        """The newest state that can be read, None when there are none; ValueError when none of them can be read."""
        faults = []
        for path in saved_states(self.folder):
            try:
                state = load(path)
            except Exception as error:  # a broken file may raise anything
                faults.append(f"{path.name} ({reason(error)})")
                self._broken = step_of(path) if path.name == STATE else self._broken
                continue
            step = state["step"]
            self._newest = step if path.name == STATE else None
            if faults:
                log.warning(
                    "%s: these states cannot be read: %s; the run goes on from %s, after step %d",
                    *(self.folder, ", ".join(faults), path.name, step),
                )
            return state
        if faults:
            raise ValueError(
                f"no state of the run in {self.folder} can be read: {', '.join(faults)}. "
                "Put back a copy of one of them, or give the run a new folder to begin again"
            )
        return None


def load(path: Path) -> dict[str, Any]:
    """The state in a file, on the CPU; an error of any kind where it is broken, ValueError where it is no state."""
    with zipfile.ZipFile(path) as archive:  # torch itself does not compare the checksums
        if (broken := archive.testzip()) is not None:
            raise ValueError(f"its {broken} has another checksum than it was written with")
    state = torch.load(path, map_location="cpu", weights_only=True)
    check_state(state)
    return state


def check_state(state: Any) -> None:
    """Raise ValueError unless a dict has what every state of a run has."""
    if not isinstance(state, dict):
        raise ValueError("it holds something else than the state of a run")
    counts = {name: state.get(name, 0) for name in ("step", "batches", "skipped")}
    wrong = [name for name, value in counts.items() if type(value) is not int or value < 0]
    wrong += [] if "step" in state else ["step"]
    wrong += [name for name in ("network", "optimizer") if not isinstance(state.get(name), dict)]
    wrong += [] if isinstance(state.get("average", {}), dict | None) else ["average"]
    if not wrong and not all(isinstance(tensor, Tensor) for tensor in state["network"].values()):
        wrong = ["network"]
    if wrong:
        raise ValueError(f"its {', '.join(wrong)} is not what the state of a run holds")


def reason(error: Exception) -> str:
    """Why a state cannot be read, in words; libraries have many for a file that is not whole."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) if type(error) is ValueError else "it is damaged or cut off"


def step_of(path: Path) -> int | None:
    """The step of a state without reading its tensors; None where there is none that can be read."""
    try:
        step = torch.load(path, map_location="cpu", weights_only=True, mmap=True)["step"]
    except Exception:  # a broken file may raise anything
        return None
    return step if type(step) is int else None


def run_exists(folder: Path) -> bool:
    """Whether a run has been saved in `folder`."""
    return bool(saved_states(Path(folder)))


def saved_states(folder: Path) -> list[Path]:
    """Files with states of a run, the newest first."""
    newest = folder / STATE
    return [newest] * newest.exists() + list(earlier_states(folder).values())


def earlier_states(folder: Path) -> dict[int, Path]:
    """States before the newest by their steps, the latest first."""
    names = {path.name: path for path in folder.iterdir()} if folder.is_dir() else {}
    steps = {int(match[1]): path for name, path in names.items() if (match := EARLIER.fullmatch(name))}
    return dict(sorted(steps.items(), reverse=True))


def kept(folder: Path, step: int | None) -> str:
    """What to tell who stopped a run: its state of `step`, or with None the last one before, if there is any."""
    if not run_exists(folder):
        return f"nothing of the run in {folder} was saved yet"
    at = "as it was saved last" if step is None else f"after {step} steps"
    return f"{folder} keeps the run {at}; the same command goes on from there"


@contextmanager
def saying_what_is_kept(folder: Path) -> Iterator[None]:
    """Let what stops the block say what is kept of the run in `folder`, also before and after its training."""
    try:
        yield
    except KeyboardInterrupt as stop:
        if stop.args or not is_first():
            raise
        raise KeyboardInterrupt(kept(folder, None)) from stop


def not_saved(folder: Path, state: Mapping[str, Any], error: Exception) -> StateNotSaved:
    """The error that says what could not be saved where, why, and what is needed."""
    # Of a RuntimeError, torch's zip writer stumbled over the error that counts.
    cause = (error.__context__ if isinstance(error, RuntimeError) else None) or error
    reason = getattr(cause, "strerror", None) or cause
    return StateNotSaved(
        f"the state after {state['step']} steps could not be saved in {folder}: {reason}. "
        f"It needs about {size(state) / 1e6:.1f} MB there while the earlier states stay; those are as they were. "
        "Make room, or keep fewer states, and start the same run again: it goes on from the last one"
    )


def failed_on_device(failed: StateNotSaved) -> bool:
    """Whether a state could not be saved because its tensors could not be read, as after an error of CUDA."""
    cause = failed.__cause__
    return isinstance(cause, RuntimeError) and not isinstance(cause.__context__, OSError)


def size(state: Any) -> int:
    """Bytes of all tensors in nested dicts and lists."""
    if isinstance(state, Tensor):
        return state.nbytes
    if isinstance(state, Mapping):
        return sum(map(size, state.values()))
    return sum(map(size, state)) if isinstance(state, (list, tuple)) else 0
