"""Several processes, as `accelerate launch` and torchrun start them.

On one graph the first does it all and the others train: a trainer splits its work among them, and what comes after
it, files and clips, is made once. The prompts of a file are dealt out among all of them.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from ..models.file_lock import LockedError, file_lock
from ..training.run.launch import LONGEST_WAIT, is_first, own_rank, process_count
from .errors import RunnerError
from .workflow import Prompt

TRAINED = "TRAINING_RUN"
T = TypeVar("T")


def end_if_connected(code: int = 0) -> None:
    """End this process with `code` if it is one of several that are connected; else nothing happens.

    The usual end of an interpreter takes the threads of the connection down in no order, and now and then aborts.
    """
    if not are_connected():
        return
    import torch.distributed

    if code == 0:  # else others may wait for this process, which the launcher ends
        torch.distributed.destroy_process_group()
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def are_connected() -> bool:
    """Whether this process is one of several that a launcher started, and knows the others."""
    if "RANK" not in os.environ:
        return False
    import torch.distributed

    return torch.distributed.is_available() and torch.distributed.is_initialized()


def own_outputs(prompt: Prompt, outputs: list[str], classes: Mapping[str, type]) -> list[str]:
    """Which output nodes this process runs: all of them, or only trainers."""
    if is_first():
        return outputs
    return [node_id for node_id in outputs if trains(prompt, node_id, classes)]


def trains(prompt: Prompt, node_id: str, classes: Mapping[str, type]) -> bool:
    return TRAINED in classes[prompt[node_id]["class_type"]].RETURN_TYPES


def own_share(items: Sequence[T]) -> Sequence[T]:
    """Every n-th of the items, for n processes; the same ones each time."""
    return items[own_rank() :: process_count()]


@contextmanager
def locked_for_all(lock: Path, purpose: str) -> Iterator[None]:
    """Hold a lock on the output folder in the first process, for all of them; its RunnerError ends the others."""
    with ExitStack() as stack:
        if is_first():
            try:
                stack.enter_context(file_lock(lock, purpose))
            except LockedError as error:
                raise RunnerError(f"{error}; wait for its end, or give another --out") from None
        yield


def wait_for_all() -> None:
    """Come back when all processes are here: one that ends with an error makes the launcher end the others."""
    if process_count() > 1:
        from accelerate import PartialState

        PartialState(cpu=True, timeout=LONGEST_WAIT).wait_for_everyone()


def gathered(item: T) -> list[T]:
    """The item of every process, once all are here with theirs; of one that is not connected its own."""
    if process_count() == 1 or not are_connected():
        return [item]
    import torch.distributed

    items: list[Any] = [None] * process_count()
    torch.distributed.all_gather_object(items, item)
    return items


def refuse_shared_training(prompt: Prompt, classes: Mapping[str, type]) -> None:
    """Raise RunnerError where several processes have prompts of their own: a trainer needs all of them at once."""
    if process_count() > 1 and any(trains(prompt, node_id, classes) for node_id in prompt):
        raise RunnerError("this workflow trains, and several processes cannot train and split --prompts; train first")
