"""A linear way round the VAE: blocks of pixels to latent values and back, added to what the networks make of them.

Residual autoencoding (DC-AE, Chen et al. 2024, arXiv 2410.10733) for video: the networks only learn what a linear code
of each block misses, so that a small VAE is useful after minutes of training. The first frame of a clip stands alone
and has weights of its own.
"""

from __future__ import annotations

from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from .causal_layers import ChunkMemory
from .causal_vae_config import CausalVAEConfig


class EncoderShortcut(nn.Module):
    """Video `(b, 3, t, h, w)` to latents `(b, c, t', h', w')`, each value a weighted sum of one block."""

    def __init__(self, config: CausalVAEConfig, ops: Any, **factory_kwargs: Any) -> None:
        super().__init__()
        self.block = Block(config.time_compression, config.space_compression)
        channels, picture = config.encoder_in_channels, config.space_compression**2
        self.first = ops.Linear(channels * picture, config.latent_channels, **factory_kwargs)
        self.rest = ops.Linear(channels * picture * config.time_compression, config.latent_channels, **factory_kwargs)

    def forward(self, video: Tensor, memory: ChunkMemory | None) -> Tensor:
        ahead = int(memory is None or memory.first_visit(self))
        first = self.first(self.block.cut(video[:, :, :ahead], frames=1))
        rest = self.rest(self.block.cut(video[:, :, ahead:]))
        return torch.cat((first, rest), dim=1).movedim(-1, 1)


class DecoderShortcut(nn.Module):
    """Latents `(b, c, t', h', w')` to video `(b, 3, t, h, w)`, each block a weighted sum of one latent pixel."""

    def __init__(self, config: CausalVAEConfig, ops: Any, **factory_kwargs: Any) -> None:
        super().__init__()
        self.block = Block(config.time_compression, config.space_compression)
        channels, picture = config.decoder_out_channels, config.space_compression**2
        self.first = ops.Linear(config.latent_channels, channels * picture, **factory_kwargs)
        self.rest = ops.Linear(config.latent_channels, channels * picture * config.time_compression, **factory_kwargs)

    def forward(self, latent: Tensor, memory: ChunkMemory | None) -> Tensor:
        ahead = int(memory is None or memory.first_visit(self))
        cells = latent.movedim(1, -1)
        first = self.block.join(self.first(cells[:, :ahead]), frames=1)
        return torch.cat((first, self.block.join(self.rest(cells[:, ahead:]))), dim=2)


class Block:
    """The box of pixels that one latent pixel stands for."""

    def __init__(self, frames: int, edge: int) -> None:
        self.frames, self.edge = frames, edge

    def cut(self, video: Tensor, frames: int | None = None) -> Tensor:
        """`(b, c, t, h, w)` to `(b, t', h', w', numbers of a block)`; `frames` for a block of another length."""
        sizes = {"q": frames or self.frames, "p": self.edge, "r": self.edge}
        return rearrange(video, "b c (t q) (h p) (w r) -> b t h w (c q p r)", **sizes)

    def join(self, cells: Tensor, frames: int | None = None) -> Tensor:
        """Undo `cut`."""
        sizes = {"q": frames or self.frames, "p": self.edge, "r": self.edge}
        return rearrange(cells, "b t h w (c q p r) -> b c (t q) (h p) (w r)", **sizes)
