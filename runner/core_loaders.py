"""The core nodes that open a text encoder or a VAE, under ComfyUI's ids and input names.

ComfyUI reads single files of many models with them. Here they open what the pack's own loaders open.
"""

from __future__ import annotations

from ..host import get_host


class CLIPLoader:
    DESCRIPTION = "Opens a text encoder: here an official folder or the pack's own file."
    RETURN_TYPES = ("CLIP",)
    FUNCTION = "load_clip"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "clip_name": (get_host().list_models("text_encoders"),),
                "type": (["wan"],),
            },
            "optional": {"device": (["default", "cpu"], {"default": "default"})},
        }

    def load_clip(self, clip_name: str, type: str = "wan", device: str = "default"):
        host = get_host()
        return (host.load_text_encoder(host.find_model("text_encoders", clip_name)),)


class VAELoader:
    DESCRIPTION = "Opens a VAE: here an official folder or the pack's own file."
    RETURN_TYPES = ("VAE",)
    FUNCTION = "load_vae"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"vae_name": (get_host().list_models("vae"),)}}

    def load_vae(self, vae_name: str):
        host = get_host()
        return (host.load_vae(host.find_model("vae", vae_name)),)


NODES = {node.__name__: node for node in (CLIPLoader, VAELoader)}
NAMES = {"CLIPLoader": "Load CLIP", "VAELoader": "Load VAE"}
