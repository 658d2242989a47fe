"""The causal video VAE of Pyramid Flow (Jin et al. 2024): pixels to latents and back, whole, in chunks, in tiles.

Video is `(b, 3, t, h, w)` in -1..1, latents are `(b, c, t', h / space, w / space)`. Frame 0 stands alone, then every
`time_compression` frames share one latent frame: t = time_compression * (t' - 1) + 1. Module names follow the official
checkpoints, so their state dicts load as they are.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .block_shortcut import DecoderShortcut, EncoderShortcut
from .causal_layers import (
    NORM_EPS,
    CausalConv3d,
    ChunkMemory,
    DownBlock,
    Downsample,
    FrameAttention,
    MidBlock,
    ResidualBlock,
    SpatialUpsample,
    TemporalUpsample,
    UpBlock,
    fold_frames,
    norm_silu,
    run_layers,
    unfold_frames,
)
from .causal_vae_config import CausalVAEConfig
from .sizes import nearest_multiple
from .vae_pieces import Move, OnChunk, counted, unmoved
from .vae_tiling import TilePlan, plan_tiles

ChunkWork = Callable[[Tensor, ChunkMemory | None], Tensor]
PRESENT_AND_PAST = (0.75, 0.25)  # shares of two frames in the one that they become, at the start of training
START_LOGVAR = -6.0  # of a VAE that is trained from nothing


@dataclass(frozen=True)
class Posterior:
    """What the encoder predicts: a normal distribution per latent value, `mean` and `logvar` both `(b, c, t, h, w)`."""

    mean: Tensor
    logvar: Tensor

    @classmethod
    def from_moments(cls, moments: Tensor) -> Posterior:
        """Split `(b, 2c, t, h, w)` into mean and log-variance, the latter clamped to -30..20."""
        mean, logvar = moments.chunk(2, dim=1)
        return cls(mean, logvar.clamp(-30.0, 20.0))

    def mode(self) -> Tensor:
        """The most likely latent."""
        return self.mean

    def sample(self, generator: torch.Generator) -> Tensor:
        """Draw a latent; noise comes from the generator's device (the CPU), so a seed means the same everywhere."""
        noise = torch.randn(self.mean.shape, generator=generator, device=generator.device)
        return self.mean + torch.exp(0.5 * self.logvar) * noise.to(self.mean)


class Encoder(nn.Module):
    """Pixels (or pixel patches) to moments."""

    def __init__(self, config: CausalVAEConfig, ops: Any, **factory_kwargs: Any) -> None:
        super().__init__()
        widths, groups = config.encoder_block_out_channels, config.encoder_norm_num_groups
        block_kwargs = {"frames": 1 if config.frame_blocks else None, **factory_kwargs}
        self.conv_in = CausalConv3d(config.encoder_in_channels * config.patch_size**2, widths[0], ops, **block_kwargs)
        blocks = zip(
            (widths[0], *widths),
            widths,
            config.encoder_layers_per_block,
            config.encoder_spatial_down_sample,
            config.encoder_temporal_down_sample,
            strict=False,
        )
        self.down_blocks = nn.ModuleList([DownBlock(*block, groups, ops, **block_kwargs) for block in blocks])
        self.mid_block = MidBlock(widths[-1], groups, ops, **factory_kwargs)
        self.conv_norm_out = ops.GroupNorm(groups, widths[-1], eps=NORM_EPS, **factory_kwargs)
        self.conv_out = CausalConv3d(widths[-1], 2 * config.encoder_out_channels, ops, **factory_kwargs)

    def forward(self, x: Tensor, memory: ChunkMemory | None) -> Tensor:
        inside = [run_layers((self.conv_in, *self.down_blocks, self.mid_block), x, memory)]
        return self.conv_out([norm_silu(self.conv_norm_out, inside)], memory)


class Decoder(nn.Module):
    """Latents to pixels (or pixel patches); channel widths are those of the config in reverse."""

    def __init__(self, config: CausalVAEConfig, ops: Any, **factory_kwargs: Any) -> None:
        super().__init__()
        widths, groups = config.decoder_block_out_channels[::-1], config.decoder_norm_num_groups
        block_kwargs = {"frames": 1 if config.frame_blocks else None, **factory_kwargs}
        self.conv_in = CausalConv3d(config.decoder_in_channels, widths[0], ops, **factory_kwargs)
        self.mid_block = MidBlock(widths[0], groups, ops, **factory_kwargs)
        blocks = zip(
            (widths[0], *widths),
            widths,
            config.decoder_layers_per_block,
            config.decoder_spatial_up_sample,
            config.decoder_temporal_up_sample,
            strict=False,
        )
        self.up_blocks = nn.ModuleList([UpBlock(*block, groups, ops, **block_kwargs) for block in blocks])
        self.conv_norm_out = ops.GroupNorm(groups, widths[-1], eps=NORM_EPS, **factory_kwargs)
        self.conv_out = CausalConv3d(
            widths[-1], config.decoder_out_channels * config.patch_size**2, ops, **block_kwargs
        )

    def forward(self, x: Tensor, memory: ChunkMemory | None) -> Tensor:
        inside = [run_layers((self.conv_in, self.mid_block, *self.up_blocks), x, memory)]
        return self.conv_out([norm_silu(self.conv_norm_out, inside)], memory)


