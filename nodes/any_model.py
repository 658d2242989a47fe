"""Blocks that bring the pyramid to any model: its stages, a SAMPLER for core blocks, and the whole as one block."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..drawings.any_model import draw_plan, draw_scales
from ..drawings.pen import as_image, on_node
from ..host import get_host
from .any_model_inputs import CARE, KSAMPLER, SCHEDULER, SPECTRUM, STAGES, STEPS, size_of_latent, stages_or_default
from .block import Block, Choice, Float, Output, Text, Wire
from .messages import show_message, with_message

if TYPE_CHECKING:
    from ..samplers.spectral import PictureInfo, Segment, Size
    from ..samplers.spectral_stages import SpectralStages
    from ..samplers.spectrum import Spectrum

OWN = "own scales"
SCALES = {"1/2": (0.5, 1.0), "2/3": (2 / 3, 1.0), "1/4 + 1/2": (0.25, 0.5, 1.0)}


def planned(stages: SpectralStages, info: PictureInfo, size: Size, sigmas: Any) -> list[Segment]:
    """The parts of the schedule, each at its size."""
    return stages.plan(size, info.patch, [float(sigma) for sigma in sigmas], info.scaling, info.latents)


def run_summary(stages: SpectralStages, segments: Sequence[Segment], size: Size) -> list[str]:
    """What a run will do with the stages, as sentences for the node."""
    from ..samplers.spectral_stages import left_out, work_share

    steps = " + ".join(f"{s.steps} at {s.size[1]}x{s.size[0]}" for s in segments)
    work = f"Steps by latent size: {steps}; {100 * work_share(segments, size):.0f} % of the work of attention is left."
    return [work, *filter(None, [left_out(stages, segments)])]


class AnyStages(Block):
    ID, NAME = "PyramidVideoAnyStages", "Pyramid stages (any model)"
    CATEGORY = "pyramid video/schedule"
    DESCRIPTION = (
        "Runs the first steps of any model on a small picture, because noise hides fine detail until late. No "
        "training is needed. Connect model and latent to draw the stages and the work that is left."
    )
    ALIASES = (
        "spectral progressive diffusion, speed up, faster wan, progressive resolution, coarse to fine, multi "
        "resolution, low resolution first, hires fix"
    )
    REQUIRED = (
        Choice("scales", [*SCALES, OWN], "1/2").tip(
            "How small the first steps are. 1/2 is usual; 2/3 is gentle and saves less; 1/4 + 1/2 has three stages, "
            "for large pictures."
        ),
        CARE.tip(
            "How much detail may be lost where the picture grows (delta). 0.01 is careful and grows early; 0.05 is "
            "fast and grows late, and fine texture is a little softer."
        ),
    )
    OPTIONAL = (
        Text("own_scales", "0.5, 1").tip(
            "With 'own scales': parts of the full size, rising to 1, such as 0.4, 0.7, 1."
        ),
        Text("levels").tip(
            "The shares of noise (1 to 0) at which each size except the full one ends, such as 0.85. Empty: computed "
            "from the spectrum and 'care'. High values grow early and save little; low values blur."
        ),
        SPECTRUM,
        Wire("model", "MODEL").tip("Only for the drawing: the model that will be sampled."),
        Wire("latent_image", "LATENT").tip("Only for the drawing: the size that will be sampled."),
        Wire("sigmas", "SIGMAS").tip(
            "Only for the drawing: the schedule, for example from BasicScheduler. Not connected: the plain sampler's "
            "20 steps of 'simple'."
        ),
    )
    OUTPUTS = (
        Output("SPECTRAL_STAGES", "For the samplers and drafts of any model.", "stages"),
        Output("IMAGE", "A drawing of the stages.", "drawing"),
    )
    FUNCTION = "build"

    def build(self, scales, care, own_scales, levels, spectrum: Spectrum | None, model, latent_image, sigmas):
        from ..samplers.spectral_stages import SpectralStages

        sizes = numbers(own_scales, "own_scales") if scales == OWN else SCALES[scales]
        stages = SpectralStages(sizes, care, spectrum, numbers(levels, "levels"))
        if model is None or latent_image is None:
            drawing, ui = draw_scales(stages), {}
        else:
            host = get_host().any_model
            size = size_of_latent(host.fitted(model, latent_image))
            drawn_for = []
            if sigmas is None:
                steps, scheduler = STEPS.options["default"], SCHEDULER.options["default"]
                sigmas = host.sigmas(model, steps, scheduler)
                drawn_for = [f"Drawn for {steps} steps of {scheduler!r}; connect sigmas to draw another schedule."]
            info = host.info(model)
            plan = planned(stages, info, size, sigmas)
            drawing = draw_plan(stages, plan, size, info)
            ui = show_message(*run_summary(stages, plan, size), *drawn_for)
        return {"ui": {**ui, **on_node(drawing, name="stages")}, "result": (stages, as_image(drawing))}


def numbers(text: str, name: str) -> tuple[float, ...]:
    """Numbers typed with commas or spaces between; fractions such as 1/2 too."""
    found = []
    for word in text.replace(",", " ").replace(";", " ").split():
        over, _, under = word.partition("/")
        try:
            value = float(over) / float(under or 1)
        except (ValueError, ZeroDivisionError):
            value = math.nan
        if not math.isfinite(value):
            raise ValueError(f"input {name!r} holds {word!r}; expected numbers such as 0.5, 1")
        found.append(value)
    return tuple(found)


class AnySamplerObject(Block):
    ID, NAME = "PyramidVideoAnySamplerObject", "Pyramid sampler (any model)"
    CATEGORY = "pyramid video/sample"
    DESCRIPTION = (
        "The pyramid as a SAMPLER around any core SAMPLER, for SamplerCustomAdvanced and SamplerCustom. With two "
        "samplers and split sigmas, as for Wan 2.2, connect it to both."
    )
    ALIASES = "spectral sampler, sampler custom advanced, ksampler select, faster wan, wan 2.2"
    REQUIRED = (Wire("sampler", "SAMPLER").tip("The solver inside each stage, for example from KSamplerSelect."),)
    OPTIONAL = (STAGES,)
    OUTPUTS = (Output("SAMPLER", "For the sampler input of core blocks; noise, guider and sigmas stay as they are."),)
    FUNCTION = "make"

    def make(self, sampler, stages: SpectralStages | None):
        return (get_host().any_model.make_sampler(stages_or_default(stages), sampler),)


class AnySampler(Block):
    ID, NAME = "PyramidVideoAnySampler", "Sample with a pyramid"
    CATEGORY = "pyramid video/sample"
    DESCRIPTION = (
        "KSampler with a pyramid: the first steps run on a small picture, the rest at full size. The same model, "
        "prompts and seed take less than half the time for large videos."
    )
    ALIASES = "ksampler, spectral, faster wan, speed up, text to video, image to video, generate"
    REQUIRED = (
        *KSAMPLER,
        Wire("latent_image", "LATENT").tip("An empty latent for something new, or a picture or video to change."),
        Float("denoise", 1.0, 0.01, 1.0, 0.01).tip(
            "1 starts from noise. Less starts from the picture in latent_image; sizes that would be done by then are "
            "left out."
        ),
    )
    OPTIONAL = (STAGES,)
    OUTPUTS = (Output("LATENT", "The finished latent, at full size."),)
    FUNCTION = "sample"

    def sample(
        self, model, seed, steps, cfg, sampler_name, scheduler, positive, negative, latent_image, denoise, stages
    ):
        stages, host = stages_or_default(stages), get_host().any_model
        sigmas = host.sigmas(model, steps, scheduler, denoise).unique_consecutive()  # some repeat levels
        latent_image = host.fitted(model, latent_image)
        size = size_of_latent(latent_image)
        summary = run_summary(stages, planned(stages, host.info(model), size, sigmas), size)
        made = host.sample(model, (positive, negative, cfg), sampler_name, stages, sigmas, latent_image, seed)
        return with_message(made, summary)


BLOCKS = (AnyStages, AnySamplerObject, AnySampler)
