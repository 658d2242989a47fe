"""The core nodes that open a text encoder, a VAE or a LoRA.

ComfyUI reads single files of many models with them. Here they open what the pack's own loaders open.
"""

from __future__ import annotations

from typing import Any

from ... import get_host


class CLIPLoader:
    DESCRIPTION = "Opens a text encoder: here an official folder or the pack's own file."
    RETURN_TYPES = ("CLIP",)
    FUNCTION = "load_clip"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "clip_name": (get_host().list_models("text_encoders"),),
                "type": (["wan"],),
            },
            "optional": {"device": (["default", "cpu"], {"default": "default"})},
        }

    def load_clip(self, clip_name: str, type: str = "wan", device: str = "default") -> tuple[Any, ...]:
        host = get_host()
        return (host.load_text_encoder(host.find_model("text_encoders", clip_name)),)


class VAELoader:
    DESCRIPTION = "Opens a VAE: here an official folder or the pack's own file."
    RETURN_TYPES = ("VAE",)
    FUNCTION = "load_vae"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"vae_name": (get_host().list_models("vae"),)}}

    def load_vae(self, vae_name: str) -> tuple[Any, ...]:
        host = get_host()
        return (host.load_vae(host.find_model("vae", vae_name)),)


class LoraLoaderModelOnly:
    DESCRIPTION = "Adds a LoRA to a model; several may follow each other."
    RETURN_TYPES = ("MODEL",)
    FUNCTION = "load_lora_model_only"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "model": ("MODEL",),
                "lora_name": (get_host().list_models("loras"),),
                "strength_model": ("FLOAT", {"default": 1.0, "min": -100.0, "max": 100.0, "step": 0.01}),
            }
        }

    def load_lora_model_only(self, model: Any, lora_name: str, strength_model: float) -> tuple[Any, ...]:
        from ..wires import apply_lora

        return (apply_lora(model, get_host().find_model("loras", lora_name), strength_model),)


class LoraModelLoader:
    DESCRIPTION = "Adds a LoRA that has just been trained to a model."
    RETURN_TYPES = ("MODEL",)
    FUNCTION = "load_lora_model"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "model": ("MODEL",),
                "lora": ("LORA_MODEL",),
                "strength_model": ("FLOAT", {"default": 1.0, "min": -100.0, "max": 100.0, "step": 0.01}),
            }
        }

    def load_lora_model(self, model: Any, lora: dict[str, Any], strength_model: float) -> tuple[Any, ...]:
        from ..wires import apply_lora

        return (apply_lora(model, lora, strength_model),)


NODES = {node.__name__: node for node in (CLIPLoader, VAELoader, LoraLoaderModelOnly, LoraModelLoader)}
NAMES = {
    "CLIPLoader": "Load CLIP",
    "VAELoader": "Load VAE",
    "LoraLoaderModelOnly": "LoraLoaderModelOnly",
    "LoraModelLoader": "Load LoRA Model",
}
