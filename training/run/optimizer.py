"""The optimiser of a run, AdamW (Loshchilov and Hutter 2019) or Muon with it, and its state in a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from .muon import Muon, inner_matrices
from .sharding import share_like
from .train_settings import TrainSettings


def make_optimizer(network: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    """The optimiser of all that learns in `network`; matrices decay, biases and norms do not."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    decay, plain = [p for p in trained if p.ndim >= 2], [p for p in trained if p.ndim < 2]
    if settings.optimizer == "muon":
        inner = inner_matrices(network)
        others = {id(parameter) for parameter in inner}
        groups: list[dict[str, Any]] = [
            {"params": inner, "weight_decay": settings.weight_decay, "orthogonal": True},
            {"params": [p for p in decay if id(p) not in others], "weight_decay": settings.weight_decay},
            {"params": plain},
        ]
        return Muon([group for group in groups if group["params"]], settings.learning_rate, settings.betas)
    return torch.optim.AdamW(
        [{"params": decay, "weight_decay": settings.weight_decay}, {"params": plain, "weight_decay": 0.0}],
        lr=settings.learning_rate,
        betas=settings.betas,
        eps=1e-8,
    )


def load_optimizer(optimizer: Any, state: Mapping[str, Any]) -> None:
    """Take up the moments of a state dict, but keep the settings of now; ValueError if it is of other parameters."""
    chosen = [{"betas": g["betas"], "weight_decay": g["weight_decay"]} for g in optimizer.param_groups]
    trained = dict(enumerate(parameter for group in optimizer.param_groups for parameter in group["params"]))
    moments = {
        number: {name: share_like(value, trained[number]) if value.ndim else value for name, value in values.items()}
        for number, values in state["state"].items()
        if number in trained  # if it is not, the optimiser itself says so
    }
    for number, values in moments.items():
        for name, value in values.items():
            if value.ndim and value.shape != trained[number].shape:
                raise ValueError(f"{name} of parameter {number} has the shape {list(value.shape)}")
    optimizer.load_state_dict({**state, "state": moments})
    for group, values in zip(optimizer.param_groups, chosen, strict=True):
        group.update(values)
