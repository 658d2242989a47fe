"""What a model of the host says of itself, as the pyramid for any model needs it: its noise and its patches."""

from __future__ import annotations

import inspect
from typing import Any

import comfy.model_sampling

from ...models.layers import PATCH
from ...models.model_info import ModelInfo
from ...samplers.spectral import FLOW, VARIANCE_EXPLODING, NoiseScaling, PictureInfo

PATCH_NAMES = ("patch_size", "patch_spatial", "patch")  # Cosmos and Anima have the second, Krea 2 the third
# Kinds whose networks take whole patches only; all others fill latents up to them.
WHOLE_PATCHES = {"HunyuanVideo", "Kandinsky5", "GenmoMochi", "WAN21_Vace", "CosmosVideo", "PixArt"}
WHOLE_IN_OLDER_HOSTS = {"CosmosPredict2", "Anima"}


def picture_info(model: Any) -> PictureInfo:
    """What a network of the host says of its latents."""
    latents = model.latent_format
    compression = int(getattr(latents, "spacial_downscale_ratio", 0) or 0)
    return PictureInfo(patch_of(model), scaling_of(model), type(latents).__name__, compression)


def scaling_of(model: Any) -> NoiseScaling:
    """How a model of the host mixes data and noise. ValueError for the few that mix none."""
    sampling = model.model_sampling
    kinds = comfy.model_sampling
    odd = tuple(getattr(kinds, name) for name in ("IMG_TO_IMG", "IMG_TO_IMG_FLOW") if hasattr(kinds, name))
    if isinstance(sampling, odd):
        raise ValueError(
            f"{type(model).__name__} turns one picture into another without noise, so no stage can be smaller: use the "
            "plain sampler"
        )
    return FLOW if isinstance(sampling, kinds.CONST) else VARIANCE_EXPLODING


def patch_of(model: Any) -> int:
    """Latent cells that rows and columns of a network's picture are multiples of."""
    network = model.diffusion_model
    if isinstance(getattr(model, "info", None), ModelInfo):
        return PATCH  # of our own networks
    found = [getattr(network, name, None) for name in PATCH_NAMES]
    found.append(getattr(getattr(network, "patchifier", None), "patch_size", None))
    patch = next((each for each in found if isinstance(each, int | list | tuple)), None)
    if patch is None:
        channels = getattr(network, "channel_mult", None)  # of a U-Net, which halves once for each but the first
        return 2 ** (len(channels) - 1) if channels else 1
    return int(patch[-1]) if isinstance(patch, list | tuple) else int(patch)


def kinds_of(model: Any) -> set[str]:
    """The names of a model's class and of those that it comes from: not every host has a class to ask for."""
    return {kind.__name__ for kind in type(model).__mro__}


def whole_patches(model: Any) -> int:
    """Latent cells that rows and columns have to be multiples of; 1 where a network takes any size."""
    kinds = kinds_of(model)
    whole = kinds & WHOLE_PATCHES or (kinds & WHOLE_IN_OLDER_HOSTS and not fills_patches(model.diffusion_model))
    return patch_of(model) if whole else 1


def fills_patches(network: Any) -> bool:
    """Whether a network of Cosmos fills latents up to whole patches; only its code tells."""
    try:
        return "pad_to_patch_size" in inspect.getsource(type(network))
    except OSError:
        return False
