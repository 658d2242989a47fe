"""The blocks of Helios: those of Wan 2.1 (arXiv 2503.20314) over two streams, the remembered past and what is made.

Both look at each other in one attention. Each is modulated by a noise level of its own (the past is clean), and as in
the official weights only what is made reads the text. Modulation, its tables and norms are in float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention_forms import Attention
from .layers import TIMESTEP_FEATURES, FeedForward, TwoLinears, timestep_features
from .rotary import rotate

LARGEST_KEY_SCALE = 10.0  # how loud the keys of the past can become
FLOAT32 = torch.float32

Streams = tuple[Tensor, Tensor]  # tokens (b, n, width) of the past and of what is made


@dataclass(frozen=True)
class BlockRules:
    """Sizes of a block and what its published configurations switch."""

    width: int
    heads: int
    inner: int  # width of the MLP
    eps: float
    past_reads_text: bool
    history_key_scale: int | None  # learned loudnesses of the past: none, one, or one per head


class HeliosAttention(nn.Module):
    """Attention whose queries and keys are normalised over all heads together; `loudness` numbers scale past keys."""

    def __init__(self, rules: BlockRules, loudness: int | None, ops, device, dtype) -> None:
        super().__init__()
        width, factory = rules.width, {"device": device, "dtype": dtype}
        self.heads = rules.heads
        self.to_q = ops.Linear(width, width, **factory)
        self.to_k = ops.Linear(width, width, **factory)
        self.to_v = ops.Linear(width, width, **factory)
        self.to_out = nn.ModuleList([ops.Linear(width, width, **factory)])
        self.norm_q = ops.RMSNorm(width, eps=rules.eps, **factory)
        self.norm_k = ops.RMSNorm(width, eps=rules.eps, **factory)
        if loudness is not None:
            self.history_key_scale = nn.Parameter(torch.empty(loudness, device=device, dtype=FLOAT32))

    def forward(
        self, x: Tensor, source: Tensor, attention: Attention, rotation: Tensor | None = None, past: int = 0
    ) -> Tensor:
        """Ask `source (b, m, width)` for `x (b, n, width)`; its first `past` tokens are the remembered ones."""
        query, key, value = (
            part.unflatten(-1, (self.heads, -1))
            for part in (self.norm_q(self.to_q(x)), self.norm_k(self.to_k(source)), self.to_v(source))
        )
        if rotation is not None:
            query, key = rotate(query, rotation), rotate(key, rotation)
        if hasattr(self, "history_key_scale") and past:
            loud = 1 + self.history_key_scale.to(key.device).sigmoid() * (LARGEST_KEY_SCALE - 1)
            key = torch.cat(((key[:, :past] * loud[:, None]).to(key.dtype), key[:, past:]), dim=1)
        answer = attention(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2))
        return self.to_out[0](answer.transpose(1, 2).flatten(2))


class HeliosBlock(nn.Module):
    """Attention between past and present, attention to the text, an MLP."""

    def __init__(self, rules: BlockRules, ops, device, dtype) -> None:
        super().__init__()
        factory = {"device": device, "dtype": dtype}
        self.eps, self.past_reads_text = rules.eps, rules.past_reads_text
        self.attn1 = HeliosAttention(rules, rules.history_key_scale, ops, **factory)
        self.attn2 = HeliosAttention(rules, None, ops, **factory)
        self.norm2 = ops.LayerNorm(rules.width, eps=rules.eps, device=device, dtype=FLOAT32)
        self.ffn = FeedForward(rules.width, rules.inner, ops, **factory)
        self.scale_shift_table = nn.Parameter(torch.empty(1, 6, rules.width, device=device, dtype=FLOAT32))

    def forward(
        self, streams: Streams, steers: Streams, text: Tensor, rotation: Tensor, attention: Attention
    ) -> Streams:
        """`steers`: what each stream's noise level says, `(b or 1, 6, width)`. `text (b, n, width)`."""
        lengths = [x.shape[1] for x in streams]
        ways = [(self.scale_shift_table.to(steer.device) + steer.float()).chunk(6, dim=1) for steer in steers]

        both = torch.cat([modulated(x, *way[:2], self.eps) for x, way in zip(streams, ways, strict=True)], dim=1)
        attended = self.attn1(both, both, attention, rotation, past=lengths[0]).split(lengths, dim=1)
        past, made = (gated(x, *pair) for x, *pair in zip(streams, attended, [way[2] for way in ways], strict=True))

        made = self.read(made, text, attention)
        past = self.read(past, text, attention) if self.past_reads_text else past

        return tuple(
            gated(x, self.ffn(modulated(x, shift, scale, self.eps)), gate)
            for x, (_, _, _, shift, scale, gate) in zip((past, made), ways, strict=True)
        )

    def read(self, x: Tensor, text: Tensor, attention: Attention) -> Tensor:
        """Add what the text says to the tokens `x`."""
        return x + self.attn2(self.norm2(x.float()).to(x.dtype), text, attention)


class HeliosConditioning(nn.Module):
    """What timestep and text say to all blocks."""

    def __init__(self, text_width: int, width: int, ops, device, dtype) -> None:
        super().__init__()
        factory = {"device": device, "dtype": dtype}
        self.time_embedder = TwoLinears(TIMESTEP_FEATURES, width, ops, device=device, dtype=FLOAT32)
        self.time_proj = ops.Linear(width, 6 * width, **factory)
        self.text_embedder = TwoLinears(text_width, width, ops, gelu=True, **factory)

    def forward(self, timestep: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """The noise levels `timestep (b,)` as vectors `(b, 1, width)` and, for blocks, `(b, 6, width)`."""
        level = self.time_embedder(timestep_features(timestep)).to(dtype)
        return level.unsqueeze(1), self.time_proj(F.silu(level)).unflatten(-1, (6, -1))


class HeliosOutputNorm(nn.Module):
    """The modulated norm before the output."""

    def __init__(self, width: int, eps: float, device) -> None:
        super().__init__()
        self.eps = eps
        self.scale_shift_table = nn.Parameter(torch.empty(1, 2, width, device=device, dtype=FLOAT32))

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        """`level (b, 1, width)`, as `HeliosConditioning` gives it."""
        return modulated(x, *(self.scale_shift_table.to(x.device) + level.float()).chunk(2, dim=1), self.eps)


def modulated(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    """`norm(x) * (1 + scale) + shift`, worked out in float32."""
    return torch.addcmul(shift, F.layer_norm(x.float(), x.shape[-1:], eps=eps), 1 + scale).to(x.dtype)


def gated(x: Tensor, change: Tensor, gate: Tensor) -> Tensor:
    """`x + change * gate`, worked out in float32."""
    return torch.addcmul(x.float(), change.float(), gate).to(x.dtype)
