"""Blocks for the stages: the resolutions that a video passes through, and the steps of each."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..drawings.pen import as_image
from ..drawings.stages import draw_stages
from ..models.families import HELIOS, PYRAMID_FLOW
from ..samplers.names import MOST_STAGES, STAGE_SOLVER_NAMES
from .block import Block, Choice, Float, Int, Output, Wire

if TYPE_CHECKING:
    from ..samplers.stages import PyramidStages

STEPS = (
    Int("first_steps", 20, 1, 200).tip(
        "Steps per stage for the first frame, on which all others build (for Helios, the first chunk). 1 is a rough "
        "sketch; 20 is official (4 for Helios Distilled); more changes little."
    ),
    Int("video_steps", 10, 1, 200).tip(
        "Steps per stage for everything after the first frame, where most of the time goes. 1 smears motion; 10 is "
        "official (2 for Helios Distilled); twice as many take twice as long. With a start image, only these are "
        "used."
    ),
)


class Stages(Block):
    ID, NAME = "PyramidVideoStages", "Pyramid stages"
    CATEGORY = "pyramid video/schedule"
    DESCRIPTION = (
        "How many resolutions the video passes through, and how many steps each gets. The second output is a drawing "
        "of the stages."
    )
    ALIASES = (
        "scheduler, steps, pyramid flow stages, sigmas, basic scheduler, shift, multi resolution, coarse to fine, "
        "solver, unipc, dmd"
    )
    REQUIRED = STEPS
    OPTIONAL = (
        Int("stage_count", 3, 1, MOST_STAGES).tip(
            "How many resolutions. Keep the number that the model was trained with (3). 1 works at full size only "
            "and is slow; each further stage halves the first size."
        ),
        Float("shift", 1.0, 0.1, 20.0, 0.1).tip(
            "Where the noise levels are. 1 is what the models were trained with; above 1 stays noisy longer "
            "(layout), below 1 moves to detail sooner."
        ),
        Float("gamma", 0.333, 0.01, 0.334, 0.001, exact=True).tip(
            "How strongly the noise added between stages is correlated. 0.333 (one third) is exact for all released "
            "models; near 0 the added noise is white and the jump larger."
        ),
        Choice("made_for", (PYRAMID_FLOW, HELIOS), PYRAMID_FLOW).tip(
            "Which noise levels to use. Models that you train here use Pyramid Flow. Helios shifts its levels by the "
            "size of the video, so 'shift' stays at 1."
        ),
        Choice("solver", STAGE_SOLVER_NAMES, "euler").tip(
            "How the steps of a stage are taken. euler is for Pyramid Flow; unipc is what Helios Base and Mid were "
            "released with, and is no more accurate for Pyramid Flow; dmd is for distilled models such as Helios "
            "Distilled."
        ),
    )
    OUTPUTS = (
        Output(
            "PYRAMID_STAGES", "For the sampler, and for 'Empty video latent' when the stage count is not 3.", "stages"
        ),
        Output("IMAGE", "A drawing of the stages.", "drawing"),
    )
    FUNCTION = "build"

    def build(self, first_steps, video_steps, stage_count, shift, gamma, made_for, solver):
        from ..samplers.presets import helios_stages_of
        from ..samplers.stages import make_stages

        if made_for == HELIOS:
            if shift != 1.0:
                raise ValueError(
                    f"shift is {shift}, but a Helios model shifts its levels by the size of the video: set shift to 1"
                )
            return show(helios_stages_of(stage_count, first_steps, video_steps, solver, exact_third(gamma)))
        gamma = exact_third(gamma)
        return show(
            make_stages(stage_count, shift, gamma, first_steps=first_steps, video_steps=video_steps, solver=solver)
        )


class StageSteps(Block):
    ID, NAME = "PyramidVideoStageSteps", "Steps of one stage"
    CATEGORY = "pyramid video/schedule"
    DESCRIPTION = "Gives one stage its own number of steps. Chain several blocks for several stages."
    ALIASES = "steps per stage, pyramid flow steps, per stage, scheduler"
    REQUIRED = (
        Wire("stages", "PYRAMID_STAGES").tip("From 'Pyramid stages'."),
        Int("stage", 0, 0, MOST_STAGES - 1).tip(
            "Which stage: 0 is the coarsest (layout, and fast); the last is full size (detail, and most of the time)."
        ),
        *STEPS,
    )
    OUTPUTS = (
        Output("PYRAMID_STAGES", "The stages, with the changed one.", "stages"),
        Output("IMAGE", "A drawing of the new stages.", "drawing"),
    )
    FUNCTION = "change"

    def change(self, stages: PyramidStages, stage, first_steps, video_steps):
        count = len(stages.stages)
        if not 0 <= stage < count:
            raise ValueError(f"there is no stage {stage}; the stages are 0 to {count - 1}")
        return show(
            replace(
                stages,
                first_steps=with_item(stages.first_steps, stage, first_steps),
                video_steps=with_item(stages.video_steps, stage, video_steps),
            )
        )


def exact_third(gamma: float) -> float:
    """A widget cannot hold one third; what is meant as one third is one third."""
    return 1 / 3 if abs(gamma - 1 / 3) < 1e-3 else gamma


def with_item(items: tuple[int, ...], index: int, value: int) -> tuple[int, ...]:
    return (*items[:index], value, *items[index + 1 :])


def show(stages: PyramidStages) -> tuple:
    """The stages and their drawing; the page puts the same drawing on the block by itself, before any run."""
    return stages, as_image(draw_stages(stages))


BLOCKS = (Stages, StageSteps)
