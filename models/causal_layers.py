"""Causal layers of the video VAE: no frame of a result depends on a later frame of the input.

Tensors are `(b, c, t, h, w)`. Convolutions see the present and the two frames before it, everything else works on each
frame alone. A clip can therefore be worked through in temporal chunks with the same result: what the convolutions need
of the past rides in a `ChunkMemory` that belongs to one call, never on the modules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

Handed = Tensor | list[Tensor]  # a list of one hands its tensor over: nothing holds it any longer than it is needed
PAST_FRAMES = 2  # a kernel of three frames: two of the past and the present one
NORM_EPS = 1e-6
CHANNELS_LAST_NORMS = ("cpu", "xpu")  # devices whose group norm reads channels that lie last; others copy them first


class ChunkMemory:
    """The last two input frames of every causal convolution, for the next chunk of the same clip."""

    def __init__(self) -> None:
        self._past: dict[nn.Module, Tensor] = {}

    def __contains__(self, layer: nn.Module) -> bool:
        """Whether `layer` has already worked on an earlier chunk."""
        return layer in self._past

    def past(self, layer: nn.Module) -> Tensor:
        """The frames that `layer` saw last, zeros included where the clip began."""
        return self._past[layer]

    def first_visit(self, layer: nn.Module) -> bool:
        """Whether `layer`, which needs no past frames, is at the first chunk; call it once per chunk."""
        first = layer not in self._past
        self._past[layer] = torch.empty(0)
        return first

    def keep(self, layer: nn.Module, frames: Tensor) -> None:
        """Remember the end of `frames`; a copy, since a view would hold the whole chunk in memory."""
        self._past[layer] = frames[:, :, -PAST_FRAMES:].clone()


def taken(x: Handed) -> Tensor:
    """The tensor that was given, out of the list that handed it over."""
    return x.pop() if isinstance(x, list) else x


def run_layers(layers: Iterable[nn.Module], x: Handed, memory: ChunkMemory | None) -> Tensor:
    """Send `x` through one layer after another, each handed what the one before made."""
    given = [taken(x)]
    for layer in layers:
        given.append(layer(given, memory))
    return given.pop()


def fold_frames(x: Tensor) -> Tensor:
    """`(b, c, t, h, w)` to `(b * t, c, h, w)`; a view when channels lie last in memory."""
    return x.transpose(1, 2).flatten(0, 1)


def unfold_frames(frames: Tensor, batch: int) -> Tensor:
    """`(b * t, c, h, w)` back to `(b, c, t, h, w)`, always a view."""
    return frames.unflatten(0, (batch, -1)).transpose(1, 2)


def norm_frames(norm: nn.Module, x: Handed) -> Tensor:
    """Group norm of each frame alone, so that no statistic flows from one frame to another."""
    return apply_to_frames(norm, x)


def apply_to_frames(work: Callable[[Tensor], Tensor], x: Handed) -> Tensor:
    """Give `work` all frames as pictures `(b * t, c, h, w)`, dense in memory."""
    x = taken(x)
    batch, frames = len(x), fold_frames(x)
    takes_it = frames.device.type in CHANNELS_LAST_NORMS and frames.is_contiguous(memory_format=torch.channels_last)
    if not (takes_it or frames.is_contiguous()):
        frames = frames.contiguous()  # the norm would make this copy too, and hold on to what was handed over
    del x
    return unfold_frames(work(frames), batch)


def norm_silu(norm: nn.Module, x: Handed) -> Tensor:
    """Group norm of each frame, then SiLU (in place where no gradient needs the values before it)."""
    # Of the pictures, which are dense: torch 2.4 and 2.5 lose on MPS what is written into the view of a clip.
    return apply_to_frames(lambda frames: F.silu(norm(frames), inplace=not torch.is_grad_enabled()), x)


class CausalConv3d(nn.Module):
    """3x3x3 convolution with two zero frames before the clip and a border of zeros; or 1x1x1 without padding.

    With `frames=1` the convolution is 1x3x3 and sees the present frame alone.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        ops: Any,
        kernel: int = 3,
        stride: tuple[int, int, int] = (1, 1, 1),
        frames: int | None = None,
        **factory_kwargs: Any,
    ) -> None:
        super().__init__()
        frames = kernel if frames is None else frames
        self.causal = frames > 1
        edge = kernel // 2
        size = (frames, kernel, kernel)
        self.conv = ops.Conv3d(inputs, outputs, size, stride=stride, padding=(0, edge, edge), **factory_kwargs)

    def forward(self, x: Handed, memory: ChunkMemory | None) -> Tensor:
        x = taken(x)
        if not self.causal:
            return self.conv(x)
        if memory is not None and self in memory:
            # A stride of two counts from the first frame of the clip; here that leaves one frame of the past to see.
            x = torch.cat([memory.past(self)[:, :, self.conv.stride[0] - 1 :], x], dim=2)
            memory.keep(self, x)  # only now, when what was given has left memory
            return self.conv(x)
        if x.shape[2] == 1 and self._weight_is_ready(x):
            if memory is not None:
                memory.keep(self, F.pad(x, (0, 0, 0, 0, PAST_FRAMES, 0)))
            return self._single_frame(x)
        x = F.pad(x, (0, 0, 0, 0, PAST_FRAMES, 0))
        if memory is not None:
            memory.keep(self, x)
        return self.conv(x)

    def _weight_is_ready(self, x: Tensor) -> bool:
        """False when the layer has yet to move or cast its weight, which only that layer knows how to do."""
        conv = self.conv
        return isinstance(conv, nn.Conv3d) and conv.weight.device == x.device and conv.weight.dtype == x.dtype

    def _single_frame(self, x: Tensor) -> Tensor:
        """The first frame alone: all before it is zero, so only the last temporal slice of the kernel takes part."""
        conv = self.conv
        frame = F.conv2d(x.squeeze(2), conv.weight[:, :, -1], conv.bias, conv.stride[1:], conv.padding[1:])
        return frame.unsqueeze(2)


