"""Which tokens attend to which in one forward of Pyramid Flow, and how few attention calls do it.

A token may look at real text and at the image tokens of its own and earlier frames; text and frame 0 share time 0. In
the sequence [text, frame 0, frame 1, ...] that is a prefix of the keys, the same for all tokens of a frame. There are
four exact ways to compute it:

- "varlen": one call of a fused kernel for everything, each frame a sequence whose keys begin where its row's text does.
- "masked": one call with a mask for the past and one without for the last frame, which has most queries. Their
  shapes hardly change from unit to unit, which compilers need.
- "settled": a call for each frame whose keys are kept for later units, then one with a mask for all others, or a call
  for each of them too where they are large. What a frame is multiplied with does not depend on the frames after it, so
  a CPU rounds it alike in every unit.
- "runs": a plain call for each frame and length of text: for attention functions that may know no mask, and for
  training on a device, where a mask would cost the flash kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from .rotary import Grid

LARGE = 128  # tokens of a frame whose pairs with later frames cost more than another call


@dataclass(frozen=True)
class Segments:
    """The frames of all rows as sequences of a varlen kernel; `starts` and `lengths` are int32 on the device."""

    query_starts: Tensor  # (sequences + 1,)
    key_starts: Tensor  # (sequences + 1,), the last of no consequence
    key_lengths: Tensor  # (sequences,)
    longest: int  # of the queries


@dataclass(frozen=True, eq=False)
class TokenLayout:
    """Which keys each query may look at. `padding` are the first tokens of each row that are no text.

    A form fills in what it needs and nothing else: compilers look at all numbers here.
    """

    form: str
    padding: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()  # where in the sequence the tokens of each time end, of those with queries
    mask: Tensor | None = None  # (1 or b, 1, queries of several times, their keys), True = may look
    padding_mask: Tensor | None = None  # (b, 1, 1, keys); None: all keys
    segments: Segments | None = None


def frame_ends(text_tokens: int, grids: Sequence[Grid], causal: bool) -> tuple[int, ...]:
    """Return where the tokens of each time position end; without `causal` all share one."""
    ends, end = [], text_tokens
    for frames, rows, columns in grids:
        for _ in range(frames):
            end += rows * columns
            ends.append(end)
    return tuple(ends) if causal else (end,)


# All steps of a stage share a layout; hosts that are short of memory evaluate two prompts apart.
@lru_cache(maxsize=4)
def token_layout(
    form: str, padding: tuple[int, ...], ends: tuple[int, ...], first: int, settled: int, device: torch.device
) -> TokenLayout:
    """Return the layout of rows with `padding`, for queries from token `first` on; tensors are on `device`.

    The first `settled` tokens are those whose keys are kept for later units.
    """
    querying = tuple(end for end in ends if end > first)
    with torch.inference_mode(False), torch.no_grad():  # made while sampling, it must also serve training
        if form == "varlen":
            return TokenLayout(form, segments=segments_of(padding, querying, first, device))
        if form == "masked":
            return masked_layout(padding, querying, first, device)
        if form == "settled":
            large = ends[-1] - max((0, *ends[:-1])) >= LARGE
            return settled_layout(padding, querying, ends[-1] if large else max(first, settled), device)
    return TokenLayout(form, padding, querying)


def masked_layout(padding: tuple[int, ...], ends: tuple[int, ...], first: int, device: torch.device) -> TokenLayout:
    """The layout of two calls: a mask for all times but the last."""
    real = padding_mask(padding, ends[-1], device)
    mask = mask_of(ends[:-1], first, device)
    if mask is not None and real is not None:
        mask = mask & real[..., : ends[-2]]
    return TokenLayout("masked", mask=mask, padding_mask=real)


def settled_layout(padding: tuple[int, ...], ends: tuple[int, ...], first: int, device: torch.device) -> TokenLayout:
    """The layout of a call for each time up to token `first`, and of one mask for all after it."""
    real = padding_mask(padding, ends[-1], device)
    mask = mask_of(tuple(end for end in ends if end > first), first, device)
    if mask is not None and real is not None:
        mask = mask & real
    return TokenLayout("settled", ends=tuple(end for end in ends if end <= first), mask=mask, padding_mask=real)


def mask_of(ends: tuple[int, ...], first: int, device: torch.device) -> Tensor | None:
    """`(1, 1, queries, keys)` of all times that end at `ends`, from token `first` on; None where there are none."""
    if not ends:
        return None
    sizes = torch.tensor([end - start for start, end in zip((first, *ends), ends, strict=False)])
    visible = torch.tensor(ends).repeat_interleave(sizes)
    return (torch.arange(ends[-1]) < visible[:, None])[None, None].to(device)


def padding_mask(padding: tuple[int, ...], tokens: int, device: torch.device) -> Tensor | None:
    """`(b, 1, 1, tokens)`: everything but padding; None where there is none."""
    if not any(padding):
        return None
    return (torch.arange(tokens) >= torch.tensor(padding)[:, None, None, None]).to(device)


def segments_of(padding: tuple[int, ...], ends: tuple[int, ...], first: int, device: torch.device) -> Segments:
    """Every time of every row as a sequence; queries of padding go along with the first and are read by nobody."""
    total, starts = ends[-1], (first, *ends[:-1])
    count = total - first
    queries: list[int] = []
    keys: list[int] = []
    lengths: list[int] = []
    for row, hidden in enumerate(padding):
        queries += [row * count + start - first for start in starts]
        keys += [row * total + hidden] * len(ends)
        lengths += [end - hidden for end in ends]

    def numbers(values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int32).to(device)

    return Segments(
        numbers([*queries, len(padding) * count]),
        numbers([*keys, len(padding) * total]),
        numbers(lengths),
        longest=max(end - start for start, end in zip(starts, ends, strict=True)),
    )


@lru_cache(maxsize=8)
def text_order(real: tuple[tuple[bool, ...], ...], device: torch.device) -> tuple[tuple[int, ...], Tensor | None]:
    """How to leave the padding of texts out: the padding of each row that stays, and where its tokens are.

    `real` says of each token of each row whether it is text. Rows are cut to the longest, `(b, longest)` indices with
    the real ones last, next to the image: then the keys of a row are contiguous. In front of them one is repeated,
    which a mask hides, so that what stands in padding is never read. Text tokens all sit at position 0, so their order
    is of no consequence. None: all tokens are text.
    """
    lengths = [sum(row) for row in real]
    longest = max(lengths)
    padding = tuple(longest - length for length in lengths)
    if min(lengths) == len(real[0]):
        return padding, None
    with torch.inference_mode(False), torch.no_grad():
        order = torch.tensor(real).int().argsort(dim=1, stable=True)[:, len(real[0]) - longest :]
        return padding, torch.where(torch.arange(longest) < torch.tensor(padding)[:, None], order[:, -1:], order).to(
            device
        )


def in_order(text: Tensor, order: Tensor | None) -> Tensor:
    """The tokens of `text (b, n, d)` that `text_order` chose, `(b, longest, d)`; all where it chose none."""
    return text if order is None else text.gather(1, order.unsqueeze(-1).expand(-1, -1, text.shape[-1]))
