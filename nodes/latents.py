"""Blocks at both ends of the latent video: an empty one of legal size and length, and the way back to pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..host import get_host
from .fitting import check_latent_fits_vae
from .notices import tell

if TYPE_CHECKING:
    from ..samplers.stages import PyramidStages


class EmptyLatent:
    CATEGORY = "pyramid video/latent"
    DESCRIPTION = (
        "Size and length of the video. Both are moved to the nearest ones that the VAE and the stages allow, "
        "and the node says so."
    )
    SEARCH_ALIASES = [
        "empty latent video",
        "latent size",
        "size",
        "resolution",
        "width height",
        "aspect",
        "length",
        "duration",
        "seconds",
        "frames",
        "fps",
        "batch size",
    ]
    RETURN_TYPES = ("LATENT", "INT", "FLOAT")
    RETURN_NAMES = ("latent", "frames", "fps")
    OUTPUT_TOOLTIPS = ("For the sampler.", "How many frames the video will have.", "For 'Create Video'.")
    FUNCTION = "make"

    @classmethod
    def INPUT_TYPES(cls):
        size = {"min": 16, "max": 4096, "step": 16}
        return {
            "required": {
                "vae": ("VAE", {"tooltip": "The video VAE of the model: it decides which sizes and lengths exist."}),
                "width": (
                    "INT",
                    {
                        "default": 64,
                        **size,
                        "tooltip": "Pixels. The small model knows 64 only; official ones 640 or 1280. "
                        "Other sizes run, but look worse the farther they are; larger ones need memory and time.",
                    },
                ),
                "height": (
                    "INT",
                    {
                        "default": 64,
                        **size,
                        "tooltip": "Pixels. The small model knows 64 only; official ones 384 or 768. "
                        "Small is fast and coarse, large slow.",
                    },
                ),
                "length_unit": (
                    ["seconds", "frames"],
                    {"default": "seconds", "tooltip": "Which of the next two widgets tells the length."},
                ),
                "seconds": (
                    "FLOAT",
                    {
                        "default": 2.0,
                        "min": 0.0,
                        "max": 60.0,
                        "step": 0.1,
                        "tooltip": "From the first frame to the last, with length_unit 'seconds'. 0 is a single "
                        "frame; the small model learned 2, official ones up to 5 (384p) or 10 (768p). Longer drifts.",
                    },
                ),
                "frames": (
                    "INT",
                    {
                        "default": 17,
                        "min": 1,
                        "max": 1441,
                        "tooltip": "Length in frames, with length_unit 'frames'. 1 is an image; the small model "
                        "learned 17, official ones up to 121 (384p) or 241 (768p).",
                    },
                ),
                "fps": (
                    "FLOAT",
                    {
                        "default": 8.0,
                        "min": 1.0,
                        "max": 60.0,
                        "step": 1.0,
                        "tooltip": "Frames per second of the finished file: 8 for the small model, 24 for official "
                        "ones. With length_unit 'seconds' low makes fewer frames and high more; with 'frames' low "
                        "only plays slower and high faster.",
                    },
                ),
            },
            "optional": {
                "batch_size": (
                    "INT",
                    {
                        "default": 1,
                        "min": 1,
                        "max": 64,
                        "tooltip": "Clips made side by side, each with its own seed. More need more memory.",
                    },
                ),
                "stages": (
                    "PYRAMID_STAGES",
                    {"tooltip": "From 'Pyramid stages'; only needed when its stage count is not 3."},
                ),
            },
        }

    def make(
        self,
        vae,
        width: int,
        height: int,
        length_unit: str,
        seconds: float,
        frames: int,
        fps: float,
        batch_size: int = 1,
        stages: PyramidStages | None = None,
    ):
        import torch

        from ..samplers.stages import make_stages

        info = get_host().vae_info(vae)
        multiple = (stages or make_stages()).size_multiple(info.space_compression)
        wanted = round(seconds * fps) + 1 if length_unit == "seconds" else frames  # 5 s at 24 fps are 121 frames
        legal = (nearest(width, multiple), nearest(height, multiple), info.nearest_length(wanted))
        samples = torch.zeros(
            batch_size,
            info.latent_channels,
            info.latent_frames_of(legal[2]),
            legal[1] // info.space_compression,
            legal[0] // info.space_compression,
        )
        size = f"{legal[0]}x{legal[1]}"
        length = f"{legal[2]} frames, {(legal[2] - 1) / fps:.2f} s from first to last at {fps:g} fps"
        sentences = [f"{size}, {length}." if legal[2] > 1 else f"{size}, a single frame."]
        if legal[:2] != (width, height):
            sentences.append(f"Asked for {width}x{height}; sizes are multiples of {multiple}.")
        if legal[2] != wanted:
            sentences.append(f"Asked for {wanted} frames; lengths are {info.lengths}.")
        return {"ui": tell(*sentences), "result": ({"samples": samples}, legal[2], float(fps))}


class Decode:
    CATEGORY = "pyramid video/latent"
    DESCRIPTION = (
        "Turns a latent video into pictures, a few latent frames at a time: "
        "the same result as all at once, in less memory."
    )
    SEARCH_ALIASES = [
        "vae decode",
        "vae decode tiled",
        "chunked decode",
        "pyramidflow vae decode",
        "latent to image",
        "low memory",
        "tiling",
    ]
    RETURN_TYPES = ("IMAGE",)
    OUTPUT_IS_LIST = (True,)
    OUTPUT_TOOLTIPS = ("The frames. The clips of a batch are a list: what follows is done for each, so each is saved.",)
    FUNCTION = "decode"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "vae": ("VAE", {"tooltip": "The video VAE that belongs to the model."}),
                "samples": ("LATENT", {"tooltip": "From the sampler."}),
                "chunk_frames": (
                    "INT",
                    {
                        "default": 2,
                        "min": 0,
                        "max": 64,
                        "tooltip": "Latent frames decoded at once. 1 needs the least memory, more is a little faster, "
                        "0 is all at once. The pictures are the same. Helios is always decoded 9 at a time.",
                    },
                ),
                "tile_size": (
                    "INT",
                    {
                        "default": 0,
                        "min": 0,
                        "max": 4096,
                        "step": 64,
                        "tooltip": "0 decodes whole frames. Otherwise tiles of this many pixels (256 or 512): small "
                        "tiles need little memory, take longer and may leave faint seams.",
                    },
                ),
            }
        }

    def decode(self, vae, samples: dict[str, Any], chunk_frames: int = 2, tile_size: int = 0):
        host = get_host()
        check_latent_fits_vae(host.vae_info(vae), samples)
        pictures = host.decode(vae, samples["samples"], chunk_frames or None, tile_size or None)
        return (list(pictures.chunk(samples["samples"].shape[0])),)


def nearest(size: int, multiple: int) -> int:
    """The nearest positive multiple; half way goes up."""
    return max(multiple, (2 * size + multiple) // (2 * multiple) * multiple)


NODES = {"PyramidVideoEmptyLatent": EmptyLatent, "PyramidVideoDecode": Decode}
NAMES = {"PyramidVideoEmptyLatent": "Empty video latent", "PyramidVideoDecode": "Decode video"}
