"""Blocks that load files: the video model, its VAE and its text encoder."""

from __future__ import annotations

from ..host import get_host
from ..models.checkpoint_dtypes import WEIGHT_DTYPES
from .block import Block, Choice, Output
from .shared_inputs import MODEL_FILE_TEXT, ModelFile


class LoadModel(Block):
    ID, NAME = "PyramidVideoLoadModel", "Load video model"
    CATEGORY = "pyramid video/load"
    DESCRIPTION = (
        "Loads the video model. The small model comes with the pack; official weights of Pyramid Flow (miniFLUX or "
        "SD3) and Helios are found in the models folders, as a folder or a single file."
    )
    ALIASES = (
        "pyramid flow, pyramidflow model loader, helios, checkpoint, load checkpoint, diffusion model, unet loader, "
        "miniflux, sd3, text to video, image to video, 文生视频, テキストから動画"
    )
    REQUIRED = (
        ModelFile("model_name", "diffusion_models").tip(MODEL_FILE_TEXT),
        Choice("weight_dtype", list(WEIGHT_DTYPES), "default").tip(
            "How the weights are stored. default follows the file and your device; fp32 is the most exact and needs "
            "the most memory; fp8 needs the least and loses some detail. Of the two fp8 types, e4m3fn is finer and "
            "e5m2 has the larger range. fp8_e4m3fn_fast also multiplies in fp8 where the card can: faster, less exact."
        ),
    )
    OUTPUTS = (Output("MODEL", "The video model. LoRA, compile and merge nodes may follow."),)
    FUNCTION = "load"

    def load(self, model_name, weight_dtype):
        host = get_host()
        return (host.load_model(host.find_model("diffusion_models", model_name), weight_dtype),)


class LoadVAE(Block):
    ID, NAME = "PyramidVideoLoadVAE", "Load video VAE"
    CATEGORY = "pyramid video/load"
    DESCRIPTION = "Loads the causal video VAE, which turns pictures into latents and back. Each model needs its own."
    ALIASES = "pyramid flow vae, pyramidflow vae loader, vae loader, causal vae, video vae, wan vae, helios"
    REQUIRED = (
        ModelFile("vae_name", "vae").tip(
            "The VAE that belongs to the model: the pack's own, causal_video_vae for Pyramid Flow, or vae for Helios."
        ),
    )
    OUTPUTS = (Output("VAE", "The video VAE. Core VAE nodes accept it too."),)
    FUNCTION = "load"

    def load(self, vae_name):
        host = get_host()
        return (host.load_vae(host.find_model("vae", vae_name)),)


class LoadTextEncoder(Block):
    ID, NAME = "PyramidVideoLoadTextEncoder", "Load text encoder"
    CATEGORY = "pyramid video/load"
    DESCRIPTION = "Loads the text encoder, which reads your prompt. Each model needs the one that it was trained with."
    ALIASES = "clip loader, dual clip loader, t5, umt5, clip l, text encoder, pyramid flow text, helios"
    REQUIRED = (
        ModelFile("text_encoder_name", "text_encoders").tip(
            "The pack's own file for the small model; for official weights, the folder that holds text_encoder, "
            "text_encoder_2 and their tokenizers (Helios has one of each)."
        ),
    )
    OUTPUTS = (Output("CLIP", "The text encoder, for 'Encode prompt'."),)
    FUNCTION = "load"

    def load(self, text_encoder_name):
        host = get_host()
        return (host.load_text_encoder(host.find_model("text_encoders", text_encoder_name)),)


BLOCKS = (LoadModel, LoadVAE, LoadTextEncoder)