class ResidualBlock(nn.Module):
    """Norm, SiLU, convolution, twice, plus the input (through a 1x1x1 convolution when channels change)."""

    def __init__(
        self, inputs: int, outputs: int, groups: int, ops: Any, frames: int | None = None, **factory_kwargs: Any
    ) -> None:
        super().__init__()
        self.norm1 = ops.GroupNorm(groups, inputs, eps=NORM_EPS, **factory_kwargs)
        self.conv1 = CausalConv3d(inputs, outputs, ops, frames=frames, **factory_kwargs)
        self.norm2 = ops.GroupNorm(groups, outputs, eps=NORM_EPS, **factory_kwargs)
        self.conv2 = CausalConv3d(outputs, outputs, ops, frames=frames, **factory_kwargs)
        self.conv_shortcut = (
            CausalConv3d(inputs, outputs, ops, kernel=1, **factory_kwargs) if inputs != outputs else None
        )

    def forward(self, x: Handed, memory: ChunkMemory | None) -> Tensor:
        x = taken(x)
        beside = x if self.conv_shortcut is None else self.conv_shortcut(x, memory)
        given = [x]  # handed over: where a block narrows, what waits beside it has fewer channels
        del x
        inside = [self.conv1([norm_silu(self.norm1, given)], memory)]
        h = self.conv2([norm_silu(self.norm2, inside)], memory)
        return h + beside if torch.is_grad_enabled() else h.add_(beside)


class FrameAttention(nn.Module):
    """Attention between the pixels of one frame; one head as wide as the channels."""

    def __init__(self, channels: int, groups: int, ops: Any, **factory_kwargs: Any) -> None:
        super().__init__()
        self.group_norm = ops.GroupNorm(groups, channels, eps=NORM_EPS, **factory_kwargs)
        self.to_q = ops.Linear(channels, channels, **factory_kwargs)
        self.to_k = ops.Linear(channels, channels, **factory_kwargs)
        self.to_v = ops.Linear(channels, channels, **factory_kwargs)
        self.to_out = nn.ModuleList([ops.Linear(channels, channels, **factory_kwargs)])

    def forward(self, x: Tensor) -> Tensor:
        b, _, _, h, w = x.shape
        pixels = rearrange(self.group_norm(fold_frames(x)), "f c h w -> f 1 (h w) c")
        seen = F.scaled_dot_product_attention(self.to_q(pixels), self.to_k(pixels), self.to_v(pixels))
        frames = rearrange(self.to_out[0](seen), "f 1 (h w) c -> f c h w", h=h, w=w)
        return x + unfold_frames(frames, b)