class CausalVideoVAE(nn.Module):
    """Encode video to a posterior over latents, decode latents to video.

    Temporal chunks give the result of the whole clip. Tiles do not: they lose sight of what lies beyond their edges.
    """

    def __init__(
        self,
        config: CausalVAEConfig,
        ops: Any = nn,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        factory_kwargs: dict[str, Any] = {"device": device, "dtype": dtype}
        self.config = config
        self.encoder = Encoder(config, ops, **factory_kwargs)
        self.decoder = Decoder(config, ops, **factory_kwargs)
        moments = 2 * config.encoder_out_channels
        self.quant_conv = CausalConv3d(moments, moments, ops, kernel=1, **factory_kwargs)
        self.post_quant_conv = CausalConv3d(
            config.decoder_in_channels, config.decoder_in_channels, ops, kernel=1, **factory_kwargs
        )
        self.encoder_shortcut = EncoderShortcut(config, ops, **factory_kwargs) if config.block_shortcut else None
        self.decoder_shortcut = DecoderShortcut(config, ops, **factory_kwargs) if config.block_shortcut else None

    def encode(
        self,
        video: Tensor,
        chunk: int | None = None,
        tile: int | None = None,
        on_chunk: OnChunk | None = None,
        bring: Move = unmoved,
    ) -> Posterior:
        """Encode `video (b, 3, t, h, w)` in -1..1.

        `chunk` is a number of frames to work on at once (a multiple of the time compression; the first chunk has one
        more), `tile` the edge of a tile in pixels; None works on everything at once. `on_chunk` as in `decode`.
        `bring` brings each piece to the network's device, for a video that would not fit there.

        Raises:
            ValueError: for an illegal length, size, chunk or tile, or values that are not finite.
        """
        config = self.config
        config.check_video(video)
        if chunk is not None and (chunk < 1 or chunk % config.time_compression):
            raise ValueError(
                f"encode chunk of {chunk} frames is not a positive multiple of {config.time_compression}; "
                f"the nearest is {nearest_multiple(chunk, config.time_compression)}"
            )
        plan = None if tile is None else plan_tiles(tile, config.space_compression, encode=True)

        def work(part: Tensor, memory: ChunkMemory | None) -> Tensor:
            return self._to_moments(bring(part), memory)

        return Posterior.from_moments(self._run(work, video, chunk, plan, on_chunk))

    def decode(
        self,
        latent: Tensor,
        chunk: int | None = None,
        tile: int | None = None,
        on_chunk: OnChunk | None = None,
        leave: Move = unmoved,
    ) -> Tensor:
        """Decode `latent (b, c, t, h, w)` in the VAE's own scale to video in about -1..1 (not clamped).

        `chunk` is a number of latent frames (the first chunk has one more), `tile` the edge of a tile in pixels.
        `on_chunk(done, total)` is called after each piece; what it raises ends the work. `leave` takes each piece to
        where the video is put together, so that the device holds one of them.

        Raises:
            ValueError: for a wrong shape, chunk or tile, or values that are not finite.
        """
        self._check_latent(latent, chunk)
        plan = None if tile is None else plan_tiles(tile, self.config.space_compression, encode=False)

        def work(part: Tensor, memory: ChunkMemory | None) -> Tensor:
            return leave(self._to_video(part, memory))

        return self._run(work, latent, chunk, plan, on_chunk)

    def iter_decode(self, latent: Tensor, chunk: int, on_chunk: OnChunk | None = None) -> Iterator[Tensor]:
        """Yield the pieces of `decode(latent, chunk)` in time order, as soon as each is ready."""
        self._check_latent(latent, chunk)
        pieces = in_chunks(self._to_video, latent, chunk)
        return counted(pieces, len(chunk_lengths(latent.shape[2], chunk)), on_chunk)

    def _check_latent(self, latent: Tensor, chunk: int | None) -> None:
        self.config.check_latent(latent)
        if chunk is not None and chunk < 1:
            raise ValueError(f"decode chunk of {chunk} latent frames; it takes 1 or more, or None for the whole clip")

    def _run(
        self, work: ChunkWork, x: Tensor, chunk: int | None, plan: TilePlan | None, on_chunk: OnChunk | None
    ) -> Tensor:
        """Work through `x` tile by tile, each tile in its own chunks."""
        tiles = plan if plan is not None and plan.needed(x) else None
        total = len(chunk_lengths(x.shape[2], chunk)) * (1 if tiles is None else tiles.count(x))
        done = itertools.count(1)

        def one_tile(part: Tensor) -> Tensor:
            pieces = []
            for piece in in_chunks(work, part, chunk):
                pieces.append(piece)
                if on_chunk is not None:
                    on_chunk(next(done), total)
            return torch.cat(pieces, dim=2) if len(pieces) > 1 else pieces[0]

        return one_tile(x) if tiles is None else tiles.run(one_tile, x)

    def _to_moments(self, video: Tensor, memory: ChunkMemory | None) -> Tensor:
        patches = unfold_frames(F.pixel_unshuffle(fold_frames(video), self.config.patch_size), video.shape[0])
        moments = self.quant_conv(self.encoder(patches, memory), memory)
        if self.encoder_shortcut is None:
            return moments
        mean, logvar = moments.chunk(2, dim=1)
        return torch.cat((mean + self.encoder_shortcut(video, memory), logvar), dim=1)

    def _to_video(self, latent: Tensor, memory: ChunkMemory | None) -> Tensor:
        patches = self.decoder(self.post_quant_conv(latent, memory), memory)
        video = unfold_frames(F.pixel_shuffle(fold_frames(patches), self.config.patch_size), latent.shape[0])
        return video if self.decoder_shortcut is None else video + self.decoder_shortcut(latent, memory)


def chunk_lengths(frames: int, chunk: int | None) -> list[int]:
    """Lengths of temporal chunks: chunk + 1 frames, then `chunk` each, then the rest; all at once for None."""
    if chunk is None or frames <= chunk + 1:
        return [frames]
    return [chunk + 1] + [min(chunk, frames - start) for start in range(chunk + 1, frames, chunk)]


def in_chunks(work: ChunkWork, x: Tensor, chunk: int | None) -> Iterator[Tensor]:
    """Yield `work` on each temporal chunk of `x`, with a memory that lives no longer than this iterator."""
    lengths = chunk_lengths(x.shape[2], chunk)
    memory = ChunkMemory() if len(lengths) > 1 else None
    for part in x.split(lengths, dim=2):
        yield work(part, memory)


@torch.no_grad()
def init_weights(vae: CausalVideoVAE, generator: torch.Generator) -> None:
    """Set every weight for training from nothing, from a CPU generator.

    Residual branches start at zero, so that a deep network starts as a shallow one; upsampling convolutions give all
    pixels (or frames) that come from one the same value, which avoids checkerboards (ICNR, Aitken et al. 2017).
    Convolutions start blind to the past, so that what is learned from pictures holds for every frame of a clip. The
    log-variance starts low: with the noise of a unit normal the decoder sees nothing of the picture for long. Beside a
    block shortcut the networks start silent: they learn what it misses. With frame blocks time changes by means and
    copies at first, so that a network that knows pictures knows calm clips.
    """
    for module in vae.modules():
        if isinstance(module, nn.Conv3d | nn.Linear):
            noise = torch.randn(module.weight.shape, generator=generator)
            present = module.weight[0].numel() / (module.kernel_size[0] if isinstance(module, nn.Conv3d) else 1)
            module.weight.copy_(noise / math.sqrt(present))
            if module.bias is not None:
                module.bias.zero_()
            if isinstance(module, nn.Conv3d):
                module.weight[:, :, :-1] = 0.0
        elif isinstance(module, nn.GroupNorm):
            module.weight.fill_(1.0)
            module.bias.zero_()
    for module in vae.modules():
        if isinstance(module, ResidualBlock):
            module.conv2.conv.weight.zero_()
        elif isinstance(module, FrameAttention):
            output = module.to_out[0]
            assert isinstance(output, nn.Linear)
            output.weight.zero_()
        elif isinstance(module, SpatialUpsample | TemporalUpsample):
            weight = module.conv.conv.weight
            weight.copy_(weight[:: module.factor].repeat_interleave(module.factor, dim=0))
    if vae.config.frame_blocks:
        start_time_changes(vae)
    if vae.config.block_shortcut:
        vae.encoder.conv_out.conv.weight.zero_()
        vae.decoder.conv_out.conv.weight.zero_()
    vae.quant_conv.conv.bias[vae.config.encoder_out_channels :] = START_LOGVAR


def start_time_changes(vae: CausalVideoVAE) -> None:
    """Let half the frames be weighted means of two, and twice the frames be copies."""
    for module in vae.modules():
        if isinstance(module, TemporalUpsample):
            weight = module.conv.conv.weight
            channels = torch.arange(weight.shape[1])
            weight.zero_()
            for frame in range(module.factor):
                weight[module.factor * channels + frame, channels, -1, 1, 1] = 1.0
        elif isinstance(module, Downsample) and module.conv.conv.stride[0] > 1:
            weight = module.conv.conv.weight
            channels = torch.arange(weight.shape[1])
            weight.zero_()
            for tap, share in zip((-1, -2), PRESENT_AND_PAST, strict=True):
                weight[channels, channels, tap, 1, 1] = share
