"""Blocks that plan the climb: the ladder of resolutions, its steps, and how strongly the prompt pulls."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from .drawing import as_image, on_node
from .ladder import draw_ladder

if TYPE_CHECKING:
    from ..samplers.guidance import PyramidGuidance
    from ..samplers.stages import PyramidStages

FIRST_STEPS = {
    "min": 1,
    "max": 200,
    "tooltip": "Steps per stage for the first frame, on which all others build. "
    "1 is a rough sketch; 20 is the official choice; far above it little changes.",
}
VIDEO_STEPS = {
    "min": 1,
    "max": 200,
    "tooltip": "Steps per stage for everything after the first frame, where most of the time goes. "
    "1 smears motion; 10 is the official choice; twice as many take twice as long. "
    "With a start image only these count.",
}


class Stages:
    CATEGORY = "pyramid video/schedule"
    DESCRIPTION = (
        "The ladder: how many resolutions to climb through, and how many steps to spend on each. "
        "The second output is a drawing of it."
    )
    SEARCH_ALIASES = ["scheduler", "steps", "pyramid flow stages", "sigmas", "basic scheduler"]
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
                        "max": 6,
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
            },
        }

    def build(self, first_steps: int, video_steps: int, stage_count: int = 3, shift: float = 1.0, gamma: float = 1 / 3):
        from ..samplers.stages import make_stages

        return show(
            make_stages(stage_count, shift, exact_third(gamma), first_steps=first_steps, video_steps=video_steps)
        )


class StageSteps:
    CATEGORY = "pyramid video/schedule"
    DESCRIPTION = "Gives one stage of a ladder its own number of steps. Chain several for several stages."
    SEARCH_ALIASES = ["steps per stage", "pyramid flow steps"]
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


class Guidance:
    CATEGORY = "pyramid video/schedule"
    DESCRIPTION = "How strongly the prompt pulls: once for the first frame, once for the motion that follows."
    SEARCH_ALIASES = ["cfg", "classifier-free guidance", "guidance scale"]
    RETURN_TYPES = ("PYRAMID_GUIDANCE",)
    RETURN_NAMES = ("guidance",)
    OUTPUT_TOOLTIPS = ("For the sampler or the guider.",)
    FUNCTION = "build"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "first_frame_scale": (
                    "FLOAT",
                    {
                        "default": 7.0,
                        "min": 0.0,
                        "max": 30.0,
                        "step": 0.1,
                        "tooltip": "Pull on the first frame. 0 turns guidance off for the whole clip (twice as fast); "
                        "7 to 9 is official; high values burn colours.",
                    },
                ),
                "video_scale": (
                    "FLOAT",
                    {
                        "default": 5.0,
                        "min": 0.0,
                        "max": 30.0,
                        "step": 0.1,
                        "tooltip": "Pull on all later frames. 0 follows the negative prompt alone, 1 the prompt alone; "
                        "low moves freely and may wander off; 5 is official (4 from a start image); high is stiff "
                        "and flickers.",
                    },
                ),
            },
            "optional": {
                "linear": (
                    "BOOLEAN",
                    {
                        "default": False,
                        "tooltip": "Off: the two strengths above. On: start at first_frame_scale and drop a little "
                        "with each latent frame; video_scale is then not read.",
                    },
                ),
                "linear_drop": (
                    "FLOAT",
                    {
                        "default": 0.5,
                        "min": 0.0,
                        "max": 5.0,
                        "step": 0.05,
                        "tooltip": "With linear on: the drop per latent frame. 0 keeps the strength, 5 is at the "
                        "minimum after a frame or two.",
                    },
                ),
                "linear_minimum": (
                    "FLOAT",
                    {
                        "default": 2.0,
                        "min": 0.0,
                        "max": 30.0,
                        "step": 0.1,
                        "tooltip": "With linear on: the drop ends here. 0 lets the end of a long clip follow the "
                        "negative prompt alone, low frees it, as high as first_frame_scale means no drop.",
                    },
                ),
            },
        }

    def build(
        self,
        first_frame_scale: float,
        video_scale: float,
        linear: bool = False,
        linear_drop: float = 0.5,
        linear_minimum: float = 2.0,
    ):
        from ..samplers.guidance import PyramidGuidance

        return (PyramidGuidance(first_frame_scale, video_scale, linear, linear_drop, linear_minimum),)


class GuidanceZero:
    CATEGORY = "pyramid video/schedule"
    DESCRIPTION = (
        "CFG-Zero*: guidance that corrects the length of the negative answer, and lets the first steps of each frame "
        "rest. It helps where guidance burns colours or the first steps go astray."
    )
    SEARCH_ALIASES = ["cfg zero star", "cfgzerostar", "zero init", "guidance"]
    RETURN_TYPES = ("PYRAMID_GUIDANCE",)
    RETURN_NAMES = ("guidance",)
    OUTPUT_TOOLTIPS = ("The same strengths, combined in another way.",)
    FUNCTION = "build"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "guidance": ("PYRAMID_GUIDANCE", {"tooltip": "From 'Pyramid guidance': its strengths are kept."}),
                "zero_steps": (
                    "INT",
                    {
                        "default": 1,
                        "min": 0,
                        "max": 100,
                        "tooltip": "Steps at the start of each frame that stand still. 0 only corrects the length; 1 "
                        "or 2 of 20 are usual; as many as there are steps leaves the first stage at pure noise.",
                    },
                ),
            }
        }

    def build(self, guidance: PyramidGuidance, zero_steps: int):
        return (replace(guidance, zero_star=True, zero_steps=zero_steps),)


def exact_third(gamma: float) -> float:
    """A widget cannot hold one third; what is meant as one third is one third."""
    return 1 / 3 if abs(gamma - 1 / 3) < 1e-3 else gamma


def with_item(items: tuple[int, ...], index: int, value: int) -> tuple[int, ...]:
    return (*items[:index], value, *items[index + 1 :])


def show(stages: PyramidStages):
    """Answer with the ladder and its drawing, and put the drawing on the node."""
    drawing = draw_ladder(stages)
    return {"ui": on_node(drawing, name="ladder"), "result": (stages, as_image(drawing))}


NODES = {
    "PyramidVideoStages": Stages,
    "PyramidVideoStageSteps": StageSteps,
    "PyramidVideoGuidance": Guidance,
    "PyramidVideoGuidanceZero": GuidanceZero,
}
NAMES = {
    "PyramidVideoStages": "Pyramid stages",
    "PyramidVideoStageSteps": "Steps of one stage",
    "PyramidVideoGuidance": "Pyramid guidance",
    "PyramidVideoGuidanceZero": "CFG-Zero* guidance",
}
