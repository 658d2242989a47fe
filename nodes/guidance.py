"""Blocks for how strongly the prompt is followed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..samplers.names import MOST_STAGES
from .block import Block, Bool, Float, Int, Output, Wire

if TYPE_CHECKING:
    from ..samplers.guidance import PyramidGuidance


class Guidance(Block):
    ID, NAME = "PyramidVideoGuidance", "Pyramid guidance"
    CATEGORY = "pyramid video/schedule"
    DESCRIPTION = "How strongly the prompt is followed: one strength for the first frame, one for the motion after it."
    ALIASES = (
        "cfg, classifier-free guidance, guidance scale, prompt strength, video linear cfg, first frame, "
        "引导, ガイダンス"
    )
    REQUIRED = (
        Float("first_frame_scale", 7.0, 0.0, 30.0, 0.1).tip(
            "Strength for the first frame. 0 turns guidance off for the whole clip (twice as fast); 7 to 9 is "
            "official; high values burn colours."
        ),
        Float("video_scale", 5.0, 0.0, 30.0, 0.1).tip(
            "Strength for all later frames. 0 follows the negative prompt alone, 1 the prompt alone; low values move "
            "freely and may drift; 5 is official (4 with a start image); high values are stiff and flicker."
        ),
    )
    OPTIONAL = (
        Bool("linear", False).tip(
            "Off: the two strengths above are used. On: the strength starts at first_frame_scale and drops a little "
            "with each latent frame; video_scale is ignored."
        ),
        Float("linear_drop", 0.5, 0.0, 5.0, 0.05).tip(
            "With linear on: how much the strength drops per latent frame. 0 keeps the strength; 5 reaches the "
            "minimum after a frame or two."
        ),
        Float("linear_minimum", 2.0, 0.0, 30.0, 0.1).tip(
            "With linear on: where the drop ends. 0 lets the end of a long clip follow the negative prompt alone; "
            "low values give it freedom; a value as high as first_frame_scale means no drop."
        ),
        Int("guided_stages", 0, 0, MOST_STAGES).tip(
            "How many stages are guided, the coarsest first, which decide what the clip shows. The finer ones follow "
            "the prompt alone, with one model call in place of two. 0 guides all stages, which is official."
        ),
        Float("coarse_guidance", 1.0, 0.0, 1.0, 0.05).tip(
            "How much of the guidance acts in a stage on what a coarser stage has drawn already. 1, all of it, is "
            "official; 0 guides only the detail that each stage adds, so backgrounds keep their colour over the clip."
        ),
    )
    OUTPUTS = (Output("PYRAMID_GUIDANCE", "For the sampler or the guider.", "guidance"),)
    FUNCTION = "build"

    def build(
        self, first_frame_scale, video_scale, linear, linear_drop, linear_minimum, guided_stages, coarse_guidance
    ):
        from ..samplers.guidance import PyramidGuidance

        strengths = first_frame_scale, video_scale, linear, linear_drop, linear_minimum
        return (PyramidGuidance(*strengths, stages=guided_stages, coarse=coarse_guidance),)


class GuidanceZero(Block):
    ID, NAME = "PyramidVideoGuidanceZero", "CFG-Zero* guidance"
    CATEGORY = "pyramid video/schedule"
    DESCRIPTION = (
        "CFG-Zero*: guidance that rescales the negative prediction and skips the first steps of each frame. It helps "
        "where guidance burns colours or the first steps go wrong."
    )
    ALIASES = "cfg zero star, cfgzerostar, zero init, guidance, burned colors, oversaturated, cfg rescale"
    REQUIRED = (
        Wire("guidance", "PYRAMID_GUIDANCE").tip("From 'Pyramid guidance'; its strengths are kept."),
        Int("zero_steps", 1, 0, 100).tip(
            "How many steps at the start of each frame are skipped. 0 only rescales; 1 or 2 of 20 are usual, 0 or 1 of "
            "4; as many as there are steps leaves the first stage at pure noise."
        ),
    )
    OUTPUTS = (Output("PYRAMID_GUIDANCE", "The same strengths, combined in another way.", "guidance"),)
    FUNCTION = "build"

    def build(self, guidance: PyramidGuidance, zero_steps):
        return (replace(guidance, zero_star=True, zero_steps=zero_steps),)


BLOCKS = (Guidance, GuidanceZero)
