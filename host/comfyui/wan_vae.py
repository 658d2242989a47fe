"""The host's own Wan VAE under our blocks: Helios' clips are rows of units, each encoded and decoded on its own."""

from __future__ import annotations

from typing import Any

import comfy.ldm.wan.vae
import torch
from torch import Tensor

from ...models.history_levels import UNIT_FRAMES
from ...models.model_info import VAEInfo
from ...models.wan_vae import SPACE, TIME, UNIT_PICTURES
from .progress import PartBar


def wan_info(vae: Any) -> VAEInfo | None:
    """The numbers of a VAE that core's 'Load VAE' made of a file of Wan 2.1; None for any other."""
    if not isinstance(getattr(vae, "first_stage_model", None), comfy.ldm.wan.vae.WanVAE):
        return None
    return VAEInfo(TIME, SPACE, vae.latent_channels, "Wan VAE", UNIT_FRAMES)


def decode_units(vae: Any, samples: Tensor, tile: int | None) -> Tensor:
    """Video `(b, frames, h, w, 3)` in 0..1 of latents `(b, c, t, h, w)`; the host frees memory and tiles as it does."""
    units, bar, pieces = samples.split(UNIT_FRAMES, dim=2), PartBar(), []
    for unit in units:
        if tile is None:
            pieces.append(vae.decode(unit))
        else:
            side = tile // SPACE
            pieces.append(vae.decode_tiled(unit, tile_x=side, tile_y=side, overlap=side // 4))
        bar.update(len(pieces), total=len(units))
    return torch.cat(pieces, dim=1)


def encode_units(vae: Any, images: Tensor) -> Tensor:
    """Latents `(1, c, t, h, w)`, in the VAE's scale, of pictures `(frames, h, w, 3)` in 0..1."""
    return torch.cat([vae.encode(unit[..., :3]) for unit in images.split(UNIT_PICTURES)], dim=2)
