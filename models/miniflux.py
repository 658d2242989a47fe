"""The Pyramid Flow miniFLUX transformer: the velocity of the last clip, given the clips before it and a text.

Jin et al. 2024 (arXiv 2410.05954) with the blocks of FLUX.1: double-stream, then single-stream. State-dict keys are
those of the official checkpoints. Small models of the same kind differ only in their config.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .attention import ForwardPlan, SelfAttention, last_tokens
from .gelu import gelu
from .layers import AdaLayerNorm, Device, DoubleBlock, Dtype, init_weights
from .transformer import PyramidTransformer, TransformerConfig

__all__ = ["MiniFluxConfig", "MiniFluxTransformer", "init_weights"]

RMS_NORM_EPS = 1e-6


@dataclass(frozen=True)
class MiniFluxConfig(TransformerConfig):
    """Sizes of a miniFLUX transformer; the defaults are those of the released models."""

    in_channels: int = 64  # features of a 2x2 patch: four times the latent channels
    num_layers: int = 8  # double-stream blocks
    num_single_layers: int = 16
    attention_head_dim: int = 64
    num_attention_heads: int = 30
    axes_dims_rope: tuple[int, ...] = (16, 24, 24)  # features of a head that turn with time, row, column

    MODEL: ClassVar[str] = "miniFLUX"
    HARMLESS: ClassVar[frozenset[str]] = TransformerConfig.HARMLESS | {"patch_size"}  # says 1, means nothing
    OPTIONAL: ClassVar[frozenset[str]] = frozenset({"num_layers"})  # single-stream blocks do alone, too

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_layers + self.num_single_layers < 1:
            raise ValueError("num_layers and num_single_layers are both 0; a transformer has at least one block")
        if self.in_channels % 4:
            raise ValueError(f"in_channels is {self.in_channels}; expected 4 times the latent channels (2x2 patches)")
        sizes = self.axes_dims_rope
        if len(sizes) != 3 or any(size % 2 for size in sizes) or sum(sizes) != self.attention_head_dim:
            raise ValueError(
                f"axes_dims_rope is {list(sizes)}; expected three even numbers that add up to "
                f"attention_head_dim = {self.attention_head_dim}"
            )

    @property
    def latent_channels(self) -> int:
        """Channels of the latents that go in and come out."""
        return self.in_channels // 4


class SingleBlock(nn.Module):
    """Attention and MLP side by side on the stream [text, image], joined by one linear."""

    def __init__(self, width: int, heads: int, ops: Any, **factory_kwargs: Any) -> None:
        super().__init__()
        self.norm = AdaLayerNorm(width, 3, ops, **factory_kwargs)
        self.proj_mlp = ops.Linear(width, 4 * width, **factory_kwargs)
        self.proj_out = ops.Linear(5 * width, width, **factory_kwargs)
        self.attn = SelfAttention(width, heads, RMS_NORM_EPS, ops, **factory_kwargs)

    def forward(self, x: Tensor, temb: Tensor, plan: ForwardPlan, is_last: bool = False) -> Tensor:
        """Return `x (b, n, width)` after this block; `is_last`: of the last clip alone."""
        shift, scale, gate = self.norm.vectors(temb, plan)
        inside = self.norm.modulate(x, shift, scale)
        last = None
        if is_last:
            x, last = last_tokens(x, plan.last), last_tokens(inside, plan.last)
        attended = self.attn(inside, plan, last)
        inside = inside if last is None else last  # what else there is may leave memory
        inner = self.proj_mlp(inside)
        return torch.addcmul(x, gate, self.proj_out(self.beside(attended, inner)))

    @staticmethod
    def beside(attended: Tensor, inner: Tensor) -> Tensor:
        """`(b, n, width)` beside the activated `(b, n, 4 width)`, in one tensor."""
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return torch.cat((attended, gelu(inner)), dim=-1)
        width = attended.shape[-1]
        both = attended.new_empty(*attended.shape[:-1], width + inner.shape[-1])
        both[..., :width].copy_(attended)
        gelu(inner, out=both[..., width:])
        return both


class MiniFluxTransformer(PyramidTransformer):
    """Predict velocities as `PyramidFluxTransformer` does; `init_weights` prepares it for training from nothing."""

    name = "miniFLUX"
    config: MiniFluxConfig

    def __init__(self, config: MiniFluxConfig, ops: Any = nn, device: Device = None, dtype: Dtype = None) -> None:
        factory_kwargs: dict[str, Any] = {"device": device, "dtype": dtype}
        super().__init__(config, config.axes_dims_rope, ops, **factory_kwargs)
        width, heads = config.width, config.num_attention_heads
        self.x_embedder = ops.Linear(config.in_channels, width, **factory_kwargs)
        self.transformer_blocks = nn.ModuleList(
            DoubleBlock(width, heads, RMS_NORM_EPS, "norm_added", ops, **factory_kwargs)
            for _ in range(config.num_layers)
        )
        self.single_transformer_blocks = nn.ModuleList(
            SingleBlock(width, heads, ops, **factory_kwargs) for _ in range(config.num_single_layers)
        )
        self.number_layers()

    @property
    def blocks(self) -> list[nn.Module]:
        return [*self.transformer_blocks, *self.single_transformer_blocks]

    def embed(self, tokens: Tensor, pos_embed: Tensor | None) -> Tensor:
        return self.x_embedder(tokens)

    def run_blocks(self, x: Tensor, text: Tensor | None, temb: Tensor, plan: ForwardPlan) -> Tensor:
        for block in self.transformer_blocks:
            x, text = self.run_double(block, x, text, temb, plan)
        joined = x if text is None else torch.cat((text, x), dim=1)
        last = len(self.single_transformer_blocks) - 1
        for number, block in enumerate(self.single_transformer_blocks):
            joined = self.run_single(block, joined, temb, plan, number == last)
        return last_tokens(joined, plan.last)
