"""Attention modules of Pyramid Flow: queries, keys and values of one stream or of two, and what is kept of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .attention_forms import Attention, attend, join_tokens, one_copy_joins
from .block_patches import BlockPatch
from .cached_tokens import CachedTokens
from .rotary import rotate
from .token_layout import TokenLayout

Heads = tuple[Tensor, Tensor, Tensor]  # queries, keys and values (b, n, heads, d)


@dataclass(frozen=True, eq=False)
class ForwardPlan:
    """All that the steps of a stage have in common, made before they begin."""

    layout: TokenLayout
    last: int  # tokens of the last clip
    last_layout: TokenLayout  # for its queries alone
    rotation: Tensor | None  # table of `rotary`, for all tokens; None: no rotation
    pos_embed: Tensor | None  # (tokens, width) or a row each, added to the embedded patches; None: nothing is added
    text_order: Tensor | None  # of `token_layout.text_order`
    frequencies: Tensor  # of `layers.timestep_frequencies`
    attention: Attention
    kept: CachedTokens | None = None
    patch: BlockPatch | None = None  # runs each block; None: as they are

    @property
    def modulation(self) -> dict[int, tuple[Tensor, ...]]:
        """Where vectors of adaptive norms are kept; nowhere under a compiler, whose outputs may be overwritten."""
        return {} if self.kept is None or torch.compiler.is_compiling() else self.kept.modulation

    def mark_growing(self, past: Tensor | None) -> None:
        """Tell torch's compiler which sizes grow from unit to unit, so that it makes no graph for each of them.

        past: patches `(b, n, 4c)` of the history.
        """
        from torch._dynamo import maybe_mark_dynamic  # loads the compiler

        kept = self.kept or CachedTokens()
        sizes: list[tuple[Tensor | None, tuple[int, ...]]] = [
            (past, (1,)),
            (self.rotation, (1,)),
            (self.pos_embed, (0,)),
            (kept.past, (3,)),
            (kept.fresh, (3,)),
        ]
        for layout in (self.layout, self.last_layout):
            sizes += [(layout.mask, (2, 3)), (layout.padding_mask, (3,))]
        for tensor, axes in sizes:
            for axis in axes if tensor is not None else ():
                maybe_mark_dynamic(tensor, axis)


class HeadsAttention(nn.Module):
    """Queries, keys and values of the image stream, normalised per head and rotated; what both attentions share."""

    layer = 0  # which of a network's attentions this is, for what is kept of it

    def __init__(self, width: int, heads: int, eps: float, ops: Any, **factory_kwargs: Any) -> None:
        super().__init__()
        self.heads = heads
        self.norm_q = ops.RMSNorm(width // heads, eps=eps, **factory_kwargs)
        self.norm_k = ops.RMSNorm(width // heads, eps=eps, **factory_kwargs)
        self.to_q = ops.Linear(width, width, **factory_kwargs)
        self.to_k = ops.Linear(width, width, **factory_kwargs)
        self.to_v = ops.Linear(width, width, **factory_kwargs)

    def split(self, x: Tensor) -> Tensor:
        """(b, n, heads * d) -> (b, n, heads, d)"""
        return x.unflatten(-1, (self.heads, -1))

    def project(self, x: Tensor, queries_of: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries of `queries_of`, keys and values of `x (b, n, width)`, `(b, n, heads, d)`, not yet rotated."""
        query = self.norm_q(self.split(self.to_q(queries_of)))
        return query, self.norm_k(self.split(self.to_k(x))), self.split(self.to_v(x))

    def attend(self, query: Tensor, key: Tensor, value: Tensor, plan: ForwardPlan, layout: TokenLayout) -> Tensor:
        """Rotate queries and keys, put what was kept in front of keys and values, then attend."""
        if plan.rotation is not None:
            total = plan.rotation.shape[-4]
            query = rotate(query, plan.rotation[..., total - query.shape[1] :, :, :, :])
            key = rotate(key, plan.rotation[..., total - key.shape[1] :, :, :, :])
        return self.attend_rotated(query, key, value, plan, layout)

    def attend_rotated(
        self, query: Tensor, key: Tensor, value: Tensor, plan: ForwardPlan, layout: TokenLayout
    ) -> Tensor:
        """The same with queries and keys that are already rotated."""
        if plan.kept is not None:
            key, value = plan.kept.join(self.layer, key, value)
        return attend(query, key, value, layout, plan.attention)


