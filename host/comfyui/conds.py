"""Texts of different lengths in one batch of the host."""

from __future__ import annotations

from typing import Any

import comfy.conds
import torch
from torch import Tensor

from ...models.text_features import lengths_to_mask


class PaddedText(comfy.conds.CONDRegular):
    """Tokens `(b, n, d)` that may stand in one batch with a longer text: the shorter is filled up with zeros."""

    def can_concat(self, other: PaddedText) -> bool:
        return self.cond.shape[2:] == other.cond.shape[2:]

    def concat(self, others: list[PaddedText]) -> Tensor:
        rows = [self.cond, *(other.cond for other in others)]
        longest = max(row.shape[1] for row in rows)
        return torch.cat([pad_tokens(row, longest) for row in rows])


class TextLengths(comfy.conds.CONDRegular):
    """How many tokens of each row are real: plain numbers, because the network's masks are made on the CPU."""

    def process_cond(self, batch_size: int, **kw: Any) -> TextLengths:
        rows = len(self.cond)
        return TextLengths(tuple(self.cond[row % rows] for row in range(batch_size)))

    def can_concat(self, other: TextLengths) -> bool:
        return True

    def concat(self, others: list[TextLengths]) -> tuple[int, ...]:
        return sum((other.cond for other in others), self.cond)

    def size(self) -> list[int]:
        return [len(self.cond)]


def without_padding(tokens: Tensor, mask: Tensor | None) -> tuple[Tensor, tuple[int, ...]]:
    """Tokens `(b, n, d)` with the real ones in front, and how many are real in each row."""
    if mask is None or mask.shape != tokens.shape[:2]:  # core blocks that join texts do not join their masks
        return tokens, (tokens.shape[1],) * tokens.shape[0]
    rows = [row[real] for row, real in zip(tokens, mask.bool().to(tokens.device), strict=True)]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), tuple(len(row) for row in rows)


def text_mask(lengths: tuple[int, ...], tokens: int) -> Tensor | None:
    """Which of so many tokens of each row are real, `(b, tokens)` on the CPU; None where all are."""
    if min(lengths) == tokens:
        return None
    return lengths_to_mask(torch.tensor(lengths), tokens)


def pad_tokens(rows: Tensor, length: int) -> Tensor:
    """Append zeros to `(b, n, d)` until there are `length` tokens."""
    return torch.nn.functional.pad(rows, (0, 0, 0, length - rows.shape[1]))
