"""FSDP, by accelerate's own config: every process keeps a share of weights, gradients, optimiser and average.

The blocks of a transformer are brought together one at a time, when they are needed; all other weights for the length
of a training step, which therefore runs inside the forward of one module that holds all networks. So objectives may
call networks in any way and look at their weights. In every step all processes must call the blocks equally often, as
the objectives here do: each call is a message to all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ...models.layers import DoubleBlock
from ...models.miniflux import SingleBlock

if TYPE_CHECKING:
    from accelerate import Accelerator

BLOCKS = (DoubleBlock, SingleBlock)


class Networks(nn.ModuleDict):
    """All that a run trains; its forward is a training step with them."""

    def forward(self, training_step: Callable[..., Any], *arguments: Any) -> Any:
        return training_step(*arguments)


def is_sharded(accelerator: Accelerator) -> bool:
    """Whether accelerate uses FSDP."""
    from accelerate.utils import DistributedType

    return accelerator.distributed_type == DistributedType.FSDP


def shard(
    accelerator: Accelerator, networks: Networks, optimizer: torch.optim.Optimizer
) -> tuple[Networks, torch.optim.Optimizer]:
    """Leave this process its share of networks that are alike in all processes."""
    from torch.distributed.fsdp.wrap import transformer_auto_wrap_policy

    plugin = accelerator.state.fsdp_plugin
    names = [block.__name__ for block in BLOCKS if any(isinstance(module, block) for module in networks.modules())]
    plugin.auto_wrap_policy = transformer_auto_wrap_policy if names else None
    plugin.transformer_cls_names_to_wrap = names or None
    plugin.cpu_ram_efficient_loading = False  # for models whose weights are in the first process only
    return accelerator.prepare(networks, optimizer)


def whole(tree: Any, keep: bool = True) -> Any:
    """Nested dicts and lists with every shared tensor brought together on the CPU; None in its place without `keep`.

    All processes must call it, with the same tree.
    """
    from torch.distributed.tensor import DTensor

    if isinstance(tree, DTensor):
        full: Tensor = tree.full_tensor().detach()
        return full.cpu() if keep else None
    if isinstance(tree, Mapping):
        return {name: whole(value, keep) for name, value in tree.items()}
    return [whole(value, keep) for value in tree] if isinstance(tree, (list, tuple)) else tree


def share_like(tensor: Tensor, like: Tensor) -> Tensor:
    """The share of a whole `tensor` that this process keeps of `like`; the tensor itself where nothing is shared."""
    if not hasattr(like, "device_mesh"):  # asked without torch.distributed, which some builds of torch do not have
        return tensor
    from torch.distributed.tensor import distribute_tensor

    share: Any = like
    mesh = share.device_mesh
    return distribute_tensor(tensor.to(mesh.device_type), mesh, share.placements).to(like.device)
