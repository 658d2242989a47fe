"""What a pyramid changes in the host's guider and model from stage to stage, given back whatever happens."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from .streams import Streams

Conds = dict[str, list[Any]]  # prompts as the host has processed them, by the name that the guider knows them by
SHAPES = "latent_shapes"  # of the model, of every stream
PICTURE_NUMBERS = "_v_numel"  # of the guider for picture and sound: how many numbers of a latent are the picture's
SECOND_MODEL, SECOND_CONDS = "uncond_inner", "_uncond_conds"  # of the guider of two models: that of the negative prompt


class LentGuider:
    """The guider of one run."""

    def __init__(self, guider: Any) -> None:
        self.guider, self.model = guider, guider.inner_model
        names = ("conds", PICTURE_NUMBERS, SECOND_CONDS)
        places = [(guider, name) for name in names] + [(self.model, SHAPES)]
        self.kept = [(owner, name, getattr(owner, name)) for owner, name in places if hasattr(owner, name)]

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        self.give_back()

    def give_back(self) -> None:
        """Bring everything back to what it was when this object was made."""
        for owner, name, value in self.kept:
            setattr(owner, name, value)

    def show(self, stage: Streams, conds_for: Callable[[Any], Conds] | None) -> None:
        """Let the host see the sizes of a stage, and the prompts that `conds_for` makes for a model; None: as given."""
        self.give_back()
        if hasattr(self.model, SHAPES):
            self.model.latent_shapes = stage.sizes
        if getattr(self.guider, PICTURE_NUMBERS, None) is not None:
            setattr(self.guider, PICTURE_NUMBERS, math.prod(stage.sizes[0][1:]))
        if conds_for is None:
            return
        second = getattr(self.guider, SECOND_MODEL, None)
        seconds = None if second is None else conds_for(second)["negative"]  # both from the prompts as they were
        self.guider.conds = conds_for(self.model)
        if seconds is not None:
            setattr(self.guider, SECOND_CONDS, seconds)
