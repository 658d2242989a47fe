"""The four ways to make a clip, and what a checkpoint says of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

FAMILIES = {  # family: what people call a model of it
    "pyramid": "pyramidal flow",
    "flow": "flow matching model",
    "diffusion": "diffusion model",
    "gan": "GAN generator",
}
VARIANTS = ("", "base", "mid", "distilled")  # of Helios; other models come in one
SAMPLERS = {  # family: the block that samples it
    "pyramid": "Sample pyramid",
    "flow": "Sample flow",
    "diffusion": "Sample DDIM",
    "gan": "Sample GAN",
}


@dataclass(frozen=True)
class ModelFamily:
    """How a transformer was trained, and so how it must be asked; the default is what official checkpoints are.

    `shift` is that of the noise levels of a flow. Then comes the noise schedule of a diffusion model, as
    `noise_schedule.make_schedule` takes it. `variant` is which of the released Helios models a pyramid is, "" for all
    others. ValueError on a family or variant that there is not.
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
        words = (self.schedule, self.prediction, self.variant)
        if not all(isinstance(word, str) for word in words) or not isinstance(self.zero_terminal_snr, bool):
            raise ValueError(f"schedule, prediction and variant of a family are words, not {words!r:.100}")
        if self.variant not in VARIANTS:
            raise ValueError(
                f"unknown variant {self.variant!r:.60}; expected one of {', '.join(VARIANTS[1:])}, or none"
            )

    def __str__(self) -> str:
        return FAMILIES[self.name]

    @property
    def sampler(self) -> str:
        """The name of the block that samples such a model."""
        return SAMPLERS[self.name]

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
