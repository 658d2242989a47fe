"""The drawing of stages for a page that knows only the widgets of 'Pyramid stages' and of the blocks after it."""

from __future__ import annotations

import io
import json

from ..drawings.stages import draw_stages
from .schedules import Stages, StageSteps

MOST_BLOCKS = 16


def stages_png(plan: str) -> bytes:
    """PNG of the stages that a JSON list of widgets makes: of 'Pyramid stages', then of each 'Steps of one stage'.

    ValueError where the blocks would refuse them.
    """
    blocks = json.loads(plan)
    if not isinstance(blocks, list) or not 1 <= len(blocks) <= MOST_BLOCKS:
        raise ValueError(f"a plan is a list of 1 to {MOST_BLOCKS} blocks")
    first, *rest = blocks
    try:
        stages, _ = Stages().build(**first)
        for block in rest:
            stages, _ = StageSteps().change(stages=stages, **block)
    except TypeError as error:  # python's own words say where the pack lies
        raise ValueError("a block of a plan is an object of its widgets and their values") from error
    with io.BytesIO() as file:
        draw_stages(stages).save(file, format="PNG")
        return file.getvalue()
