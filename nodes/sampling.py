"""Blocks that make the latent video: the pyramid sampler whole, and its parts for SamplerCustomAdvanced."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..host import get_host
from ..host.checks import check_family, check_latent
from .block import Block, Output, Wire
from .compatibility import (
    check_latent_fits_stages,
    check_start_fits,
    check_texts_fit_model,
    stages_and_history,
)
from .messages import show_message
from .sampling_notes import sampling_notes, with_clip
from .shared_inputs import FINISHED, LATENT, NEGATIVE, POSITIVE, SEED

if TYPE_CHECKING:
    from ..samplers.guidance import PyramidGuidance
    from ..samplers.history import History
    from ..samplers.stages import PyramidStages

MODEL = Wire("model", "MODEL").tip("From 'Load video model', with or without LoRAs.")
STAGES = Wire("stages", "PYRAMID_STAGES").tip(
    "From 'Pyramid stages'. Not connected: what the model was released with; for Pyramid Flow 3 stages of 20 steps, "
    "then 10."
)
HISTORY = Wire("history", "PYRAMID_HISTORY").tip(
    "From 'Temporal conditioning', or the one for Helios. Not connected: the whole past, no start image."
)
GUIDANCE = Wire("guidance", "PYRAMID_GUIDANCE").tip(
    "From 'Pyramid guidance'. Not connected: what the model was released with; for Pyramid Flow 7 for the first "
    "frame, then 5."
)


def guider_for(model, positive: list, negative: list | None, guidance: PyramidGuidance | None):
    """The host's GUIDER, once model and texts are known to fit."""
    from ..samplers.presets import PRESETS

    host = get_host()
    info = host.model_info(model)
    check_family(info, "pyramid")
    check_texts_fit_model(info, positive, negative)
    return host.make_guider(model, positive, negative, guidance or PRESETS[info.family.variant].guidance)


class SamplePyramid(Block):
    ID, NAME = "PyramidVideoSampler", "Sample pyramid"
    CATEGORY = "pyramid video/sample"
    DESCRIPTION = "Makes the video part by part, each from coarse to fine. Each part sees the finished ones before it."
    ALIASES = (
        "ksampler, pyramid flow sampler, pyramidflow sampler, text to video, t2v, image to video, i2v, generate, "
        "autoregressive, 文生视频, 图生视频, テキストから動画, 画像から動画"
    )
    REQUIRED = (MODEL, POSITIVE, LATENT, SEED)
    OPTIONAL = (NEGATIVE, STAGES, GUIDANCE, HISTORY)
    OUTPUTS = (FINISHED,)
    FUNCTION = "sample"

    def sample(
        self,
        model,
        positive,
        latent_image,
        seed,
        negative,
        stages: PyramidStages | None,
        guidance: PyramidGuidance | None,
        history: History | None,
    ):
        host = get_host()
        info = host.model_info(model)
        check_latent(info, latent_image["samples"])
        stages, history = stages_and_history(info, stages, history)
        check_latent_fits_stages(latent_image, stages)
        check_start_fits(latent_image, history)
        guider = guider_for(model, positive, negative, guidance)
        notes = sampling_notes(info, latent_image, positive, stages)
        ui = show_message(*notes) if notes else {}
        return with_clip(host.sample(guider, host.make_sampler(stages, history), latent_image, seed), ui)


class PyramidSamplerPart(Block):
    ID, NAME = "PyramidVideoSamplerObject", "Pyramid sampler (part)"
    CATEGORY = "pyramid video/sample"
    DESCRIPTION = (
        "The pyramid as a SAMPLER for SamplerCustomAdvanced or SamplerCustom. It makes its own noise levels and "
        "ignores the SIGMAS that are connected there."
    )
    ALIASES = "sampler custom advanced, sampler custom, pyramid flow sampler, ksampler select, sampler object"
    OPTIONAL = (STAGES, HISTORY)
    OUTPUTS = (Output("SAMPLER", "For the sampler input of SamplerCustomAdvanced."),)
    FUNCTION = "make"

    def make(self, stages: PyramidStages | None, history: History | None):
        return (get_host().make_sampler(stages, history),)


class PyramidGuiderPart(Block):
    ID, NAME = "PyramidVideoGuider", "Pyramid guider (part)"
    CATEGORY = "pyramid video/sample"
    DESCRIPTION = (
        "Pyramid guidance as a GUIDER for SamplerCustomAdvanced: one strength for the first frame, one for the rest."
    )
    ALIASES = "cfg guider, basic guider, sampler custom advanced, pyramid flow guidance"
    REQUIRED = (MODEL, POSITIVE)
    OPTIONAL = (NEGATIVE, GUIDANCE)
    OUTPUTS = (Output("GUIDER", "For the guider input of SamplerCustomAdvanced."),)
    FUNCTION = "make"

    def make(self, model, positive, negative, guidance: PyramidGuidance | None):
        return (guider_for(model, positive, negative, guidance),)


BLOCKS = (SamplePyramid, PyramidSamplerPart, PyramidGuiderPart)
