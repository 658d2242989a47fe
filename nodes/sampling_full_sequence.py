"""Blocks that make all frames of a latent video at once: flow matching, DDIM, and the single pass of a GAN."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..host import get_host
from .choices import LATENT, NEGATIVE, POSITIVE, SEED
from .doubts import say_doubts, with_notes
from .fitting import check_family, check_latent_fits_model, check_text_fits_model

if TYPE_CHECKING:
    from ..samplers.full_sequence import FullSequenceSampler

CFG = (
    "FLOAT",
    {
        "default": 3.0,
        "min": 0.0,
        "max": 30.0,
        "step": 0.1,
        "tooltip": "How strongly the prompt pulls. 1 is the prompt alone (twice as fast); 2 to 5 follow it more "
        "closely; high values burn colours. 0 follows the negative prompt. Not read without a negative prompt.",
    },
)


def model_of(family: str) -> tuple[str, dict[str, str]]:
    return ("MODEL", {"tooltip": f"A {family} from 'Load video model', with or without LoRAs."})


def sample(
    model,
    sampler: FullSequenceSampler,
    positive: list,
    negative: list | None,
    cfg: float,
    latent: dict[str, Any],
    seed: int,
) -> tuple | dict[str, Any]:
    """Let the host play `sampler`, once model, texts and latent are known to fit."""
    host = get_host()
    info = host.model_info(model)
    check_family(info, sampler.family)
    check_latent_fits_model(info, latent)
    check_text_fits_model(info, positive, "positive")
    if negative is not None:
        check_text_fits_model(info, negative, "negative")
    said = say_doubts(info, latent, positive)
    return with_notes(host.sample_full_sequence(model, sampler, positive, negative, cfg, latent, seed), said)


class FlowSampler:
    CATEGORY = "pyramid video/sample"
    DESCRIPTION = "Makes the video with a flow matching model: all frames at once, along a path from noise to data."
    SEARCH_ALIASES = [
        "ksampler",
        "rectified flow",
        "flow matching",
        "euler",
        "heun",
        "midpoint",
        "text to video",
        "t2v",
        "generate",
        "文生视频",
        "テキストから動画",
    ]
    RETURN_TYPES = ("LATENT",)
    OUTPUT_TOOLTIPS = ("The finished latent video, for 'Decode video' or VAE Decode.",)
    FUNCTION = "sample"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": model_of("flow matching model"),
                "positive": POSITIVE,
                "latent_image": LATENT,
                "seed": SEED,
                "steps": (
                    "INT",
                    {
                        "default": 10,
                        "min": 1,
                        "max": 1000,
                        "tooltip": "Steps along the path. 1 gives the blurred mean of what fits the prompt, 5 to 20 "
                        "are usual, above 50 little changes.",
                    },
                ),
                "cfg": CFG,
            },
            "optional": {
                "negative": NEGATIVE,
                "solver": (
                    ["euler", "heun", "midpoint"],
                    {
                        "default": "euler",
                        "tooltip": "euler asks the model once a step; heun and midpoint ask twice and follow bends "
                        "more closely.",
                    },
                ),
                "shift": (
                    "FLOAT",
                    {
                        "default": 0.0,
                        "min": 0.0,
                        "max": 20.0,
                        "step": 0.1,
                        "tooltip": "Where the noise levels sit. 0 takes the model's own shift, 1 an even line; above 1 "
                        "stays noisy longer (layout), below 1 hurries to detail.",
                    },
                ),
                "guidance_rule": (
                    ["plain", "CFG-Zero*"],
                    {
                        "default": "plain",
                        "tooltip": "How cfg combines the two answers. CFG-Zero* first corrects the length of the "
                        "negative one: it helps where cfg burns colours.",
                    },
                ),
                "zero_steps": (
                    "INT",
                    {
                        "default": 0,
                        "min": 0,
                        "max": 100,
                        "tooltip": "With CFG-Zero*: steps at the start that stand still. 0 only corrects the length, 1 "
                        "of 10 is usual; more leaves less of the way to go.",
                    },
                ),
            },
        }

    def sample(
        self,
        model,
        positive: list,
        latent_image: dict[str, Any],
        seed: int,
        steps: int,
        cfg: float,
        negative: list | None = None,
        solver: str = "euler",
        shift: float = 0.0,
        guidance_rule: str = "plain",
        zero_steps: int = 0,
    ):
        from ..samplers.full_sequence import FlowSampler as Sampler

        shift = shift or get_host().shift_of(model)
        zero_star = guidance_rule == "CFG-Zero*" and negative is not None and cfg != 1
        sampler = Sampler(steps, solver, shift, zero_star, zero_steps if zero_star else 0)
        return sample(model, sampler, positive, negative, cfg, latent_image, seed)


class DDIMSampler:
    CATEGORY = "pyramid video/sample"
    DESCRIPTION = "Makes the video with a diffusion model: all frames at once, down the levels of noise it was taught."
    SEARCH_ALIASES = [
        "ksampler",
        "ddim",
        "ancestral",
        "ddpm",
        "diffusion",
        "denoise",
        "text to video",
        "t2v",
        "generate",
        "文生视频",
        "テキストから動画",
    ]
    RETURN_TYPES = ("LATENT",)
    OUTPUT_TOOLTIPS = ("The finished latent video, for 'Decode video' or VAE Decode.",)
    FUNCTION = "sample"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": model_of("diffusion model"),
                "positive": POSITIVE,
                "latent_image": LATENT,
                "seed": SEED,
                "steps": (
                    "INT",
                    {
                        "default": 50,
                        "min": 1,
                        "max": 1000,
                        "tooltip": "How many of the 1000 levels are visited. Below 10 is rough, 50 is usual, above 250 "
                        "little changes.",
                    },
                ),
                "cfg": CFG,
            },
            "optional": {
                "negative": NEGATIVE,
                "eta": (
                    "FLOAT",
                    {
                        "default": 0.0,
                        "min": 0.0,
                        "max": 1.0,
                        "step": 0.05,
                        "tooltip": "Fresh noise in every step. 0 is DDIM, where the seed's noise alone decides; 1 is "
                        "ancestral sampling, which needs more steps.",
                    },
                ),
            },
        }

    def sample(
        self,
        model,
        positive: list,
        latent_image: dict[str, Any],
        seed: int,
        steps: int,
        cfg: float,
        negative: list | None = None,
        eta: float = 0.0,
    ):
        from ..samplers.full_sequence import DDIMSampler as Sampler
        from ..samplers.noise_schedule import schedule_of

        schedule = schedule_of(get_host().model_info(model).family)
        return sample(model, Sampler(schedule, steps, eta), positive, negative, cfg, latent_image, seed)


class GANSampler:
    CATEGORY = "pyramid video/sample"
    DESCRIPTION = "Makes the video with the generator of a GAN: one pass of the model, and done."
    SEARCH_ALIASES = [
        "gan",
        "generator",
        "one step",
        "single step",
        "fast",
        "text to video",
        "t2v",
        "generate",
        "文生视频",
        "テキストから動画",
    ]
    RETURN_TYPES = ("LATENT",)
    OUTPUT_TOOLTIPS = ("The finished latent video, for 'Decode video' or VAE Decode.",)
    FUNCTION = "sample"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": model_of("GAN generator"),
                "positive": POSITIVE,
                "latent_image": LATENT,
                "seed": SEED,
            }
        }

    def sample(self, model, positive: list, latent_image: dict[str, Any], seed: int):
        from ..samplers.full_sequence import GANSampler as Sampler

        return sample(model, Sampler(), positive, None, 1.0, latent_image, seed)


NODES = {
    "PyramidVideoFlowSampler": FlowSampler,
    "PyramidVideoDDIMSampler": DDIMSampler,
    "PyramidVideoGANSampler": GANSampler,
}
NAMES = {
    "PyramidVideoFlowSampler": "Sample flow",
    "PyramidVideoDDIMSampler": "Sample DDIM",
    "PyramidVideoGANSampler": "Sample GAN",
}
