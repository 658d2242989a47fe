"""Where the work is done when there is no ComfyUI to say so."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from ...models.checkpoint_info import CheckpointInfo


def choose_device(name: str | None) -> torch.device:
    """The device called `name`, or the best there is; ValueError names what there is instead.

    With its number, as tensors there say it: to torch `cuda` and `cuda:0` are not equal.
    """
    import torch

    there = [*accelerators(), "cpu"]
    if name is None:
        if there[0] == "cpu":
            return torch.device("cpu")
        # Processes that were started together on one computer have a card each.
        return torch.device(there[0], int(os.environ.get("LOCAL_RANK", 0)) if there[0] in ("cuda", "xpu") else 0)
    refusal = f"the device {name!r} cannot be used here; there is {', '.join(there)}"
    try:
        made = torch.zeros(1, device=torch.device(name))
        made.item()  # some devices of torch, such as meta, make tensors that hold nothing
    except (RuntimeError, AssertionError, ImportError) as error:
        raise ValueError(refusal) from error
    if made.device.type != "cpu":
        return made.device
    if torch.device(name).index:  # torch takes any number and means the only one
        raise ValueError(refusal)
    return torch.device("cpu")


def accelerators() -> list[str]:
    """The kinds of accelerator that can be used here, the fastest first."""
    import torch

    backends = {"cuda": torch.cuda, "xpu": torch.xpu, "mps": torch.backends.mps}
    return [kind for kind, backend in backends.items() if backend.is_available()]


def free_memory(device: torch.device) -> int:
    """Bytes that could be taken on `device` now."""
    import psutil
    import torch

    backend: Any = getattr(torch, device.type, None)
    if device.type in ("cpu", "mps") or not hasattr(backend, "mem_get_info"):
        return psutil.virtual_memory().available
    held = backend.memory_reserved(device) - backend.memory_allocated(device)  # torch's own, but not in use
    return backend.mem_get_info(device)[0] + held


def stored_dtype(info: CheckpointInfo, device: torch.device) -> torch.dtype:
    """bfloat16 for what is large on an accelerator, else float32: small models and CPUs gain nothing from less."""
    import torch

    from ...models.checkpoint_dtypes import LARGE

    return torch.bfloat16 if info.parameters >= LARGE and device.type != "cpu" else torch.float32


def suited_dtype(info: CheckpointInfo, device: torch.device) -> torch.dtype:
    """The type to compute in: as it is stored, but float32 on cards that only store bfloat16."""
    import torch

    from ...models.bf16 import only_stores_bf16

    return torch.float32 if only_stores_bf16(device) else stored_dtype(info, device)
