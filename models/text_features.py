"""What a network reads of texts: one object, wherever it comes from and wherever it goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


@dataclass(frozen=True, eq=False)
class TextFeatures:
    """Features of texts, one row for each row of the batch that a network reads beside them.

    `tokens` is (rows, n, d); `mask` (rows, n) has 1 where a token is real and stays on the CPU, where networks plan
    their attention; it is None where nothing is padded or the padding is read too. `pooled` is (rows, p), or None for
    networks that read no vector of a whole text.
    """

    tokens: Tensor
    mask: Tensor | None
    pooled: Tensor | None

    @classmethod
    def padded(cls, tokens: Sequence[Tensor], pooled: Sequence[Tensor]) -> TextFeatures:
        """Texts of any length, tokens (n, d) and a vector (p,) each, padded with 0 to the longest."""
        lengths = torch.tensor([len(row) for row in tokens])
        stacked = pad_sequence(list(tokens), batch_first=True)
        longest = stacked.shape[1]
        mask = None if (lengths == longest).all() else lengths_to_mask(lengths, longest)
        return cls(stacked, mask, torch.stack(list(pooled)))

    @classmethod
    def cat(cls, parts: Sequence[TextFeatures]) -> TextFeatures:
        """The rows of all parts, which are padded alike and have the same fields."""
        return cls(
            torch.cat([part.tokens for part in parts]),
            None if parts[0].mask is None else torch.cat([part.mask for part in parts if part.mask is not None]),
            None if parts[0].pooled is None else torch.cat([part.pooled for part in parts if part.pooled is not None]),
        )

    def __len__(self) -> int:
        return len(self.tokens)

    def rows(self, chosen: slice) -> TextFeatures:
        """Some of the rows."""
        return TextFeatures(
            self.tokens[chosen],
            None if self.mask is None else self.mask[chosen],
            None if self.pooled is None else self.pooled[chosen],
        )

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> TextFeatures:
        """The same features on another device, in another type; the mask stays where it is."""
        pooled = None if self.pooled is None else self.pooled.to(device, dtype)
        return TextFeatures(self.tokens.to(device, dtype), self.mask, pooled)


def lengths_to_mask(lengths: Tensor, tokens: int) -> Tensor:
    """The mask `(rows, tokens)` of rows with so many real tokens in front: integers, 1 = real, on the CPU."""
    return (torch.arange(tokens) < lengths[:, None]).long()
