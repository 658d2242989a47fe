"""What a state holds of a run in tensors: weights, moments of the optimiser, and the average."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from .ema import load_ema
from .optimizer import load_optimizer, optimizer_state
from .sharding import share_like


def tensors_of(network: nn.Module, optimizer: Any, ema: Any) -> dict[str, Any]:
    """The state dicts of a run; `load_tensors` takes them up again."""
    return {
        "network": network.state_dict(),
        "optimizer": optimizer_state(optimizer),
        "average": None if ema is None else ema.state_dict(),
    }


def load_tensors(
    folder: Path, state: Mapping[str, Any], network: nn.Module, optimizer: Any, ema: Any, decay: float
) -> None:
    """Take up what `tensors_of` gave. ValueError when `state`, of the run in `folder`, is of another model."""
    own, found = network.state_dict(), state["network"]
    wrong = [k for k in own.keys() | found.keys() if k not in own or k not in found or own[k].shape != found[k].shape]
    for name in ("discriminator", "feature_discriminator"):
        begun, now = ("with" if any(key.startswith(f"{name}.") for key in keys) else "without" for keys in (found, own))
        if begun != now:
            raise ValueError(
                f"{folder} holds a run that was begun {begun} a {name.replace('_', ' ')}, and this one is {now}. Give "
                "the run a new folder, or the settings it was started with"
                + ("" if name == "discriminator" else " ('feature_discriminator' on Train GAN; --begin-from)")
            )
    if wrong:
        raise ValueError(
            f"{folder} holds a run of another model: {len(wrong)} of its tensors differ, first {sorted(wrong)[0]!r}. "
            "Give the run a new folder, or the settings it was started with"
        )
    network.load_state_dict({name: share_like(found[name], own[name]) for name in own})
    try:
        load_optimizer(optimizer, state["optimizer"])
        if ema is not None and state["average"] is not None:
            load_ema(ema, state["average"], list(network.parameters()), decay)
    except (ValueError, TypeError, LookupError, AttributeError, RuntimeError) as error:
        raise ValueError(
            f"{folder} holds a run that trained other tensors of this model, or by another optimiser ({error}). Give "
            "the run a new folder, or the command it was started with, by the version that began it"
        ) from error