class MidBlock(nn.Module):
    """Residual block, attention, residual block, at the lowest resolution."""

    def __init__(self, channels: int, groups: int, ops: Any, **factory_kwargs: Any) -> None:
        super().__init__()
        self.attentions = nn.ModuleList([FrameAttention(channels, groups, ops, **factory_kwargs)])
        self.resnets = nn.ModuleList(
            [ResidualBlock(channels, channels, groups, ops, **factory_kwargs) for _ in range(2)]
        )

    def forward(self, x: Handed, memory: ChunkMemory | None) -> Tensor:
        x = self.resnets[0](x, memory)
        x = [self.attentions[0](x)]
        return self.resnets[1](x, memory)


class Downsample(nn.Module):
    """Halve space, stride (1, 2, 2), or time, stride (2, 1, 1): frames 2k + 1 become k + 1."""

    def __init__(
        self, channels: int, stride: tuple[int, int, int], ops: Any, frames: int | None = None, **factory_kwargs: Any
    ) -> None:
        super().__init__()
        self.conv = CausalConv3d(channels, channels, ops, stride=stride, frames=frames, **factory_kwargs)

    def forward(self, x: Handed, memory: ChunkMemory | None) -> Tensor:
        return self.conv(x, memory)


class SpatialUpsample(nn.Module):
    """Double rows and columns; channel c * 4 + row * 2 + column of the convolution becomes the pixel (row, column)."""

    factor = 4  # channels of the convolution that become one channel of the result

    def __init__(self, channels: int, ops: Any, frames: int | None = None, **factory_kwargs: Any) -> None:
        super().__init__()
        self.conv = CausalConv3d(channels, channels * self.factor, ops, frames=frames, **factory_kwargs)

    def forward(self, x: Handed, memory: ChunkMemory | None) -> Tensor:
        wide = self.conv(x, memory)
        return unfold_frames(F.pixel_shuffle(fold_frames(wide), 2), wide.shape[0])


class TemporalUpsample(nn.Module):
    """Double the frames and drop the first of the clip: t become 2t - 1. Channel c * 2 + k is frame k of a pair."""

    factor = 2

    def __init__(self, channels: int, ops: Any, **factory_kwargs: Any) -> None:
        super().__init__()
        self.conv = CausalConv3d(channels, channels * self.factor, ops, **factory_kwargs)

    def forward(self, x: Handed, memory: ChunkMemory | None) -> Tensor:
        later_chunk = memory is not None and self.conv in memory
        pairs = rearrange(self.conv(x, memory), "b (c p) t h w -> b (t p) h w c", p=2)
        return (pairs if later_chunk else pairs[:, 1:]).movedim(-1, 1)


class DownBlock(nn.Module):
    """Residual blocks, then half the space, then half the time, as the config says."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        layers: int,
        space: bool,
        time: bool,
        groups: int,
        ops: Any,
        frames: int | None = None,
        **factory_kwargs: Any,
    ) -> None:
        super().__init__()
        block_kwargs = {"frames": frames, **factory_kwargs}
        widths = [inputs] + [outputs] * layers
        self.resnets = nn.ModuleList(
            [ResidualBlock(widths[i], outputs, groups, ops, **block_kwargs) for i in range(layers)]
        )
        self.downsamplers = nn.ModuleList([Downsample(outputs, (1, 2, 2), ops, **block_kwargs)] if space else [])
        self.temporal_downsamplers = nn.ModuleList(
            [Downsample(outputs, (2, 1, 1), ops, **factory_kwargs)] if time else []
        )

    def forward(self, x: Handed, memory: ChunkMemory | None) -> Tensor:
        return run_layers((*self.resnets, *self.downsamplers, *self.temporal_downsamplers), x, memory)


class UpBlock(nn.Module):
    """Residual blocks, then twice the space, then twice the time, as the config says."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        layers: int,
        space: bool,
        time: bool,
        groups: int,
        ops: Any,
        frames: int | None = None,
        **factory_kwargs: Any,
    ) -> None:
        super().__init__()
        block_kwargs = {"frames": frames, **factory_kwargs}
        widths = [inputs] + [outputs] * layers
        self.resnets = nn.ModuleList(
            [ResidualBlock(widths[i], outputs, groups, ops, **block_kwargs) for i in range(layers)]
        )
        self.upsamplers = nn.ModuleList([SpatialUpsample(outputs, ops, **block_kwargs)] if space else [])
        self.temporal_upsamplers = nn.ModuleList([TemporalUpsample(outputs, ops, **factory_kwargs)] if time else [])

    def forward(self, x: Handed, memory: ChunkMemory | None) -> Tensor:
        return run_layers((*self.resnets, *self.upsamplers, *self.temporal_upsamplers), x, memory)
