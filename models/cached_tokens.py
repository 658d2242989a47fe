"""What stays the same from unit to unit: keys and values of the text and of old frames, and what modulates all tokens.

Attention is causal over frames and the timesteps of a stage repeat, so at the same stage and step the next unit would
work out the same numbers again, to the last bit. They are kept instead. The vectors of adaptive norms depend on the
timestep and the prompt alone; their linears hold a quarter to a third of a network's weights.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from .attention_forms import join_tokens, one_copy_joins


@dataclass(frozen=True, eq=False)
class CachedTokens:
    """What one forward takes over from an earlier unit, and what it leaves to the next; text comes first."""

    past: Tensor | None = None  # (layers, 2, b, tokens, heads, d), rotated keys and values of the first tokens
    fresh: Tensor | None = None  # to be filled with those of the tokens that follow
    settled: int = 0  # how many of the first tokens are worth keeping, or would be if there was room
    modulation: dict[int, tuple[Tensor, ...]] = field(default_factory=dict)  # vectors of adaptive norms, by number

    @property
    def tokens(self) -> int:
        """How many tokens are taken over."""
        return 0 if self.past is None else self.past.shape[3]

    def join(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Put what was kept in front of keys and values `(b, n, heads, d)`, and keep what is to be kept of them."""
        if self.fresh is not None:
            count = self.fresh.shape[3]
            self.fresh[layer, 0].copy_(key[:, :count])
            self.fresh[layer, 1].copy_(value[:, :count])
        if self.past is None:
            return key, value
        past_key, past_value = self.past[layer].unbind()
        if not one_copy_joins(len(key)):
            return torch.cat((past_key, key), dim=1), torch.cat((past_value, value), dim=1)
        keys, values = join_tokens((past_key, key), (past_value, value)).unbind()
        return keys, values
