"""Layers both transformers share: patches, conditioning, adaptive norms, the double-stream block, first weights."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .attention import ForwardPlan, JointAttention, last_tokens
from .gelu import gelu
from .rotary import Grid

Device = torch.device | str | None
Dtype = torch.dtype | None

PATCH = 2
LAYER_NORM_EPS = 1e-6
TIMESTEP_FEATURES = 256
INPUT_GAIN = 0.45  # how much of its noisy input a velocity holds, about, in every stage of a pyramid: a first guess


def patch_grid(clip: Tensor) -> Grid:
    """Return frames, rows and columns of `clip (b, c, t, h, w)` in 2x2 patches."""
    return clip.shape[2], clip.shape[3] // PATCH, clip.shape[4] // PATCH


def patchify(clip: Tensor) -> Tensor:
    """Cut `(b, c, t, h, w)` into patches `(b, tokens, 4c)`, features in the order row, column, channel."""
    return rearrange(clip, "b c t (h p) (w q) -> b (t h w) (p q c)", p=PATCH, q=PATCH)


def unpatchify(tokens: Tensor, grid: Grid) -> Tensor:
    """Put patches `(b, tokens, 4c)` together to `(b, c, t, h, w)`; undoes `patchify`."""
    frames, rows, columns = grid
    return rearrange(tokens, "b (t h w) (p q c) -> b c t (h p) (w q)", t=frames, h=rows, w=columns, p=PATCH, q=PATCH)


@lru_cache(maxsize=8)
def timestep_frequencies(device: torch.device) -> Tensor:
    """Return the 128 frequencies `10000^(-k / 128)` in float32."""
    with torch.inference_mode(False), torch.no_grad():  # a table made while sampling must also serve training
        half = TIMESTEP_FEATURES // 2
        return torch.exp(-math.log(10000.0) * torch.arange(half, dtype=torch.float32) / half).to(device)


def timestep_features(timestep: Tensor, frequencies: Tensor | None = None) -> Tensor:
    """Return 128 cosines, then 128 sines of `timestep (b,)` in float32, `(b, 256)`."""
    angles = timestep.float()[:, None] * (timestep_frequencies(timestep.device) if frequencies is None else frequencies)
    return torch.cat((angles.cos(), angles.sin()), dim=1)


class MLPEmbedder(nn.Module):
    """Linear, SiLU (or GELU in its tanh form), Linear."""

    def __init__(self, inputs: int, width: int, ops: Any, gelu: bool = False, **factory_kwargs: Any) -> None:
        super().__init__()
        self.gelu = gelu
        self.linear_1 = ops.Linear(inputs, width, **factory_kwargs)
        self.linear_2 = ops.Linear(width, width, **factory_kwargs)

    def forward(self, x: Tensor) -> Tensor:
        inside = self.linear_1(x)
        return self.linear_2(gelu(inside) if self.gelu else F.silu(inside))


class Conditioning(nn.Module):
    """The conditioning vector of all blocks: `temb = MLP(features(t)) + MLP(pooled text)`."""

    def __init__(self, pooled_width: int, width: int, ops: Any, **factory_kwargs: Any) -> None:
        super().__init__()
        self.timestep_embedder = MLPEmbedder(TIMESTEP_FEATURES, width, ops, **factory_kwargs)
        self.text_embedder = MLPEmbedder(pooled_width, width, ops, **factory_kwargs)

    def forward(self, timestep: Tensor, pooled: Tensor, frequencies: Tensor) -> Tensor:
        features = timestep_features(timestep, frequencies).to(pooled.dtype)
        return self.timestep_embedder(features) + self.text_embedder(pooled)


class AdaLayerNorm(nn.Module):
    """A weightless LayerNorm and the linear that makes its `parts` vectors (adaLN, Peebles 2022, arXiv 2212.09748).

    The vectors are shift, scale and gate, once or twice, or a scale and a shift.
    """

    number = 0  # which of a network's adaptive norms this is, for what is kept of it

    def __init__(self, width: int, parts: int, ops: Any, **factory_kwargs: Any) -> None:
        super().__init__()
        self.parts = parts
        self.linear = ops.Linear(width, parts * width, **factory_kwargs)
        self.norm = ops.LayerNorm(width, eps=LAYER_NORM_EPS, elementwise_affine=False, **factory_kwargs)

    def vectors(self, temb: Tensor, plan: ForwardPlan) -> tuple[Tensor, ...]:
        """Return `parts` vectors `(b, 1, width)` from the activated conditioning `temb (b, width)`, 1 added to scales.

        They are kept with the keys of `plan`: at the same timestep and prompt they are the same.
        """
        kept = plan.modulation
        if self.number not in kept:
            kept[self.number] = self.make_vectors(temb)
        return kept[self.number]

    def make_vectors(self, temb: Tensor) -> tuple[Tensor, ...]:
        first = 1 if self.parts > 2 else 0
        made = self.linear(temb).unflatten(-1, (self.parts, -1)).unsqueeze(2)  # (b, parts, 1, width)
        if not torch.is_grad_enabled():
            made[:, first::3].add_(1)
            return made.unbind(1)
        return tuple(part + 1 if number % 3 == first else part for number, part in enumerate(made.unbind(1)))

    def modulate(self, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        """Return `norm(x) * scale + shift`."""
        return torch.addcmul(shift, self.norm(x), scale)


class FinalNorm(AdaLayerNorm):
    """The norm before an output; its linear gives scale first, then shift."""

    def __init__(self, width: int, ops: Any, **factory_kwargs: Any) -> None:
        super().__init__(width, 2, ops, **factory_kwargs)

    def forward(self, x: Tensor, temb: Tensor, plan: ForwardPlan) -> Tensor:
        scale, shift = self.vectors(temb, plan)
        return self.modulate(x, shift, scale)


class GELULinear(nn.Module):
    """A linear, then GELU (tanh form)."""

    def __init__(self, inputs: int, outputs: int, ops: Any, **factory_kwargs: Any) -> None:
        super().__init__()
        self.proj = ops.Linear(inputs, outputs, **factory_kwargs)

    def forward(self, x: Tensor) -> Tensor:
        return gelu(self.proj(x))


class FeedForward(nn.Module):
    """The MLP of a block, `inner` wide inside."""

    def __init__(self, width: int, inner: int, ops: Any, **factory_kwargs: Any) -> None:
        super().__init__()
        # Named as in the checkpoints, where entry 1 is a dropout.
        self.net = nn.ModuleDict(
            {"0": GELULinear(width, inner, ops, **factory_kwargs), "2": ops.Linear(inner, width, **factory_kwargs)}
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net["2"](self.net["0"](x))


class DoubleBlock(nn.Module):
    """Image and text with weights of their own, meeting in one attention.

    Without `text_output` it is the last block: only the last clip goes on.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        eps: float,
        text_norm: str,
        ops: Any,
        text_output: bool = True,
        **factory_kwargs: Any,
    ) -> None:
        super().__init__()
        self.norm1 = AdaLayerNorm(width, 6, ops, **factory_kwargs)
        self.norm1_context = (
            AdaLayerNorm(width, 6, ops, **factory_kwargs) if text_output else FinalNorm(width, ops, **factory_kwargs)
        )
        self.attn = JointAttention(width, heads, eps, text_norm, ops, text_output, **factory_kwargs)
        self.norm2 = ops.LayerNorm(width, eps=LAYER_NORM_EPS, elementwise_affine=False, **factory_kwargs)
        self.ff = FeedForward(width, 4 * width, ops, **factory_kwargs)
        if text_output:
            self.ff_context = FeedForward(width, 4 * width, ops, **factory_kwargs)

    def forward(self, x: Tensor, text: Tensor | None, temb: Tensor, plan: ForwardPlan) -> tuple[Tensor, Tensor | None]:
        shift, scale, gate, *mlp = self.norm1.vectors(temb, plan)
        image_in = self.norm1.modulate(x, shift, scale)
        if text is None or not self.attn.text_output:
            text_in = None if text is None else self.norm1_context(text, temb, plan)
            attended, _ = self.attn(image_in, text_in, plan)
            x = x if self.attn.text_output else last_tokens(x, plan.last)
            return self.feed(torch.addcmul(x, gate, attended), self.ff, *mlp), None
        shift, scale, text_gate, *text_mlp = self.norm1_context.vectors(temb, plan)
        attended, text_attended = self.attn(image_in, self.norm1_context.modulate(text, shift, scale), plan)
        x = self.feed(torch.addcmul(x, gate, attended), self.ff, *mlp)
        return x, self.feed(torch.addcmul(text, text_gate, text_attended), self.ff_context, *text_mlp)

    def feed(self, x: Tensor, mlp: FeedForward, shift: Tensor, scale: Tensor, gate: Tensor) -> Tensor:
        """Add the gated MLP of a stream."""
        return torch.addcmul(x, gate, mlp(torch.addcmul(shift, self.norm2(x), scale)))


@torch.no_grad()
def init_weights(network: nn.Module, generator: torch.Generator | None = None) -> None:
    """Fill a transformer with the weights that training from nothing starts from.

    Xavier for linears, zeros for what modulates and for the output: every block then starts as the identity
    (adaLN-zero). Layers of a host come without any weights, so nothing is left as it was. Numbers are drawn on the CPU:
    the same generator gives the same weights on every device.
    """
    for name, module in network.named_modules():
        weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
        if bias is not None:
            bias.fill_(INPUT_GAIN if name == "skip" else 0.0)
        if weight is None:
            continue
        if weight.ndim == 1:  # a norm
            weight.fill_(1.0)
        elif name in ("proj_out", "skip") or (name.endswith("linear") and "norm" in name):
            weight.zero_()
        else:
            bound = math.sqrt(6.0 / (weight[0].numel() + weight.shape[0]))
            weight.copy_(torch.empty(weight.shape).uniform_(-bound, bound, generator=generator))
