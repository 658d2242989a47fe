"""Blocks that say how strongly the prompt pulls."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..samplers.guidance import PyramidGuidance


class Guidance:
    CATEGORY = "pyramid video/schedule"
    DESCRIPTION = "How strongly the prompt pulls: once for the first frame, once for the motion that follows."
    SEARCH_ALIASES = [
        "cfg",
        "classifier-free guidance",
        "guidance scale",
        "prompt strength",
        "video linear cfg",
        "first frame",
        "引导",
        "ガイダンス",
    ]
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
    SEARCH_ALIASES = [
        "cfg zero star",
        "cfgzerostar",
        "zero init",
        "guidance",
        "burned colors",
        "oversaturated",
        "cfg rescale",
    ]
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


NODES = {
    "PyramidVideoGuidance": Guidance,
    "PyramidVideoGuidanceZero": GuidanceZero,
}
NAMES = {
    "PyramidVideoGuidance": "Pyramid guidance",
    "PyramidVideoGuidanceZero": "CFG-Zero* guidance",
}
