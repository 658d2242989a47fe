"""The block for the history of Helios: a clip begins from a picture, from a clip, or from a latent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..host import get_host
from ..host.checks import check_latent
from .block import Block, Float, Output, Wire
from .compatibility import check_start_is_complete, video_samples
from .messages import with_message
from .pictures import fill

if TYPE_CHECKING:
    from torch import Tensor

    from ..models.model_info import VAEInfo

SEEN_UNITS = 3  # of the newest: 27 latent frames, of which 19 are seen


class HeliosConditioning(Block):
    ID, NAME = "PyramidVideoHeliosMemory", "Temporal conditioning (Helios)"
    CATEGORY = "pyramid video/condition"
    DESCRIPTION = (
        "What comes before a Helios clip: a picture to start from, a clip to continue, or the latent of an earlier "
        "clip. The new clip continues it and does not contain it."
    )
    ALIASES = (
        "helios, image to video, video to video, i2v, v2v, start image, extend video, continue video, long video, "
        "图生视频, 画像から動画"
    )
    OPTIONAL = (
        Wire("vae", "VAE").tip("The video VAE; needed with a start image."),
        Wire("start_image", "IMAGE").tip("One picture to start from, or at least 33 frames of a clip to continue."),
        Wire("latent_image", "LATENT").tip("The same 'Empty video latent' as for the sampler; it sets the size."),
        Wire("previous", "LATENT").tip(
            "Instead of a start image: a clip made by 'Sample pyramid', used as it is, without noise. Chain several "
            "samplers to watch the first part while the next one is made."
        ),
        Float("least_noise", 0.111, 0.0, 0.9, 0.001, exact=True).tip(
            "The least noise that is added to the start; each frame draws its own amount. 0 trusts the start fully "
            "and moves little; 0.111 is official; high values drift away from it."
        ),
        Float("most_noise", 0.135, 0.0, 0.9, 0.001, exact=True).tip(
            "The most noise that is added to the start. 0.135 is official; it must not be below least_noise."
        ),
    )
    OUTPUTS = (Output("PYRAMID_HISTORY", "For the sampler.", "history"),)
    FUNCTION = "build"

    def build(self, vae, start_image, latent_image, previous, least_noise, most_noise):
        from ..samplers.helios_history import HeliosHistory

        noise = (least_noise, most_noise)
        if previous is not None:
            if start_image is not None:
                raise ValueError("both 'start_image' and 'previous' are wired: a clip has one beginning, keep one")
            clip = video_samples(previous)
            return (HeliosHistory(clip[:, :, :1], clip, (0.0, 0.0)),)
        if start_image is None:
            return (HeliosHistory(noise=noise),)
        check_start_is_complete(vae, latent_image)
        first, units, sentences = fit_units(start_image, get_host().vae_info(vae), latent_image)
        history = HeliosHistory(*encode_start(vae, first, units, still=len(start_image) == 1), noise)
        return with_message(history, sentences)


def encode_start(vae, first: Tensor, units: list[Tensor], still: bool) -> tuple[Tensor, Tensor]:
    """Latents of the frame that is kept and of what came before the clip.

    Of a picture (`still`) that is the last latent frame of a still video, as in the released code.
    """
    import torch

    host = get_host()
    latents = torch.cat([host.encode(vae, unit) for unit in units], dim=2)
    return host.encode(vae, first), latents[:, :, -1:] if still else latents


def fit_units(images: Tensor, info: VAEInfo, latent: dict[str, Any]) -> tuple[Tensor, list[Tensor], list[str]]:
    """Bring start pictures `(n, h, w, c)` to the video's size, and cut them into the units that the VAE encodes.

    A single picture becomes one still unit, of a clip the newest units are used. Returns the very first picture, the
    units, and a sentence for all that was changed.
    """
    check_latent(info, latent["samples"])
    length = info.unit_frames
    if length is None:
        raise ValueError(
            f"the VAE {info} is not that of Helios: wire the Wan VAE into 'vae', or use 'Temporal conditioning' for "
            "Pyramid Flow"
        )
    if 1 < len(images) < length:
        raise ValueError(
            f"the start clip has {len(images)} frames; Helios goes on from {length} or more (units of {length}), or "
            "begins from a single picture"
        )
    height, width = (info.space_compression * side for side in latent["samples"].shape[3:])
    sentences = []
    if tuple(images.shape[1:3]) != (height, width):
        sentences.append(
            f"The start image is {images.shape[2]}x{images.shape[1]}; it was resized and its centre "
            f"cut out to fill {width}x{height}."
        )
    first = fill(images[:1, ..., :3], width, height)
    if len(images) == 1:
        return first, [first.expand(length, -1, -1, -1)], sentences
    count = min(SEEN_UNITS, len(images) // length)
    if count * length < len(images):
        sentences.append(f"Of the {len(images)} frames, the last {count * length} and the very first are used.")
    newest = images[len(images) - count * length :]
    return first, [fill(unit[..., :3], width, height) for unit in newest.split(length)], sentences


BLOCKS = (HeliosConditioning,)
