"""The core nodes that our workflows use, under ComfyUI's ids and input names: text, LoRAs, latents, sampling.

Written for the runner; in ComfyUI the host's own run. `core_files` holds those that read and write files,
`core_values` those that give plain values.
"""

from __future__ import annotations

from typing import Any

from ..host import get_host
from ..models.prompt_weights import without_weights
from ..samplers.seeds import LARGEST_SEED

CHUNK = 2  # latent frames decoded at once: the same pictures as from all at once, in less memory
LARGEST_SIDE = 16384
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
    def INPUT_TYPES(cls):
        return {"required": {"text": ("STRING", {"multiline": True, "dynamicPrompts": True}), "clip": ("CLIP",)}}

    def encode(self, text: str, clip):
        return (get_host().encode_prompt(clip, without_weights(text)[0]),)


class LoraLoaderModelOnly:
    DESCRIPTION = "Adds a LoRA to a model; several may follow each other."
    RETURN_TYPES = ("MODEL",)
    FUNCTION = "load_lora_model_only"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": ("MODEL",),
                "lora_name": (get_host().list_models("loras"),),
                "strength_model": ("FLOAT", {"default": 1.0, "min": -100.0, "max": 100.0, "step": 0.01}),
            }
        }

    def load_lora_model_only(self, model, lora_name: str, strength_model: float):
        host = get_host()
        return (host.apply_lora(model, host.find_model("loras", lora_name), strength_model),)


class LoraModelLoader:
    DESCRIPTION = "Adds a LoRA that has just been trained to a model."
    RETURN_TYPES = ("MODEL",)
    FUNCTION = "load_lora_model"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": ("MODEL",),
                "lora": ("LORA_MODEL",),
                "strength_model": ("FLOAT", {"default": 1.0, "min": -100.0, "max": 100.0, "step": 0.01}),
            }
        }

    def load_lora_model(self, model, lora: dict[str, Any], strength_model: float):
        return (get_host().apply_lora(model, lora, strength_model),)


class VAEDecode:
    DESCRIPTION = "Turns a latent video into pictures."
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "decode"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"samples": ("LATENT",), "vae": ("VAE",)}}

    def decode(self, samples: dict[str, Any], vae):
        return (get_host().decode(vae, samples["samples"], CHUNK),)


class VAEDecodeTiled:
    DESCRIPTION = "Turns a latent video into pictures tile by tile, in less memory; tiles may leave faint seams."
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "decode"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "samples": ("LATENT",),
                "vae": ("VAE",),
                "tile_size": ("INT", {"default": 512, "min": 64, "max": 4096, "step": 32}),
                "overlap": ("INT", {"default": 64, "min": 0, "max": 4096, "step": 32}),
                "temporal_size": ("INT", {"default": 64, "min": 8, "max": 4096, "step": 4}),
                "temporal_overlap": ("INT", {"default": 8, "min": 4, "max": 4096, "step": 4}),
            }
        }

    def decode(
        self,
        samples: dict[str, Any],
        vae,
        tile_size: int,
        overlap: int = 64,
        temporal_size: int = 64,
        temporal_overlap: int = 8,
    ):
        # Our VAE blends tiles and joins chunks by rules of its own, so the overlaps have nothing to say.
        chunk = max(2, temporal_size // get_host().vae_info(vae).time_compression)
        return (get_host().decode(vae, samples["samples"], chunk, tile_size),)


class VAEEncode:
    DESCRIPTION = "Turns pictures that follow each other into a latent video."
    RETURN_TYPES = ("LATENT",)
    FUNCTION = "encode"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"pixels": ("IMAGE",), "vae": ("VAE",)}}

    def encode(self, pixels, vae):
        return ({"samples": get_host().encode(vae, pixels)},)


class RandomNoise:
    DESCRIPTION = "Noise of a seed, for SamplerCustomAdvanced."
    RETURN_TYPES = ("NOISE",)
    FUNCTION = "make"

    @classmethod
    def INPUT_TYPES(cls):
        seed = {"default": 0, "min": 0, "max": LARGEST_SEED, "control_after_generate": True}
        return {"required": {"noise_seed": ("INT", seed)}}

    def make(self, noise_seed: int):
        return (get_host().make_noise(noise_seed),)


class BasicScheduler:
    DESCRIPTION = "Noise levels from 1 to 0; the pyramid sampler makes its own and does not read them."
    RETURN_TYPES = ("SIGMAS",)
    FUNCTION = "make"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": ("MODEL",),
                "scheduler": (SCHEDULERS,),
                "steps": ("INT", {"default": 20, "min": 1, "max": 10000}),
                "denoise": ("FLOAT", {"default": 1.0, "min": 0.0, "max": 1.0, "step": 0.01}),
            }
        }

    def make(self, model, scheduler: str, steps: int, denoise: float):
        import torch

        return (torch.linspace(1, 0, steps + 1) * denoise,)


class SamplerCustomAdvanced:
    DESCRIPTION = "Makes a latent video from the parts: noise, guider and sampler."
    RETURN_TYPES = ("LATENT", "LATENT")
    RETURN_NAMES = ("output", "denoised_output")
    FUNCTION = "sample"

    @classmethod
    def INPUT_TYPES(cls):
        wires = {
            "noise": "NOISE",
            "guider": "GUIDER",
            "sampler": "SAMPLER",
            "sigmas": "SIGMAS",
            "latent_image": "LATENT",
        }
        return {"required": {name: (kind,) for name, kind in wires.items()}}

    def sample(self, noise, guider, sampler, sigmas, latent_image: dict[str, Any]):
        made = get_host().sample(guider, sampler, latent_image, noise.seed)
        return made, made


class ImageScale:
    DESCRIPTION = "Resizes pictures; 0 for one side keeps their shape."
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "scale"

    @classmethod
    def INPUT_TYPES(cls):
        side = {"default": 512, "min": 0, "max": LARGEST_SIDE, "step": 1}
        return {
            "required": {
                "image": ("IMAGE",),
                "upscale_method": (["nearest-exact", "bilinear", "area", "bicubic"],),
                "width": ("INT", side),
                "height": ("INT", side),
                "crop": (["disabled", "center"],),
            }
        }

    def scale(self, image, upscale_method: str, width: int, height: int, crop: str):
        from torch.nn.functional import interpolate

        h, w = image.shape[1:3]
        if not width and not height:
            return (image,)
        width, height = width or max(1, round(w * height / h)), height or max(1, round(h * width / w))
        if crop == "center":
            kept_h, kept_w = min(h, round(w * height / width)), min(w, round(h * width / height))
            top, left = (h - kept_h) // 2, (w - kept_w) // 2
            image = image[:, top : top + kept_h, left : left + kept_w]
        return (interpolate(image.movedim(-1, 1), (height, width), mode=upscale_method).movedim(1, -1).clamp(0, 1),)


NODES = {
    node.__name__: node
    for node in (
        CLIPTextEncode,
        LoraLoaderModelOnly,
        LoraModelLoader,
        VAEDecode,
        VAEDecodeTiled,
        VAEEncode,
        RandomNoise,
        BasicScheduler,
        SamplerCustomAdvanced,
        ImageScale,
    )
}
NAMES = {
    "CLIPTextEncode": "CLIP Text Encode (Prompt)",
    "LoraLoaderModelOnly": "LoraLoaderModelOnly",
    "LoraModelLoader": "Load LoRA Model",
    "VAEDecode": "VAE Decode",
    "VAEDecodeTiled": "VAE Decode (Tiled)",
    "VAEEncode": "VAE Encode",
    "ImageScale": "Upscale Image",
}
