"""Blocks that open files: the video model, its VAE and its text encoder."""

from __future__ import annotations

from ..host import get_host
from ..models.checkpoint_dtypes import WEIGHT_DTYPES
from .choices import model_names


class LoadModel:
    CATEGORY = "pyramid video/load"
    DESCRIPTION = (
        "Opens the network that makes the video. The small model comes with the pack; official weights of "
        "Pyramid Flow (miniFLUX or SD3) and Helios, a folder or a single file, are found in the models folders."
    )
    SEARCH_ALIASES = [
        "pyramid flow",
        "pyramidflow model loader",
        "helios",
        "checkpoint",
        "load checkpoint",
        "diffusion model",
        "unet loader",
        "miniflux",
        "sd3",
        "text to video",
        "image to video",
        "文生视频",
        "テキストから動画",
    ]
    RETURN_TYPES = ("MODEL",)
    OUTPUT_TOOLTIPS = ("The video model. LoRA, compile and merge nodes may follow.",)
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model_name": (
                    model_names("diffusion_models"),
                    {"tooltip": "The first ones come with the pack; the others lie in your models folders."},
                ),
                "weight_dtype": (
                    list(WEIGHT_DTYPES),
                    {
                        "default": "default",
                        "tooltip": "How weights are stored. default: as the file and your device suggest; "
                        "fp32 needs the most memory and is the most exact, fp8 needs the least and costs some detail. "
                        "Of the two fp8 types e4m3fn is the finer; e5m2 reaches to smaller and larger numbers.",
                    },
                ),
            }
        }

    def load(self, model_name: str, weight_dtype: str = "default"):
        host = get_host()
        return (host.load_model(host.find_model("diffusion_models", model_name), weight_dtype),)


class LoadVAE:
    CATEGORY = "pyramid video/load"
    DESCRIPTION = "Opens the causal video VAE that turns pictures into latents and back. It belongs to its model."
    SEARCH_ALIASES = [
        "pyramid flow vae",
        "pyramidflow vae loader",
        "vae loader",
        "causal vae",
        "video vae",
        "wan vae",
        "helios",
    ]
    RETURN_TYPES = ("VAE",)
    OUTPUT_TOOLTIPS = ("The video VAE. The core VAE nodes accept it too.",)
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "vae_name": (
                    model_names("vae"),
                    {
                        "tooltip": "Take the one that belongs to the model: the pack's own, causal_video_vae of "
                        "Pyramid Flow, or vae of Helios."
                    },
                )
            }
        }

    def load(self, vae_name: str):
        host = get_host()
        return (host.load_vae(host.find_model("vae", vae_name)),)


class LoadTextEncoder:
    CATEGORY = "pyramid video/load"
    DESCRIPTION = "Opens what reads your prompt. It belongs to its model: another one speaks another language."
    SEARCH_ALIASES = [
        "clip loader",
        "dual clip loader",
        "t5",
        "umt5",
        "clip l",
        "text encoder",
        "pyramid flow text",
        "helios",
    ]
    RETURN_TYPES = ("CLIP",)
    OUTPUT_TOOLTIPS = ("The text encoder, for 'Encode prompt'.",)
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "text_encoder_name": (
                    model_names("text_encoders"),
                    {
                        "tooltip": "The pack's own file for the small model; for official weights the folder "
                        "that holds text_encoder, text_encoder_2 and their tokenizers (Helios has one of each)."
                    },
                )
            }
        }

    def load(self, text_encoder_name: str):
        host = get_host()
        return (host.load_text_encoder(host.find_model("text_encoders", text_encoder_name)),)


NODES = {
    "PyramidVideoLoadModel": LoadModel,
    "PyramidVideoLoadVAE": LoadVAE,
    "PyramidVideoLoadTextEncoder": LoadTextEncoder,
}
NAMES = {
    "PyramidVideoLoadModel": "Load video model",
    "PyramidVideoLoadVAE": "Load video VAE",
    "PyramidVideoLoadTextEncoder": "Load text encoder",
}
