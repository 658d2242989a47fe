"""Blocks that plan the climb: the ladder of resolutions and its steps."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..samplers.model_kinds import HELIOS, MOST_STAGES, PYRAMID_FLOW
from .drawing import as_image
from .ladder import draw_ladder

if TYPE_CHECKING:
    from ..samplers.stages import PyramidStages

FIRST_STEPS = {
    "min": 1,
    "max": 200,
    "tooltip": "Steps per stage for the first frame, on which all others build (Helios: the first chunk). "
    "1 is a rough sketch; 20 is the official choice (Helios Distilled 4); far above it little changes.",
}
VIDEO_STEPS = {
    "min": 1,
    "max": 200,
    "tooltip": "Steps per stage for everything after the first frame, where most of the time goes. "
    "1 smears motion; 10 is the official choice (Helios Distilled 2); twice as many take twice as long. "
    "With a start image only these count.",
}


class Stages:
    CATEGORY = "pyramid video/schedule"
    DESCRIPTION = (
        "The ladder: how many resolutions to climb through, and how many steps to spend on each. "
        "The second output is a drawing of it."
    )
    SEARCH_ALIASES = [
        "scheduler",
        "steps",
        "pyramid flow stages",
        "sigmas",
        "basic scheduler",
        "shift",
        "multi resolution",
        "coarse to fine",
        "solver",
        "unipc",
        "dmd",
    ]
    RETURN_TYPES = ("PYRAMID_STAGES", "IMAGE")
    RETURN_NAMES = ("stages", "drawing")
    OUTPUT_TOOLTIPS = (
        "For the sampler, and for 'Empty video latent' when the stage count is not 3.",
        "The ladder as a picture.",
    )
    FUNCTION = "build"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "first_steps": ("INT", {"default": 20, **FIRST_STEPS}),
                "video_steps": ("INT", {"default": 10, **VIDEO_STEPS}),
            },
            "optional": {
                "stage_count": (
                    "INT",
                    {
                        "default": 3,
                        "min": 1,
                        "max": MOST_STAGES,
                        "tooltip": "Resolutions to climb through; keep the number that the model was trained with (3). "
                        "1 works at full size only and is slow; each more halves the first size.",
                    },
                ),
                "shift": (
                    "FLOAT",
                    {
                        "default": 1.0,
                        "min": 0.1,
                        "max": 20.0,
                        "step": 0.1,
                        "tooltip": "Where the noise levels sit. 1 is what the models were trained with; "
                        "above 1 stays noisy longer (layout), below 1 hurries to detail.",
                    },
                ),
                "gamma": (
                    "FLOAT",
                    {
                        "default": 0.333,
                        "min": 0.01,
                        "max": 0.334,
                        "step": 0.001,
                        "round": False,
                        "tooltip": "How the noise added between stages is correlated. 0.333 (one third) is exact for "
                        "all released models; near 0 the fresh noise is white and the jump larger.",
                    },
                ),
                "made_for": (
                    [PYRAMID_FLOW, HELIOS],
                    {
                        "default": PYRAMID_FLOW,
                        "tooltip": "Whose noise levels these are. Models that you train here are Pyramid Flow. Helios "
                        "shifts its levels by the size of the video, so 'shift' stays at 1.",
                    },
                ),
                "solver": (
                    ["euler", "unipc", "dmd"],
                    {
                        "default": "euler",
                        "tooltip": "How a stage is walked. euler is for Pyramid Flow; unipc is what Helios Base and "
                        "Mid were released with, and comes no nearer on a Pyramid Flow; dmd is for distilled models, "
                        "Helios Distilled.",
                    },
                ),
            },
        }

    def build(
        self,
        first_steps: int,
        video_steps: int,
        stage_count: int = 3,
        shift: float = 1.0,
        gamma: float = 1 / 3,
        made_for: str = PYRAMID_FLOW,
        solver: str = "euler",
    ):
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


class StageSteps:
    CATEGORY = "pyramid video/schedule"
    DESCRIPTION = "Gives one stage of a ladder its own number of steps. Chain several for several stages."
    SEARCH_ALIASES = ["steps per stage", "pyramid flow steps", "per stage", "scheduler"]
    RETURN_TYPES = ("PYRAMID_STAGES", "IMAGE")
    RETURN_NAMES = ("stages", "drawing")
    OUTPUT_TOOLTIPS = ("The ladder with the changed stage.", "The new ladder as a picture.")
    FUNCTION = "change"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "stages": ("PYRAMID_STAGES", {"tooltip": "From 'Pyramid stages'."}),
                "stage": (
                    "INT",
                    {
                        "default": 0,
                        "min": 0,
                        "max": 5,
                        "tooltip": "Which stage: 0 is the coarsest (layout, and cheap), "
                        "the last is full size (detail, and most of the time).",
                    },
                ),
                "first_steps": ("INT", {"default": 20, **FIRST_STEPS}),
                "video_steps": ("INT", {"default": 10, **VIDEO_STEPS}),
            }
        }

    def change(self, stages: PyramidStages, stage: int, first_steps: int, video_steps: int):
        count = len(stages.stages)
        if not 0 <= stage < count:
            raise ValueError(f"there is no stage {stage}: this ladder has the stages 0 to {count - 1}")
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
    """Answer with the ladder and its drawing; the page puts the same on the block by itself, before any run."""
    return stages, as_image(draw_ladder(stages))


NODES = {
    "PyramidVideoStages": Stages,
    "PyramidVideoStageSteps": StageSteps,
}
NAMES = {
    "PyramidVideoStages": "Pyramid stages",
    "PyramidVideoStageSteps": "Steps of one stage",
}
