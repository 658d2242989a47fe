"""torch's layers without the drawing of initial weights, for networks that are given their weights at once.

Drawing them is not only wasted: for an embedding on the meta device it loads torch's compiler, which takes 2 seconds.
"""

from __future__ import annotations

from torch import nn

from . import cudnn


class SkipInit:
    """Put in front of a layer, leaves its parameters as they were allocated."""

    def reset_parameters(self) -> None:
        pass


class Linear(SkipInit, nn.Linear):
    pass


class Conv2d(SkipInit, nn.Conv2d):
    pass


class Conv3d(SkipInit, cudnn.Conv3d):
    pass


class GroupNorm(SkipInit, nn.GroupNorm):
    pass


class LayerNorm(SkipInit, nn.LayerNorm):
    pass


class RMSNorm(SkipInit, nn.RMSNorm):
    pass


class Embedding(SkipInit, nn.Embedding):
    pass
