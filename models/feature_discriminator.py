"""Tells real latent clips from made ones by what a trained transformer sees in them.

Latent adversarial diffusion distillation (Sauer et al. 2024, arXiv 2403.12015): noise is added to a clip, a transformer
that is not trained reads it with its text, and small heads judge its tokens. The transformer knows what the words mean
and how things look, which a discriminator that begins with random weights has to find out while the generator fools it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .attention import last_tokens
from .layers import patch_grid
from .rotary import Grid
from .text_features import TextFeatures
from .video_discriminator import SLOPE, ResidualBlock, text_score

HEAD_CHANNELS = 48


class FeatureHead(nn.Module):
    """A score for the tokens of one depth: a linear to few channels, a residual block over space and time, a mean."""

    def __init__(self, width: int, pooled_width: int) -> None:
        super().__init__()
        self.reduce = nn.Conv3d(width, HEAD_CHANNELS, 1)
        self.block = ResidualBlock(HEAD_CHANNELS, HEAD_CHANNELS, False)
        self.score = nn.Linear(HEAD_CHANNELS, 1, bias=False)  # pairs of scores would not see one
        self.text = nn.Linear(pooled_width, HEAD_CHANNELS, bias=False)

    def forward(self, tokens: Tensor, pooled: Tensor) -> Tensor:
        """Scores `(..., b)` of tokens `(b, width, t, h, w)` beside texts `(..., b, p)`."""
        features = F.leaky_relu(self.block(self.reduce(tokens)), SLOPE).mean((2, 3, 4))
        return text_score(features, pooled, self.score, self.text)


class FeatureDiscriminator(nn.Module):
    """Scores for what a `FrozenTransformer` sees after half of its blocks and after all, from a head for each."""

    def __init__(self, width: int, pooled_width: int) -> None:
        super().__init__()
        self.middle = FeatureHead(width, pooled_width)
        self.end = FeatureHead(width, pooled_width)

    def forward(self, middle: Tensor, end: Tensor, pooled: Tensor) -> Tensor:
        """Scores `(..., b)` of tokens `(b, width, t, h, w)` that belong to `pooled (..., b, p)`; high means real."""
        return (self.middle(middle, pooled) + self.end(end, pooled)) / 2


class FrozenTransformer:
    """A copy of a transformer of Pyramid Flow that only looks: its weights are never trained, nor in a run's state."""

    def __init__(self, network: Any) -> None:
        self.network = deepcopy(network).requires_grad_(False).eval()
        blocks: Sequence[nn.Module] = self.network.blocks
        self.depths = (blocks[(len(blocks) - 1) // 2], blocks[-1])

    def to(self, device: torch.device) -> None:
        """Move what looks to a device."""
        self.network.to(device)

    def features(self, clip: Tensor, timestep: Tensor, text: TextFeatures) -> tuple[Tensor, ...]:
        """Tokens `(b, width, t, h, w)` of a noisy `clip (b, c, t, h, w)` after half of the blocks and after all.

        They are normalised over the width, so that heads and their penalties are alike for every network.
        """
        grid, outputs = patch_grid(clip), []
        hooks = [block.register_forward_hook(lambda *call: outputs.append(call[-1])) for block in self.depths]
        try:
            self.network((clip,), timestep, text.tokens, text.mask, text.pooled)
        finally:
            for hook in hooks:
                hook.remove()
        return tuple(self.tokens(output, grid) for output in outputs)

    @staticmethod
    def tokens(output: Tensor | tuple[Tensor, ...], grid: Grid) -> Tensor:
        """The tokens of the clip in what a block gives back: `(b, width, *grid)`, normalised over the width."""
        x = output[0] if isinstance(output, tuple) else output
        x = last_tokens(x, math.prod(grid)).float()  # the text comes first
        return F.layer_norm(x, x.shape[-1:]).transpose(1, 2).unflatten(2, grid)
