"""The blocks of Helios: those of Wan 2.1 (arXiv 2503.20314) over two streams, the past and what is made.

Both look at each other in one attention. Each is modulated by a timestep of its own (the past is clean), and as in
the official weights only what is made reads the text. Modulation, its tables and norms are in float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention_forms import Attention
from .layers import TIMESTEP_FEATURES, Device, Dtype, FeedForward, MLPEmbedder, timestep_features
from .rotary import rotate

LARGEST_KEY_SCALE = 10.0  # the largest factor that keys of the past can have
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
    history_key_scale: int | None  # learned scales for keys of the past: none, one, or one per head


class HeliosAttention(nn.Module):
    """Attention whose queries and keys are normalised over all heads together; `key_scales` numbers scale past keys."""

    def __init__(self, rules: BlockRules, key_scales: int | None, ops: Any, device: Device, dtype: Dtype) -> None:
        super().__init__()
        width = rules.width
        factory_kwargs: dict[str, Any] = {"device": device, "dtype": dtype}
        self.heads = rules.heads
        self.to_q = ops.Linear(width, width, **factory_kwargs)
        self.to_k = ops.Linear(width, width, **factory_kwargs)
        self.to_v = ops.Linear(width, width, **factory_kwargs)
        self.to_out = nn.ModuleList([ops.Linear(width, width, **factory_kwargs)])
        self.norm_q = ops.RMSNorm(width, eps=rules.eps, **factory_kwargs)
        self.norm_k = ops.RMSNorm(width, eps=rules.eps, **factory_kwargs)
        if key_scales is not None:
            self.history_key_scale = nn.Parameter(torch.empty(key_scales, device=device, dtype=FLOAT32))

    def forward(
        self, x: Tensor, source: Tensor, attention: Attention, rotation: Tensor | None = None, past: int = 0
    ) -> Tensor:
        """Attend from `x (b, n, width)` to `source (b, m, width)`, whose first `past` tokens are those of the past."""
        query, key, value = (
            part.unflatten(-1, (self.heads, -1))
            for part in (self.norm_q(self.to_q(x)), self.norm_k(self.to_k(source)), self.to_v(source))
        )
        if rotation is not None:
            query, key = rotate(query, rotation), rotate(key, rotation)
        if hasattr(self, "history_key_scale") and past:
            scale = 1 + self.history_key_scale.to(key.device).sigmoid() * (LARGEST_KEY_SCALE - 1)
            key = torch.cat(((key[:, :past] * scale[:, None]).to(key.dtype), key[:, past:]), dim=1)
        attended = attention(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2))
        return self.to_out[0](attended.transpose(1, 2).flatten(2))


class HeliosBlock(nn.Module):
    """Attention between past and present, attention to the text, an MLP."""

    def __init__(self, rules: BlockRules, ops: Any, device: Device, dtype: Dtype) -> None:
        super().__init__()
        factory_kwargs: dict[str, Any] = {"device": device, "dtype": dtype}
        self.eps, self.past_reads_text = rules.eps, rules.past_reads_text
        self.attn1 = HeliosAttention(rules, rules.history_key_scale, ops, **factory_kwargs)
        self.attn2 = HeliosAttention(rules, None, ops, **factory_kwargs)
        self.norm2 = ops.LayerNorm(rules.width, eps=rules.eps, device=device, dtype=FLOAT32)
        self.ffn = FeedForward(rules.width, rules.inner, ops, **factory_kwargs)
        self.scale_shift_table = nn.Parameter(torch.empty(1, 6, rules.width, device=device, dtype=FLOAT32))

    def forward(
        self, streams: Streams, block_tembs: Streams, text: Tensor, rotation: Tensor, attention: Attention
    ) -> Streams:
        """Return both streams. `block_tembs`: the timestep of each, `(b or 1, 6, width)`. `text (b, n, width)`."""
        lengths = [x.shape[1] for x in streams]
        adaln = [(self.scale_shift_table.to(temb.device) + temb.float()).chunk(6, dim=1) for temb in block_tembs]

        both = torch.cat(
            [modulated(x, shift, scale, self.eps) for x, (shift, scale, *_) in zip(streams, adaln, strict=True)], dim=1
        )
        attended = self.attn1(both, both, attention, rotation, past=lengths[0]).split(lengths, dim=1)
        past, made = (
            gated(x, *pair) for x, *pair in zip(streams, attended, [vectors[2] for vectors in adaln], strict=True)
        )

        made = self.read(made, text, attention)
        past = self.read(past, text, attention) if self.past_reads_text and lengths[0] else past

        # The first unit has no past, and layers that look for the largest number they are given find none in it.
        past, made = (
            gated(x, self.ffn(modulated(x, shift, scale, self.eps)), gate) if x.shape[1] else x
            for x, (_, _, _, shift, scale, gate) in zip((past, made), adaln, strict=True)
        )
        return past, made

    def read(self, x: Tensor, text: Tensor, attention: Attention) -> Tensor:
        """Add what the tokens `x` attend to in the text."""
        return x + self.attn2(self.norm2(x.float()).to(x.dtype), text, attention)


class HeliosConditioning(nn.Module):
    """The embeddings of timestep and text that all blocks read."""

    def __init__(self, text_width: int, width: int, ops: Any, device: Device, dtype: Dtype) -> None:
        super().__init__()
        factory_kwargs: dict[str, Any] = {"device": device, "dtype": dtype}
        self.time_embedder = MLPEmbedder(TIMESTEP_FEATURES, width, ops, device=device, dtype=FLOAT32)
        self.time_proj = ops.Linear(width, 6 * width, **factory_kwargs)
        self.text_embedder = MLPEmbedder(text_width, width, ops, gelu=True, **factory_kwargs)

    def forward(self, timestep: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Embed `timestep (b,)`: `temb (b, 1, width)` for the output and, for blocks, `(b, 6, width)`."""
        temb = self.time_embedder(timestep_features(timestep)).to(dtype)
        return temb.unsqueeze(1), self.time_proj(F.silu(temb)).unflatten(-1, (6, -1))


class HeliosOutputNorm(nn.Module):
    """The modulated norm before the output."""

    def __init__(self, width: int, eps: float, device: Device) -> None:
        super().__init__()
        self.eps = eps
        self.scale_shift_table = nn.Parameter(torch.empty(1, 2, width, device=device, dtype=FLOAT32))

    def forward(self, x: Tensor, temb: Tensor) -> Tensor:
        """`temb (b, 1, width)`, as `HeliosConditioning` gives it."""
        shift, scale = (self.scale_shift_table.to(x.device) + temb.float()).chunk(2, dim=1)
        return modulated(x, shift, scale, self.eps)


def modulated(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    """`norm(x) * (1 + scale) + shift`, worked out in float32."""
    return torch.addcmul(shift, F.layer_norm(x.float(), x.shape[-1:], eps=eps), 1 + scale).to(x.dtype)


def gated(x: Tensor, change: Tensor, gate: Tensor) -> Tensor:
    """`x + change * gate`, worked out in float32."""
    return torch.addcmul(x.float(), change.float(), gate).to(x.dtype)
