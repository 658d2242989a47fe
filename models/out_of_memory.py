"""Is memory what failed, in whatever words torch and the libraries below it say so, and what then?"""

from __future__ import annotations

from collections.abc import Callable
from traceback import clear_frames
from typing import Any, TypeVar

import torch

Result = TypeVar("Result")

FULL = (  # what torch says where it has no class for it
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "Invalid buffer size",  # MPS, of one that is larger than any may be
    "not enough GPU video memory",  # DirectML
    "OUT_OF_DEVICE_MEMORY",  # Intel, whose drivers say it in two ways
    "ERROR_OUT_OF_RESOURCES",
    "VRAM grow failed",  # what streams the weights of newer hosts
    "VRAM reservation failed",
    # cuDNN and cuBLAS that find no room for their own buffers; of convolutions torch swallows what was really wrong
    "unable to find an engine",
    "_STATUS_ALLOC_FAILED",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device or the computer had no memory left; some devices of torch have no class for that."""
    # By the name that the class has in torch 2.4 too.
    return isinstance(error, torch.cuda.OutOfMemoryError | MemoryError) or any(words in str(error) for words in FULL)


def is_device_full(error: BaseException) -> bool:
    """Whether it was the memory of a card that ran out, and not that of the computer."""
    named = "out of memory" in str(error) and "CPU" not in str(error)
    return isinstance(error, torch.cuda.OutOfMemoryError) or (named and not isinstance(error, MemoryError))


def tried(probe: Callable[..., bool], *given: Any) -> bool:
    """What a probe of a device finds; no, for this time, where the device is full: then it has found nothing."""
    try:
        return probe(*given)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return False


def retry_with_room(
    work: Callable[[], Result], make_room: Callable[[BaseException], bool], release: Callable[[], None]
) -> Result:
    """What `work` gives; where memory runs out, again after `make_room`, which says whether it found any.

    release: gives unused memory back to the device. The last error is raised where no room was found.
    """
    while True:
        try:
            return work()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            clear_frames(error.__traceback__)  # of the attempt's tensors, before room is made
            if not make_room(error):
                raise
        release()  # outside the handler, whose exception may hold some still
