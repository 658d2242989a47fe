"""Attention without a mask: text padding is left out, and frames are asked one after another.

A token may look at real text and at the image tokens of its own and earlier frames; text and frame 0 share time 0. In
the sequence [text, frame 0, frame 1, ...] that is a prefix of the keys, the same for all tokens of a frame. So each
frame is one plain call over contiguous slices, which every fused kernel takes, and no work is spent on pairs that a
mask would throw away.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .rotary import Grid, rotate

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]  # queries, keys, values (b, heads, n, d) -> (b, heads, n, d)


@dataclass(frozen=True)
class Rows:
    """Rows `start` to `end` of a batch, with equally long texts: their first `padding` tokens are none."""

    start: int
    end: int
    padding: int


@dataclass(frozen=True)
class TokenLayout:
    """Who may look at whom in one forward: groups of rows, and where in the sequence each group of tokens ends."""

    rows: tuple[Rows, ...]
    ends: tuple[int, ...]
    rotation: Tensor | None  # (tokens, 1, head / 2), complex; None: no rotation
    attention: Attention = F.scaled_dot_product_attention


def frame_ends(text_tokens: int, grids: Sequence[Grid], causal: bool) -> tuple[int, ...]:
    """Return where the tokens of each time position end; without `causal` all share one."""
    ends, end = [], text_tokens
    for frames, rows, columns in grids:
        for _ in range(frames):
            end += rows * columns
            ends.append(end)
    return tuple(ends) if causal else (end,)


@dataclass(frozen=True)
class TextPlan:
    """How to bring padded texts into shape: groups of rows, the order of the rows, the order of the tokens."""

    rows: tuple[Rows, ...]
    order: Tensor | None = None  # (b,), when the rows must be sorted
    tokens: Tensor | None = None  # (b, longest), where the tokens of each sorted row are, the real ones last

    def sort(self, x: Tensor) -> Tensor:
        """Bring the rows of `x (b, ...)` into the order of this plan."""
        return x if self.order is None else x.index_select(0, self.order)

    def unsort(self, x: Tensor) -> Tensor:
        """Undo `sort`."""
        return x if self.order is None else x.index_select(0, self.order.argsort())

    def pack(self, text: Tensor) -> Tensor:
        """Sort `text (b, n, d)` and cut it to `(b, longest, d)`."""
        if self.tokens is None:
            return text
        return self.sort(text).gather(1, self.tokens.unsqueeze(-1).expand(-1, -1, text.shape[-1]))


def plan_text(batch: int, mask: Tensor | None, device: torch.device) -> TextPlan:
    """Find out from `mask (b, n)` (1 = real; None = all) how to leave padding out; on the CPU it costs no sync.

    Real tokens go to the end of the text, next to the image, and rows are sorted by length: then all that a group of
    rows needs is a contiguous slice. Text tokens all sit at position 0, so their order is of no consequence.
    """
    if mask is None:
        return TextPlan((Rows(0, batch, 0),))
    real = mask.detach().cpu() != 0
    lengths = real.sum(dim=1).tolist()
    longest = max(lengths)
    if min(lengths) == real.shape[1]:
        return TextPlan((Rows(0, batch, 0),))
    order = sorted(range(batch), key=lengths.__getitem__)
    rows, start = [], 0
    for length, group in groupby(lengths[row] for row in order):
        end = start + len(list(group))
        rows.append(Rows(start, end, longest - length))
        start = end
    tokens = real[order].int().argsort(dim=1, stable=True)[:, real.shape[1] - longest :].to(device)
    in_order = order == list(range(batch))
    return TextPlan(tuple(rows), None if in_order else torch.tensor(order, device=device), tokens)


def attend(query: Tensor, key: Tensor, value: Tensor, layout: TokenLayout) -> Tensor:
    """Attention `(b, tokens, heads, d) -> (b, queries, heads * d)`; padding gets zeros.

    There may be fewer queries than keys: the missing ones are those of the first tokens (a block with no text output).
    """
    query, key, value = query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
    skipped = key.shape[2] - query.shape[2]
    groups = []
    for rows in layout.rows:
        q, k, v = (x[rows.start : rows.end] for x in (query, key, value))
        start = max(skipped, rows.padding)
        runs = [q.new_zeros(*q.shape[:2], start - skipped, v.shape[-1])] if start > skipped else []
        for end in layout.ends:
            keys = slice(rows.padding, end)
            runs.append(layout.attention(q[:, :, start - skipped : end - skipped], k[:, :, keys], v[:, :, keys]))
            start = end
        groups.append(torch.cat(runs, dim=2) if len(runs) > 1 else runs[0])
    result = torch.cat(groups) if len(groups) > 1 else groups[0]
    return result.transpose(1, 2).flatten(2)


class SelfAttention(nn.Module):
    """Queries, keys and values of one stream, normalised per head and rotated; has no output linear."""

    def __init__(self, width: int, heads: int, eps: float, ops, **factory) -> None:
        super().__init__()
        self.heads = heads
        self.norm_q = ops.RMSNorm(width // heads, eps=eps, **factory)
        self.norm_k = ops.RMSNorm(width // heads, eps=eps, **factory)
        self.to_q = ops.Linear(width, width, **factory)
        self.to_k = ops.Linear(width, width, **factory)
        self.to_v = ops.Linear(width, width, **factory)

    def split(self, x: Tensor) -> Tensor:
        """(b, n, heads * d) -> (b, n, heads, d)"""
        return x.unflatten(-1, (self.heads, -1))

    def image(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values `(b, n, heads, d)` of `x (b, n, width)`, not yet rotated."""
        return self.norm_q(self.split(self.to_q(x))), self.norm_k(self.split(self.to_k(x))), self.split(self.to_v(x))

    def forward(self, x: Tensor, layout: TokenLayout) -> Tensor:
        query, key, value = self.image(x)
        return self.ask(query, key, value, layout)

    @staticmethod
    def ask(query: Tensor, key: Tensor, value: Tensor, layout: TokenLayout) -> Tensor:
        """Rotate queries and keys, then attend."""
        if layout.rotation is not None:
            query = rotate(query, layout.rotation[key.shape[1] - query.shape[1] :])
            key = rotate(key, layout.rotation)
        return attend(query, key, value, layout)


