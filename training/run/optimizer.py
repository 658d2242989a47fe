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
    """The optimiser of all that learns in `network`; matrices decay, biases and norms do not.

    Each group is of one `module` of the network, so that their rates may differ. Parameters are in the same order
    whatever the settings of the rates are, so a state fits them all.
    """
    muon = settings.optimizer == "muon"
    inner = {id(parameter) for parameter in inner_matrices(network)} if muon else set()
    kinds: list[dict[str, Any]] = [{"orthogonal": True}, {}, {"weight_decay": 0.0}]
    parameters: list[dict[str, list[nn.Parameter]]] = [{} for _ in kinds]  # of each kind by module
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            kind = 0 if id(parameter) in inner else 1 if parameter.ndim >= 2 else 2
            parameters[kind].setdefault(name.split(".")[0], []).append(parameter)
    groups = [
        {"params": params, "module": module, **kind}
        for kind, of_modules in zip(kinds, parameters, strict=True)
        for module, params in of_modules.items()
    ]
    make = Muon if muon else torch.optim.AdamW
    return make(groups, lr=settings.learning_rate, betas=settings.betas, weight_decay=settings.weight_decay)


def optimizer_state(optimizer: Any) -> dict[str, Any]:
    """The state dict of an optimiser; it leaves out what module a group is of, which `load_optimizer` need not know."""
    state = optimizer.state_dict()
    groups = [{name: value for name, value in group.items() if name != "module"} for group in state["param_groups"]]
    return {**state, "param_groups": groups}


def load_optimizer(optimizer: Any, state: Mapping[str, Any]) -> None:
    """Take up the moments of a state dict, but keep the groups and settings of now.

    ValueError if it is of other parameters. States of older versions have other groups of the same parameters.
    """
    own = optimizer.state_dict()["param_groups"]
    for group, found in zip(own, state["param_groups"], strict=False):
        group["lr"] = found["lr"]  # until the next step, which sets it: a run that is done is saved as it was
    trained = dict(enumerate(parameter for group in optimizer.param_groups for parameter in group["params"]))
    if sum(len(group["params"]) for group in state["param_groups"]) != len(trained):
        raise ValueError(f"the state is not of {len(trained)} parameters")
    moments = {
        number: {name: share_like(value, trained[number]) if value.ndim else value for name, value in values.items()}
        for number, values in state["state"].items()
    }
    orthogonal = [group.get("orthogonal", False) for group in optimizer.param_groups for _ in group["params"]]
    for number, values in moments.items():
        if ("momentum" in values) != orthogonal[number]:
            raise ValueError(f"parameter {number} was trained by another optimiser")
        for name, value in values.items():
            if value.ndim and value.shape != trained[number].shape:
                raise ValueError(f"{name} of parameter {number} has the shape {list(value.shape)}")
    optimizer.load_state_dict({"state": moments, "param_groups": own})