class SelfAttention(HeadsAttention):
    """Attention over one stream; has no output linear."""

    def forward(self, x: Tensor, plan: ForwardPlan, last: Tensor | None = None) -> Tensor:
        """Attend to `x (b, n, width)`, from all of it or from `last`, the tokens of the last clip."""
        query, key, value = self.project(x, x if last is None else last)
        return self.attend(query, key, value, plan, plan.layout if last is None else plan.last_layout)


class JointAttention(HeadsAttention):
    """Attention over [text, image], each with weights of its own (Esser et al. 2024, arXiv 2403.03206, figure 2b).

    `text_norm` begins the names of the text norms, which differ between checkpoints. Without `text_output`, in a last
    block, only the last clip attends; text and other clips are looked at.
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
        super().__init__(width, heads, eps, ops, **factory_kwargs)
        self.text_norm_names = f"{text_norm}_q", f"{text_norm}_k"
        self.text_output = text_output
        self.add_q_proj = ops.Linear(width, width, **factory_kwargs)
        self.add_k_proj = ops.Linear(width, width, **factory_kwargs)
        self.add_v_proj = ops.Linear(width, width, **factory_kwargs)
        for name in self.text_norm_names:
            setattr(self, name, ops.RMSNorm(width // heads, eps=eps, **factory_kwargs))
        self.to_out = nn.ModuleList([ops.Linear(width, width, **factory_kwargs)])
        if text_output:
            self.to_add_out = ops.Linear(width, width, **factory_kwargs)
        else:
            # In the checkpoints, but nothing queries text here; one without gradient stalls distributed training.
            self.add_q_proj.requires_grad_(False)
            getattr(self, self.text_norm_names[0]).requires_grad_(False)

    def forward(self, x: Tensor, text: Tensor | None, plan: ForwardPlan) -> tuple[Tensor, Tensor | None]:
        """Attend from `x (b, n, width)` and `text (b, m, width)`; without text its keys are those that were kept."""
        layout = plan.layout if self.text_output else plan.last_layout
        query, key, value = self.project(x, x if self.text_output else last_tokens(x, plan.last))
        if text is None:
            return self.to_out[0](self.attend(query, key, value, plan, layout)), None
        norm_q, norm_k = (getattr(self, name) for name in self.text_norm_names)
        text_key, text_value = norm_k(self.split(self.add_k_proj(text))), self.split(self.add_v_proj(text))
        if not self.text_output:
            key, value = torch.cat((text_key, key), dim=1), torch.cat((text_value, value), dim=1)
            return self.to_out[0](self.attend(query, key, value, plan, layout)), None
        text_query = norm_q(self.split(self.add_q_proj(text)))
        joint = self.attend_joined((text_query, text_key, text_value), (query, key, value), plan)
        text_part, image_part = apart(joint, text.shape[1])
        return self.to_out[0](image_part), self.to_add_out(text_part)

    def attend_joined(self, text: Heads, image: Heads, plan: ForwardPlan) -> Tensor:
        """Attend from and to text and image; queries and keys are rotated at once."""
        if not one_copy_joins(len(image[0])):
            query, key, value = (torch.cat(pair, dim=1) for pair in zip(text, image, strict=True))
            return self.attend(query, key, value, plan, plan.layout)
        joined = join_tokens(*zip(text, image, strict=True))  # (3, b, n, heads, d)
        rotated = joined[:2] if plan.rotation is None else rotate(joined[:2], plan.rotation)
        return self.attend_rotated(rotated[0], rotated[1], joined[2], plan, plan.layout)


def last_tokens(x: Tensor, count: int) -> Tensor:
    """The last `count` tokens of `x (b, n, width)`, as linears take them."""
    return x[:, x.shape[1] - count :].contiguous()


def apart(joint: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Split `(b, n, width)` after `count` tokens into two that linears take as they are: of few rows in one copy."""
    rows, tokens = joint.shape[:2]
    if rows == 1 or not one_copy_joins(rows):
        return joint[:, :count].contiguous(), joint[:, count:].contiguous()
    parts = torch.cat([*(row[:count] for row in joint), *(row[count:] for row in joint)])
    text, image = parts.split((rows * count, rows * (tokens - count)))
    return text.unflatten(0, (rows, -1)), image.unflatten(0, (rows, -1))
