"""The average of the weights over the steps (EMA), which is what a run exports; diffusers keeps it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn

from .sharding import share_like

# The decay of step n is 1 - (1 + n / INV_GAMMA) ** -POWER, up to that of the settings.
INV_GAMMA, POWER = 10.0, 0.9


def make_ema(parameters: Sequence[nn.Parameter], decay: float) -> Any:
    """An average of `parameters`, which begins at them; None for a decay of 0."""
    if not decay:
        return None
    from diffusers.training_utils import EMAModel

    return EMAModel(parameters, decay=decay, use_ema_warmup=True, inv_gamma=INV_GAMMA, power=POWER)


@contextmanager
def averaged(ema: Any, parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Put the averages in the place of the `parameters` for a while; without an average they stay as they are."""
    if ema is None:
        yield
        return
    ema.store(parameters)
    try:
        ema.copy_to(parameters)
        yield
    finally:
        ema.restore(parameters)


def load_ema(ema: Any, state: Mapping[str, Any], parameters: Sequence[nn.Parameter], decay: float) -> None:
    """Take up the averages of a state dict, but keep the `decay` of now."""
    shares = [
        share_like(shadow, like).to(like.device).view_as(like)
        for shadow, like in zip(state["shadow_params"], parameters, strict=True)
    ]
    ema.load_state_dict({**state, "shadow_params": shares, "decay": decay})
