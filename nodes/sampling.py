"""Blocks that make the latent video: the pyramid sampler whole, and its parts for SamplerCustomAdvanced."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..host import get_host
from .choices import LATENT, NEGATIVE, POSITIVE, SEED
from .doubts import say_doubts, with_notes
from .fitting import (
    check_family,
    check_latent_fits_model,
    check_latent_fits_stages,
    check_start_fits,
    check_text_fits_model,
    complete_plan,
)

if TYPE_CHECKING:
    from ..samplers.guidance import PyramidGuidance
    from ..samplers.history import History
    from ..samplers.stages import PyramidStages

STAGES = (
    "PYRAMID_STAGES",
    {
        "tooltip": "From 'Pyramid stages'. Left open: what the model was released with, for Pyramid Flow 3 stages of "
        "20 steps, then 10."
    },
)
HISTORY = (
    "PYRAMID_HISTORY",
    {"tooltip": "From 'Temporal conditioning', or the one for Helios. Left open: all of the past, no start image."},
)
GUIDANCE = (
    "PYRAMID_GUIDANCE",
    {
        "tooltip": "From 'Pyramid guidance'. Left open: what the model was released with, for Pyramid Flow 7 for the "
        "first frame, then 5."
    },
)
MODEL = ("MODEL", {"tooltip": "From 'Load video model', with or without LoRAs."})


def guider_for(model, positive: list, negative: list | None, guidance: PyramidGuidance | None):
    """The host's GUIDER, once model and texts are known to fit."""
    from ..samplers.presets import PRESETS

    host = get_host()
    info = host.model_info(model)
    check_family(info, "pyramid")
    check_text_fits_model(info, positive, "positive")
    if negative is not None:
        check_text_fits_model(info, negative, "negative")
    return host.make_guider(model, positive, negative, guidance or PRESETS[info.family.variant].guidance)


class Sampler:
    CATEGORY = "pyramid video/sample"
    DESCRIPTION = (
        "Makes the video, one piece of time after the other, each from coarse to fine. What is finished "
        "is remembered by what follows."
    )
    SEARCH_ALIASES = [
        "ksampler",
        "pyramid flow sampler",
        "pyramidflow sampler",
        "text to video",
        "t2v",
        "image to video",
        "i2v",
        "generate",
        "autoregressive",
        "文生视频",
        "图生视频",
        "テキストから動画",
        "画像から動画",
    ]
    RETURN_TYPES = ("LATENT",)
    OUTPUT_TOOLTIPS = ("The finished latent video, for 'Decode video' or VAE Decode.",)
    FUNCTION = "sample"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": MODEL,
                "positive": POSITIVE,
                "latent_image": LATENT,
                "seed": SEED,
            },
            "optional": {"negative": NEGATIVE, "stages": STAGES, "guidance": GUIDANCE, "history": HISTORY},
        }

    def sample(
        self,
        model,
        positive: list,
        latent_image: dict[str, Any],
        seed: int,
        negative: list | None = None,
        stages: PyramidStages | None = None,
        guidance: PyramidGuidance | None = None,
        history: History | None = None,
    ):
        host = get_host()
        info = host.model_info(model)
        check_latent_fits_model(info, latent_image)
        stages, history = complete_plan(info, stages, history)
        check_latent_fits_stages(latent_image, stages)
        check_start_fits(latent_image, history)
        guider = guider_for(model, positive, negative, guidance)
        said = say_doubts(info, latent_image, positive, stages)
        return with_notes(host.sample(guider, host.make_sampler(stages, history), latent_image, seed), said)


class SamplerObject:
    CATEGORY = "pyramid video/sample"
    DESCRIPTION = (
        "The pyramid as a SAMPLER for SamplerCustomAdvanced or SamplerCustom. It makes its own noise levels, "
        "so the SIGMAS wired there are not read."
    )
    SEARCH_ALIASES = [
        "sampler custom advanced",
        "sampler custom",
        "pyramid flow sampler",
        "ksampler select",
        "sampler object",
    ]
    RETURN_TYPES = ("SAMPLER",)
    OUTPUT_TOOLTIPS = ("For the sampler input of SamplerCustomAdvanced.",)
    FUNCTION = "make"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}, "optional": {"stages": STAGES, "history": HISTORY}}

    def make(self, stages: PyramidStages | None = None, history: History | None = None):
        return (get_host().make_sampler(stages, history),)


class Guider:
    CATEGORY = "pyramid video/sample"
    DESCRIPTION = (
        "Pyramid guidance as a GUIDER for SamplerCustomAdvanced: one strength for the first frame, one for the rest."
    )
    SEARCH_ALIASES = ["cfg guider", "basic guider", "sampler custom advanced", "pyramid flow guidance"]
    RETURN_TYPES = ("GUIDER",)
    OUTPUT_TOOLTIPS = ("For the guider input of SamplerCustomAdvanced.",)
    FUNCTION = "make"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"model": MODEL, "positive": POSITIVE},
            "optional": {"negative": NEGATIVE, "guidance": GUIDANCE},
        }

    def make(self, model, positive: list, negative: list | None = None, guidance: PyramidGuidance | None = None):
        return (guider_for(model, positive, negative, guidance),)


NODES = {
    "PyramidVideoSampler": Sampler,
    "PyramidVideoSamplerObject": SamplerObject,
    "PyramidVideoGuider": Guider,
}
NAMES = {
    "PyramidVideoSampler": "Sample pyramid",
    "PyramidVideoSamplerObject": "Pyramid sampler (part)",
    "PyramidVideoGuider": "Pyramid guider (part)",
}
