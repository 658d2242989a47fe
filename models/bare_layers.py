"""torch's layers without the drawing of initial weights, for networks that are given their weights at once.

Drawing them is not only wasted: for an embedding on the meta device it loads torch's compiler, which takes 2 seconds.
"""

from __future__ import annotations

from torch import nn


class Bare:
    """Put in front of a layer, leaves its parameters as they were allocated."""

    def reset_parameters(self) -> None:
        pass


class Linear(Bare, nn.Linear):
    pass


class Conv2d(Bare, nn.Conv2d):
    pass


class Conv3d(Bare, nn.Conv3d):
    pass


class GroupNorm(Bare, nn.GroupNorm):
    pass


class LayerNorm(Bare, nn.LayerNorm):
    pass


class RMSNorm(Bare, nn.RMSNorm):
    pass


class Embedding(Bare, nn.Embedding):
    pass
