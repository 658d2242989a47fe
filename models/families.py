"""How models are trained and sampled: the four families, and the two lines of pyramids. Loads nothing heavy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

PYRAMID_FLOW, HELIOS = "Pyramid Flow", "Helios"  # the lines: whose stages, units and history a pyramid has
VARIANTS = ("", "base", "mid", "distilled")  # of Helios; other models come in one
DEFAULT_VARIANT = {PYRAMID_FLOW: "", HELIOS: "distilled"}  # of each line: the one that most people can run


@dataclass(frozen=True)
class Family:
    """One way to train a model, and what follows for sampling it."""

    title: str  # what people call a model of it
    sampler: str  # the block that samples it
    default_steps: int  # of a stage, where there are stages
    in_stages: bool = False  # made unit by unit and stage by stage, with a history
    one_step: bool = False  # made in one evaluation, without guidance
    has_noise_schedule: bool = False  # of variances, as diffusion models learn; others learn a flow from noise to data

    @property
    def any_sampler(self) -> bool:
        """Whether any solver that walks from noise to data samples it, not only our block."""
        return not (self.in_stages or self.one_step)


FAMILIES = {
    "pyramid": Family("pyramidal flow", "Sample pyramid", 10, in_stages=True),
    "flow": Family("flow matching model", "Sample flow", 10),
    "diffusion": Family("diffusion model", "Sample DDIM", 50, has_noise_schedule=True),
    "gan": Family("GAN generator", "Sample GAN", 1, one_step=True),
}


@dataclass(frozen=True)
class ModelFamily:
    """How one transformer was trained; the default is what official checkpoints are.

    `name` is a key of `FAMILIES`. `shift` is that of the noise levels of a flow. Then comes the noise schedule of a
    diffusion model, as `noise_schedule.make_schedule` takes it. `variant` is which of the released Helios models a
    pyramid is, "" for all others. ValueError on a family or variant that there is not.
    """

    name: str = "pyramid"
    shift: float = 1.0
    schedule: str = "cosine"
    prediction: str = "v"
    zero_terminal_snr: bool = True
    variant: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or self.name not in FAMILIES:
            raise ValueError(f"unknown family {self.name!r:.60}; expected one of {', '.join(FAMILIES)}")
        if not isinstance(self.shift, int | float) or not 0 < self.shift < math.inf:
            raise ValueError(f"the shift of a flow is {self.shift!r:.60}; expected a number above 0")
        names = (self.schedule, self.prediction, self.variant)
        if not all(isinstance(name, str) for name in names) or not isinstance(self.zero_terminal_snr, bool):
            raise ValueError(f"schedule, prediction and variant of a family must be text, not {names!r:.100}")
        if self.variant not in VARIANTS:
            raise ValueError(
                f"unknown variant {self.variant!r:.60}; expected one of {', '.join(VARIANTS[1:])}, or none"
            )

    def __str__(self) -> str:
        return self.rules.title

    @property
    def rules(self) -> Family:
        """What goes for all models of the family."""
        return FAMILIES[self.name]

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain JSON values, for a checkpoint's metadata."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelFamily:
        """Read what `to_dict` wrote; ValueError names what is not known."""
        if not isinstance(values, Mapping):
            raise ValueError(f"a family is an object with {', '.join(cls.__dataclass_fields__)}, not {values!r:.60}")
        if unknown := sorted(values.keys() - cls.__dataclass_fields__.keys()):
            raise ValueError(f"unknown settings of a model family: {', '.join(unknown)}")
        return cls(**values)
