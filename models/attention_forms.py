"""The exact ways to work out the attention that a `TokenLayout` allows; `token_layout` says what each is for."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import lru_cache
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor

from .explicit_attention import explicit_attention
from .out_of_memory import is_out_of_memory, tried
from .token_layout import Segments, TokenLayout, masked_layout, segments_of

Attention = Callable[..., Tensor]  # queries, keys, values (b, heads, n, d), perhaps attn_mask -> (b, heads, n, d)

MASKABLE = (F.scaled_dot_product_attention, explicit_attention)
HALF_TYPES = (torch.float16, torch.bfloat16)
FEW_ROWS = 4  # of a batch, for which one copy of the parts of all rows is still one kernel and few views
TOLERANCE = 0.05  # of half types against float32; one wrong key is off by much more

log = logging.getLogger(__name__)


def choose_form(
    attention: Attention, device: torch.device, dtype: torch.dtype, head: int, grad: bool, kept: bool
) -> str:
    """Return the form that is fastest here. `attention` of other packs may know no mask.

    `kept`: keys are kept between forwards.
    """
    if attention not in MASKABLE:
        return "runs"
    if device.type == "cuda" and not grad:
        return "varlen" if has_varlen(device, dtype, head) else "masked"
    if device.type == "cpu":
        return "settled" if kept else "masked"
    return "runs"  # with a mask, a backward or other devices lose flash


def attend(query: Tensor, key: Tensor, value: Tensor, layout: TokenLayout, attention: Attention) -> Tensor:
    """Attention `(b, tokens, heads, d) -> (b, queries, heads * d)`; rows of padding mean nothing.

    There may be fewer queries than keys: the missing ones are those of the first tokens.
    """
    if layout.segments is not None:
        return attend_segments(query, key, value, layout.segments)
    query, key, value = query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
    work = {"masked": attend_masked, "settled": attend_settled, "runs": attend_runs}[layout.form]
    return work(query, key, value, layout, attention)


def attend_masked(query: Tensor, key: Tensor, value: Tensor, layout: TokenLayout, attention: Attention) -> Tensor:
    """One call for the past and one for the last frame, from `(b, heads, n, d)`."""
    if layout.mask is None:
        return attention(query, key, value, attn_mask=layout.padding_mask).transpose(1, 2).flatten(2)
    queries, keys = layout.mask.shape[2:]
    past = attention(query[:, :, :queries], key[:, :, :keys], value[:, :, :keys], attn_mask=layout.mask)
    last = attention(query[:, :, queries:], key, value, attn_mask=layout.padding_mask)
    return torch.cat((past.transpose(1, 2), last.transpose(1, 2)), dim=1).flatten(2)


def attend_settled(query: Tensor, key: Tensor, value: Tensor, layout: TokenLayout, attention: Attention) -> Tensor:
    """A call for each frame that has its own and one for all others, from `(b, heads, n, d)`."""
    first = start = key.shape[2] - query.shape[2]
    real, parts = layout.padding_mask, []
    for end in layout.ends:
        mask = None if real is None else real[..., :end]
        rows = query[:, :, start - first : end - first]
        parts.append(attention(rows, key[:, :, :end], value[:, :, :end], attn_mask=mask))
        start = end
    if start < key.shape[2]:
        parts.append(attention(query[:, :, start - first :], key, value, attn_mask=layout.mask))
    return torch.cat([part.transpose(1, 2) for part in parts], dim=1).flatten(2)


def attend_runs(query: Tensor, key: Tensor, value: Tensor, layout: TokenLayout, attention: Attention) -> Tensor:
    """A call for every frame, from `(b, heads, n, d)`, rows with equally long texts together."""
    first = key.shape[2] - query.shape[2]
    order = sorted(range(len(layout.padding)), key=layout.padding.__getitem__)
    outputs: dict[int, Tensor] = {}
    for padding, group in groupby(order, key=layout.padding.__getitem__):
        rows = list(group)
        q, k, v = (take_rows(x, rows) for x in (query, key, value))
        start = max(first, padding)
        runs = [q.new_zeros(*q.shape[:2], start - first, v.shape[-1])] if start > first else []
        for end in layout.ends:
            runs.append(attention(q[:, :, start - first : end - first], k[:, :, padding:end], v[:, :, padding:end]))
            start = end
        joined = torch.cat(runs, dim=2) if len(runs) > 1 else runs[0]
        if len(rows) == len(order):
            return joined.transpose(1, 2).flatten(2)
        outputs.update(zip(rows, joined.unbind(), strict=True))
    return torch.stack([outputs[row] for row in range(len(order))]).transpose(1, 2).flatten(2)


def one_copy_joins(rows: int) -> bool:
    """Whether `join_tokens` is the way to join: many rows would be many views, and a compiler fuses by itself."""
    return rows <= FEW_ROWS and not torch.compiler.is_compiling()


def join_tokens(*pairs: tuple[Tensor, Tensor]) -> Tensor:
    """Join each pair `(b, n, heads, d)`, `(b, m, heads, d)` along its tokens, in one copy for all pairs and rows.

    Returns `(pairs, b, n + m, heads, d)`.
    """
    rows = len(pairs[0][0])
    parts = [part[row] for pair in pairs for row in range(rows) for part in pair]
    return torch.cat(parts).unflatten(0, (len(pairs), rows, -1))


def take_rows(x: Tensor, rows: list[int]) -> Tensor:
    """The `rows` of `x (b, ...)`, ascending; without a copy where they follow each other."""
    if rows[-1] - rows[0] == len(rows) - 1:
        return x[rows[0] : rows[-1] + 1]
    return torch.stack([x[row] for row in rows])


def attend_segments(query: Tensor, key: Tensor, value: Tensor, segments: Segments) -> Tensor:
    """One call of torch's flash kernel for all frames of all rows, from `(b, n, heads, d)`.

    The kernel reads `seqused_k` keys of a sequence from where they start, so sequences share theirs without a copy.
    """
    packed = (x.flatten(0, 1) for x in (query, key, value))
    longest = query.shape[1] if torch.compiler.is_compiling() else segments.longest  # a number would be compiled in
    starts = segments.query_starts, segments.key_starts, longest, key.shape[1]
    output = torch.ops.aten._flash_attention_forward(
        *packed, *starts, 0.0, False, False, seqused_k=segments.key_lengths
    )[0]
    return output.unflatten(0, query.shape[:2]).flatten(2)


def has_varlen(device: torch.device, dtype: torch.dtype, head: int) -> bool:
    """Whether `attend_segments` gives the right numbers here."""
    fits = device.type == "cuda" and dtype in HALF_TYPES and head % 8 == 0 and head <= 256
    return fits and tried(kernel_is_right, device, dtype, head)


@lru_cache(maxsize=16)
def kernel_is_right(device: torch.device, dtype: torch.dtype, head: int) -> bool:
    """Try the kernel on three times of two rows, one with padding; makes the device wait once a process.

    That keys may be shared is not written in torch's documentation, and older or other builds may not do it.
    """
    padding, ends, first = (0, 3), (40, 200, 300), 5
    with torch.inference_mode(False), torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        lengths = ends[-1] - first, ends[-1], ends[-1]
        query, key, value = (torch.randn(2, n, 2, head, generator=generator).to(dtype) for n in lengths)
        exact = attend_masked(
            query.float().transpose(1, 2),
            key.float().transpose(1, 2),
            value.float().transpose(1, 2),
            masked_layout(padding, ends, first, torch.device("cpu")),
            F.scaled_dot_product_attention,
        )
        try:
            segments = segments_of(padding, ends, first, device)
            output = attend_segments(query.to(device), key.to(device), value.to(device), segments).cpu().float()
            right = bool((output - exact).abs().max() < TOLERANCE)
        except (RuntimeError, NotImplementedError, TypeError) as error:
            if is_out_of_memory(error):
                raise
            log.info("Pyramid Video: no varlen attention on %s (%s); another form is used", device, error)
            return False
    if not right:
        log.info("Pyramid Video: varlen attention on %s reads other keys than it should; it is not used", device)
    return right
