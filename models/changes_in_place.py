"""Lets a network be learned through that changes in place what a gradient still needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.autograd.graph import allow_mutation_on_saved_tensors
from torch.utils._python_dispatch import TorchDispatchMode


@contextmanager
def changes_in_place() -> Iterator[Callable[[], None]]:
    """Watch every operation, and copy what a gradient needs before it is changed; a processor has far more to do then.

    What is yielded forgets what was copied: to be called between two steps.
    """
    plainly = PlainResults()  # type: ignore[no-untyped-call]  # torch's
    with allow_mutation_on_saved_tensors() as saved, plainly:
        yield saved.clear


class PlainResults(TorchDispatchMode):
    """Where torch watches operations, plain tensors come of other packs' classes of tensors, as where it does not.

    Such packs turn the weights that they keep in GGUF into plain tensors.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))
