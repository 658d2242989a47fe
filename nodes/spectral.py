"""Blocks that bring the pyramid to any model: its stages, a SAMPLER for core blocks, and the whole as one block."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ..host import get_host
from .choices import SEED
from .drawing import as_image, on_node
from .notices import tell
from .spectral_drawing import draw_plan, draw_scales

if TYPE_CHECKING:
    from ..samplers.spectral import Size
    from ..samplers.spectral_stages import SpectralStages
    from ..samplers.spectrum import Spectrum

OWN = "own scales"
SCALES = {"1/2": (0.5, 1.0), "2/3": (2 / 3, 1.0), "1/4 + 1/2": (0.25, 0.5, 1.0)}
MODEL = ("MODEL", {"tooltip": "Any model that the plain sampler runs, with its LoRAs and patches."})
POSITIVE = ("CONDITIONING", {"tooltip": "What to show, as the plain sampler takes it: start images and controls too."})
NEGATIVE = ("CONDITIONING", {"tooltip": "What to steer away from, as the plain sampler takes it."})
STAGES = (
    "SPECTRAL_STAGES",
    {"tooltip": "From 'Pyramid stages (any model)'. Left open: half size first, careful, for models of known latents."},
)
STEPS = (
    "INT",
    {
        "default": 20,
        "min": 1,
        "max": 1000,
        "tooltip": "Steps in all, as without a pyramid; the first of them are small and cheap. With few steps the "
        "picture grows early or not at all; with many more of them are cheap.",
    },
)
CFG = (
    "FLOAT",
    {
        "default": 5.0,
        "min": 0.0,
        "max": 100.0,
        "step": 0.1,
        "tooltip": "How strongly the prompt pulls, as in the plain sampler. 1 is the prompt alone and twice as fast; "
        "high values burn colours.",
    },
)


def sampler_name() -> tuple:
    return (
        list(get_host().sampler_names),
        {"default": "euler", "tooltip": "The solver inside each stage. Solvers with a memory begin anew after a jump."},
    )


def scheduler() -> tuple:
    return (
        list(get_host().scheduler_names),
        {"default": "simple", "tooltip": "Where the noise levels sit, as in the plain sampler."},
    )


def size_of_latent(latent: dict[str, Any]) -> Size:
    """Rows and columns of a LATENT's picture."""
    samples = get_host().any_model.picture(latent)
    if samples.ndim not in (4, 5):
        raise ValueError(f"this latent has the shape {tuple(samples.shape)}, which is no picture or video")
    return samples.shape[-2], samples.shape[-1]


def stages_or_usual(stages: SpectralStages | None) -> SpectralStages:
    from ..samplers.spectral_stages import SpectralStages

    return SpectralStages() if stages is None else stages


def notice_of(stages: SpectralStages, model: Any, latent: dict[str, Any], sigmas: Any) -> list[str]:
    """What a run will do with the stages, as sentences for the node."""
    from ..samplers.spectral_stages import left_out, work_share

    info, size = get_host().any_model.info(model), size_of_latent(latent)
    segments = stages.plan(size, info.patch, [float(sigma) for sigma in sigmas], info.scaling, info.latents)
    steps = " + ".join(f"{s.steps} at {s.size[1]}x{s.size[0]}" for s in segments)
    said = [
        f"Steps by latent size: {steps}; {100 * work_share(segments, size):.0f} % of the work of attention is left."
    ]
    return [*said, *filter(None, [left_out(stages, segments)])]


class AnyStages:
    CATEGORY = "pyramid video/schedule"
    DESCRIPTION = (
        "Draft small, jump, finish: the first steps of any model on a small picture, because noise hides fine detail "
        "until late. No training. With model, latent and sigmas wired it draws the climb and the work that is left."
    )
    SEARCH_ALIASES = [
        "spectral progressive diffusion",
        "speed up",
        "faster wan",
        "progressive resolution",
        "coarse to fine",
        "multi resolution",
        "low resolution first",
        "hires fix",
    ]
    RETURN_TYPES = ("SPECTRAL_STAGES", "IMAGE")
    RETURN_NAMES = ("stages", "drawing")
    OUTPUT_TOOLTIPS = ("For the samplers and drafts of any model.", "The climb as a picture.")
    FUNCTION = "build"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "scales": (
                    [*SCALES, OWN],
                    {
                        "default": "1/2",
                        "tooltip": "How small the first steps are. 1/2 is usual; 2/3 is gentle and saves less; 1/4 + "
                        "1/2 climbs in three stages, for large pictures.",
                    },
                ),
                "care": (
                    "FLOAT",
                    {
                        "default": 0.01,
                        "min": 0.001,
                        "max": 0.2,
                        "step": 0.001,
                        "round": False,
                        "tooltip": "How much detail may be lost where the picture grows (delta). 0.01 is careful and "
                        "grows early; 0.05 is fast and grows late, with fine texture a little softer.",
                    },
                ),
            },
            "optional": {
                "own_scales": (
                    "STRING",
                    {
                        "default": "0.5, 1",
                        "tooltip": "With 'own scales': parts of the full size that rise to 1, such as 0.4, 0.7, 1.",
                    },
                ),
                "levels": (
                    "STRING",
                    {
                        "default": "",
                        "tooltip": "Shares of noise (1 to 0) at which each size but the full one ends, such as 0.85. "
                        "Empty: from the spectrum and 'care'. High grows early and saves little; low blurs.",
                    },
                ),
                "spectrum": (
                    "PYRAMID_SPECTRUM",
                    {"tooltip": "From 'Fit spectrum'. Left open: what is known of Wan 2.1 and FLUX latents."},
                ),
                "model": ("MODEL", {"tooltip": "Only to draw: the model that will be sampled."}),
                "latent_image": ("LATENT", {"tooltip": "Only to draw: the size that will be sampled."}),
                "sigmas": ("SIGMAS", {"tooltip": "Only to draw: the schedule, such as from BasicScheduler."}),
            },
        }

    def build(
        self,
        scales: str,
        care: float,
        own_scales: str = "0.5, 1",
        levels: str = "",
        spectrum: Spectrum | None = None,
        model: Any = None,
        latent_image: dict[str, Any] | None = None,
        sigmas: Any = None,
    ):
        from ..samplers.spectral_stages import SpectralStages

        sizes = numbers(own_scales, "own_scales") if scales == OWN else SCALES[scales]
        stages = SpectralStages(sizes, care, spectrum, numbers(levels, "levels"))
        if model is None or latent_image is None or sigmas is None:
            drawing, ui = draw_scales(stages), {}
        else:
            info, size = get_host().any_model.info(model), size_of_latent(latent_image)
            plan = stages.plan(size, info.patch, [float(s) for s in sigmas], info.scaling, info.latents)
            drawing, ui = draw_plan(stages, plan, size, info), tell(*notice_of(stages, model, latent_image, sigmas))
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


