"""The core nodes that encode a prompt and sample from parts."""

from __future__ import annotations

from typing import Any

from ....models.prompt_weights import without_weights
from ....samplers.seeds import LARGEST_SEED
from ... import get_host

SCHEDULERS = [
    "simple",
    "sgm_uniform",
    "karras",
    "exponential",
    "ddim_uniform",
    "beta",
    "normal",
    "linear_quadratic",
    "kl_optimal",
]


class CLIPTextEncode:
    DESCRIPTION = "Turns a prompt into what the model reads."
    RETURN_TYPES = ("CONDITIONING",)
    FUNCTION = "encode"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"text": ("STRING", {"multiline": True, "dynamicPrompts": True}), "clip": ("CLIP",)}}

    def encode(self, text: str, clip: Any) -> tuple[Any, ...]:
        return (get_host().encode_prompt(clip, without_weights(text)[0]),)


class RandomNoise:
    DESCRIPTION = "Noise of a seed, for SamplerCustomAdvanced."
    RETURN_TYPES = ("NOISE",)
    FUNCTION = "make"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        seed = {"default": 0, "min": 0, "max": LARGEST_SEED, "control_after_generate": True}
        return {"required": {"noise_seed": ("INT", seed)}}

    def make(self, noise_seed: int) -> tuple[Any, ...]:
        from ..sampling import Noise

        return (Noise(noise_seed),)


class BasicScheduler:
    DESCRIPTION = "Noise levels from 1 to 0; the pyramid sampler makes its own and does not read them."
    RETURN_TYPES = ("SIGMAS",)
    FUNCTION = "make"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "model": ("MODEL",),
                "scheduler": (SCHEDULERS,),
                "steps": ("INT", {"default": 20, "min": 1, "max": 10000}),
                "denoise": ("FLOAT", {"default": 1.0, "min": 0.0, "max": 1.0, "step": 0.01}),
            }
        }

    def make(self, model: Any, scheduler: str, steps: int, denoise: float) -> tuple[Any, ...]:
        import torch

        return (torch.linspace(1, 0, steps + 1) * denoise,)


class SamplerCustomAdvanced:
    DESCRIPTION = "Makes a latent video from the parts: noise, guider and sampler."
    RETURN_TYPES = ("LATENT", "LATENT")
    RETURN_NAMES = ("output", "denoised_output")
    FUNCTION = "sample"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        wires = {
            "noise": "NOISE",
            "guider": "GUIDER",
            "sampler": "SAMPLER",
            "sigmas": "SIGMAS",
            "latent_image": "LATENT",
        }
        return {"required": {name: (kind,) for name, kind in wires.items()}}

    def sample(
        self, noise: Any, guider: Any, sampler: Any, sigmas: Any, latent_image: dict[str, Any]
    ) -> tuple[Any, ...]:
        made = get_host().sample(guider, sampler, latent_image, noise.seed)
        return made, made


NODES = {node.__name__: node for node in (CLIPTextEncode, RandomNoise, BasicScheduler, SamplerCustomAdvanced)}
NAMES = {
    "CLIPTextEncode": "CLIP Text Encode (Prompt)",
}
