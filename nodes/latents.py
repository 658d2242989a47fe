"""Blocks at both ends of the latent video: an empty one of legal size and length, and the way back to pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..host import get_host
from ..host.checks import check_latent
from ..models.sizes import nearest_multiple
from .block import Block, Choice, Float, Int, Output, Wire
from .messages import show_message

if TYPE_CHECKING:
    from ..samplers.stages import PyramidStages


class EmptyLatent(Block):
    ID, NAME = "PyramidVideoEmptyLatent", "Empty video latent"
    CATEGORY = "pyramid video/latent"
    DESCRIPTION = (
        "The size and length of the video. Both are moved to the nearest values that the VAE and the stages allow, "
        "and the block says so."
    )
    ALIASES = (
        "empty latent video, latent size, size, resolution, width height, aspect, length, duration, seconds, frames, "
        "fps, batch size"
    )
    REQUIRED = (
        Wire("vae", "VAE").tip("The video VAE of the model; it decides which sizes and lengths are possible."),
        Int("width", 128, 16, 4096, 16).tip(
            "Pixels. The small models know 128 and 64 (the GAN 128), official ones 640 or 1280. Other sizes work, but "
            "look worse the further they are from these; larger ones need more memory and time."
        ),
        Int("height", 128, 16, 4096, 16).tip(
            "Pixels. The small models know 128 and 64 (the GAN 128), official ones 384 or 768. Small is fast and "
            "coarse, large is slow."
        ),
        Choice("length_unit", ["seconds", "frames"], "seconds").tip("Which of the next two widgets sets the length."),
        Float("seconds", 2.0, 0.0, 60.0, 0.1).tip(
            "From the first frame to the last, when length_unit is 'seconds'. 0 is a single frame; the small model "
            "learned 2, official ones up to 5 (384p) or 10 (768p). Longer clips drift."
        ),
        Int("frames", 17, 1, 1441).tip(
            "Length in frames, when length_unit is 'frames'. 1 is an image; the small model learned 17, official "
            "ones up to 121 (384p) or 241 (768p)."
        ),
        Float("fps", 8.0, 1.0, 60.0, 1.0).tip(
            "Frames per second of the finished file: 8 for the small model, 24 for official ones. When length_unit "
            "is 'seconds', low values make fewer frames and high values more; when it is 'frames', the clip only "
            "plays slower or faster."
        ),
    )
    OPTIONAL = (
        Int("batch_size", 1, 1, 64).tip(
            "How many clips are made together, each with its own seed. More need more memory."
        ),
        Wire("stages", "PYRAMID_STAGES").tip("From 'Pyramid stages'; only needed when its stage count is not 3."),
    )
    OUTPUTS = (
        Output("LATENT", "For the sampler.", "latent"),
        Output("INT", "How many frames the video will have.", "frames"),
        Output("FLOAT", "For 'Create Video'.", "fps"),
    )
    FUNCTION = "make"

    def make(self, vae, width, height, length_unit, seconds, frames, fps, batch_size, stages: PyramidStages | None):
        import torch

        from ..samplers.stages import make_stages

        info = get_host().vae_info(vae)
        multiple = (stages or make_stages()).size_multiple(info.space_compression)
        wanted = round(seconds * fps) + 1 if length_unit == "seconds" else frames  # 5 s at 24 fps are 121 frames
        legal = (nearest_multiple(width, multiple), nearest_multiple(height, multiple), info.nearest_length(wanted))
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
        return {"ui": show_message(*sentences), "result": ({"samples": samples}, legal[2], float(fps))}


class Decode(Block):
    ID, NAME = "PyramidVideoDecode", "Decode video"
    CATEGORY = "pyramid video/latent"
    DESCRIPTION = (
        "Turns a latent video into pictures, a few latent frames at a time: the same result as all at once, in less "
        "memory."
    )
    ALIASES = (
        "vae decode, vae decode tiled, chunked decode, pyramidflow vae decode, latent to image, low memory, tiling"
    )
    REQUIRED = (
        Wire("vae", "VAE").tip("The video VAE that belongs to the model."),
        Wire("samples", "LATENT").tip("From the sampler."),
        Int("chunk_frames", 2, 0, 64).tip(
            "Latent frames decoded at once. 1 needs the least memory, more is a little faster, 0 is all at once. The "
            "pictures are the same. Helios is always decoded 9 at a time."
        ),
        Int("tile_size", 0, 0, 4096, 64).tip(
            "0 decodes whole frames. Otherwise frames are decoded in tiles of this many pixels (256 or 512): small "
            "tiles need little memory, take longer and may leave faint seams."
        ),
    )
    OUTPUTS = (
        Output(
            "IMAGE",
            "The frames. A batch becomes a list of clips: the blocks after this one run once for each, so that "
            "each is saved.",
        ),
    )
    OUTPUT_IS_LIST = (True,)
    FUNCTION = "decode"

    def decode(self, vae, samples, chunk_frames, tile_size):
        host = get_host()
        check_latent(host.vae_info(vae), samples["samples"])
        pictures = host.decode(vae, samples["samples"], chunk_frames or None, tile_size or None)
        return (list(pictures.chunk(samples["samples"].shape[0])),)


BLOCKS = (EmptyLatent, Decode)