class AnySamplerObject:
    CATEGORY = "pyramid video/sample"
    DESCRIPTION = (
        "The pyramid as a SAMPLER around any core SAMPLER, for SamplerCustomAdvanced and SamplerCustom. With two "
        "samplers and split sigmas, as for Wan 2.2, wire it into both."
    )
    SEARCH_ALIASES = ["spectral sampler", "sampler custom advanced", "ksampler select", "faster wan", "wan 2.2"]
    RETURN_TYPES = ("SAMPLER",)
    OUTPUT_TOOLTIPS = ("For the sampler input of core blocks; noise, guider and sigmas stay as they are.",)
    FUNCTION = "make"

    @classmethod
    def INPUT_TYPES(cls):
        sampler = ("SAMPLER", {"tooltip": "The solver inside each stage, such as from KSamplerSelect."})
        return {"required": {"sampler": sampler}, "optional": {"stages": STAGES}}

    def make(self, sampler: Any, stages: SpectralStages | None = None):
        return (get_host().any_model.make_sampler(stages_or_usual(stages), sampler),)


class AnySampler:
    CATEGORY = "pyramid video/sample"
    DESCRIPTION = (
        "KSampler with a pyramid: the first steps on a small picture, the rest at full size. The same model, prompts "
        "and seed, less than half the time for large videos."
    )
    SEARCH_ALIASES = ["ksampler", "spectral", "faster wan", "speed up", "text to video", "image to video", "generate"]
    RETURN_TYPES = ("LATENT",)
    OUTPUT_TOOLTIPS = ("The finished latent, at full size.",)
    FUNCTION = "sample"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": MODEL,
                "seed": SEED,
                "steps": STEPS,
                "cfg": CFG,
                "sampler_name": sampler_name(),
                "scheduler": scheduler(),
                "positive": POSITIVE,
                "negative": NEGATIVE,
                "latent_image": ("LATENT", {"tooltip": "Empty, for a new picture or video, or one to change."}),
                "denoise": (
                    "FLOAT",
                    {
                        "default": 1.0,
                        "min": 0.01,
                        "max": 1.0,
                        "step": 0.01,
                        "tooltip": "1 begins at noise. Less begins inside, from the picture in latent_image; sizes "
                        "that would be done by then are left out.",
                    },
                ),
            },
            "optional": {"stages": STAGES},
        }

    def sample(
        self,
        model: Any,
        seed: int,
        steps: int,
        cfg: float,
        sampler_name: str,
        scheduler: str,
        positive: list,
        negative: list,
        latent_image: dict[str, Any],
        denoise: float = 1.0,
        stages: SpectralStages | None = None,
    ):
        stages, host = stages_or_usual(stages), get_host().any_model
        sigmas = host.sigmas(model, steps, scheduler, denoise)
        notice = tell(*notice_of(stages, model, latent_image, sigmas))
        made = host.sample(model, (positive, negative, cfg), sampler_name, stages, sigmas, latent_image, seed)
        return {"ui": notice, "result": (made,)}


NODES = {
    "PyramidVideoAnyStages": AnyStages,
    "PyramidVideoAnySamplerObject": AnySamplerObject,
    "PyramidVideoAnySampler": AnySampler,
}
NAMES = {
    "PyramidVideoAnyStages": "Pyramid stages (any model)",
    "PyramidVideoAnySamplerObject": "Pyramid sampler (any model)",
    "PyramidVideoAnySampler": "Sample with a pyramid",
}