class JointAttention(SelfAttention):
    """Attention over [text, image], each with weights of its own (Esser et al. 2024, arXiv 2403.03206, figure 2b).

    `text_norm` begins the names of the text norms, which differ between checkpoints. Without `text_output` text is only
    looked at.
    """

    def __init__(
        self, width: int, heads: int, eps: float, text_norm: str, ops, text_output: bool = True, **factory
    ) -> None:
        super().__init__(width, heads, eps, ops, **factory)
        self.text_norm_names = f"{text_norm}_q", f"{text_norm}_k"
        self.text_output = text_output
        self.add_q_proj = ops.Linear(width, width, **factory)
        self.add_k_proj = ops.Linear(width, width, **factory)
        self.add_v_proj = ops.Linear(width, width, **factory)
        for name in self.text_norm_names:
            setattr(self, name, ops.RMSNorm(width // heads, eps=eps, **factory))
        self.to_out = nn.ModuleList([ops.Linear(width, width, **factory)])
        if text_output:
            self.to_add_out = ops.Linear(width, width, **factory)
        else:
            # In the checkpoints, but nothing asks for text here; one without gradient stalls distributed training.
            self.add_q_proj.requires_grad_(False)
            getattr(self, self.text_norm_names[0]).requires_grad_(False)

    def forward(self, x: Tensor, text: Tensor, layout: TokenLayout) -> tuple[Tensor, Tensor | None]:
        norm_q, norm_k = (getattr(self, name) for name in self.text_norm_names)
        query, key, value = self.image(x)
        key = torch.cat((norm_k(self.split(self.add_k_proj(text))), key), dim=1)
        value = torch.cat((self.split(self.add_v_proj(text)), value), dim=1)
        if not self.text_output:
            return self.to_out[0](self.ask(query, key, value, layout)), None
        query = torch.cat((norm_q(self.split(self.add_q_proj(text))), query), dim=1)
        joint = self.ask(query, key, value, layout)
        count = text.shape[1]
        return self.to_out[0](joint[:, count:]), self.to_add_out(joint[:, :count])
