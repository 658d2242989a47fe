"""The widgets for how a new model will make clips."""

from __future__ import annotations

from typing import Any

from ..models.families import FAMILIES, ModelFamily
from ..samplers.names import PREDICTIONS, SCHEDULES
from .block import Bool, Choice, Float
from .widget_validation import validation_result

FAMILY = Choice("family", list(FAMILIES), "flow").tip(
    "How it makes clips. flow: 5 to 20 steps; diffusion: 50 and more; gan: one pass; pyramid: one latent frame after "
    "the other, at rising resolution. Connect it to the trainer of that family."
)
FAMILY_SETTINGS = (
    Float("shift", 1.0, 0.1, 20.0, 0.1).tip(
        "flow only: where the noise levels of sampling are. 1 spaces them evenly; large clips need more."
    ),
    Choice("schedule", SCHEDULES, "cosine").tip(
        "diffusion only: how the noise rises over the 1000 timesteps. cosine suits small clips."
    ),
    Choice("prediction", PREDICTIONS, "v").tip(
        "diffusion only: what the network predicts. v, a mix of noise and clip, works evenly at all levels; epsilon "
        "is the noise alone."
    ),
    Bool("zero_terminal_snr", True).tip(
        "diffusion only: the last timestep is pure noise, which is where sampling starts. Needs prediction v."
    ),
)


def family_of(name: str, shift: float, schedule: str, prediction: str, zero_terminal_snr: bool) -> ModelFamily:
    """The family that the widgets describe; ValueError where they contradict each other."""
    from ..samplers.noise_schedule import schedule_of

    family = ModelFamily(name, shift, schedule, prediction, zero_terminal_snr)
    if name == "diffusion":
        schedule_of(family)
    return family


def validate_family(family: Any, schedule: Any, prediction: Any, zero_terminal_snr: Any) -> bool | str:
    """Whether the widgets go together; those that come over wires are seen when the block runs."""

    def check(family: str, *settings: Any) -> None:
        family_of(family, 1.0, *settings)

    return validation_result(check, family, schedule, prediction, zero_terminal_snr)
