"""What the processes of one run tell each other; with a single process all of it is the identity."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from accelerate import Accelerator


def share_weights(network: nn.Module) -> None:
    """Give all processes the weights of the first."""
    from accelerate.utils import broadcast

    for tensor in network.state_dict().values():
        tensor.copy_(broadcast(tensor))


def average_gradients(accelerator: Accelerator, parameters: Iterable[nn.Parameter]) -> None:
    """Mean over processes in one message; objectives may call the modules in any way, which DDP's hooks forbid.

    A parameter that some processes did not use counts as 0 there; one that none used stays without a gradient.
    """
    if accelerator.num_processes == 1:
        return
    trained = [p for p in parameters if p.requires_grad]
    used = torch.tensor([p.grad is not None for p in trained], device=accelerator.device, dtype=torch.float32)
    gradients = [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in trained]
    mean = accelerator.reduce(torch.cat([used, *gradients]), reduction="mean")
    used, *gradients = mean.split([len(trained), *(p.numel() for p in trained)])
    for parameter, share, gradient in zip(trained, used.tolist(), gradients, strict=True):
        parameter.grad = gradient.view_as(parameter).to(parameter.dtype) if share else None


def average_values(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean of every named value over all parts of all processes that have it."""
    from accelerate.utils import gather_object

    parts = gather_object(list(parts))
    names = dict.fromkeys(name for part in parts for name in part)
    found = {name: [part[name] for part in parts if name in part] for name in names}
    return {name: sum(values) / len(values) for name, values in found.items()}


def agree(value: int, where: object) -> None:
    """Wait until all processes have read `value` in the folder `where`; ValueError when they read unlike ones."""
    from accelerate.utils import gather_object

    values = gather_object([value])
    if len(set(values)) > 1:
        raise ValueError(f"the processes found steps {values} in {where}; it must be one folder that all of them share")
