"""The widgets that say how a new model will make clips."""

from __future__ import annotations

from typing import Any

from ..models.families import FAMILIES, ModelFamily
from .literals import verdict

FAMILY = (
    list(FAMILIES),
    {
        "default": "flow",
        "tooltip": "How it makes clips. flow: 5 to 20 steps; diffusion: 50 and more; gan: one pass; pyramid: one "
        "latent frame after the other at rising resolution. Wire it into the trainer of that name.",
    },
)
SHIFT = (
    "FLOAT",
    {
        "default": 1.0,
        "min": 0.1,
        "max": 20.0,
        "step": 0.1,
        "tooltip": "flow only: where the noise levels of sampling sit. 1 is an even line; large clips want more.",
    },
)
SCHEDULE = (
    ["cosine", "linear"],
    {"default": "cosine", "tooltip": "diffusion only: how the 1000 levels of noise rise. cosine suits small clips."},
)
PREDICTION = (
    ["v", "epsilon"],
    {
        "default": "v",
        "tooltip": "diffusion only: what the network predicts. v, a mix of noise and clip, is even at all levels; "
        "epsilon is the noise alone.",
    },
)
ZERO_SNR = (
    "BOOLEAN",
    {
        "default": True,
        "tooltip": "diffusion only: the last level is pure noise, as sampling begins. Needs prediction v.",
    },
)
FAMILY_SETTINGS = {"shift": SHIFT, "schedule": SCHEDULE, "prediction": PREDICTION, "zero_terminal_snr": ZERO_SNR}


def family_of(name: str, shift: float, schedule: str, prediction: str, zero_terminal_snr: bool) -> ModelFamily:
    """The family that the widgets describe; ValueError where they contradict each other."""
    from ..samplers.noise_schedule import schedule_of

    family = ModelFamily(name, shift, schedule, prediction, zero_terminal_snr)
    if name == "diffusion":
        schedule_of(family)
    return family


def family_verdict(family: Any, schedule: Any, prediction: Any, zero_terminal_snr: Any) -> bool | str:
    """Whether the widgets go together; those that come over wires are seen when the block runs."""

    def check(family: str, *settings: Any) -> None:
        family_of(family, 1.0, *settings)

    return verdict(check, family, schedule, prediction, zero_terminal_snr)
