"""Tells real latent clips from made ones, over space and time, given what they should show."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SLOPE = 0.2  # of leaky ReLUs


class ResidualBlock(nn.Module):
    """Two convolutions over space and time beside a shortcut, then rows and columns halved where `halve` is set.

    No normalisation: with gradient penalties it does harm (Huang et al. 2024, arXiv 2501.05441, section 4.2).
    """

    def __init__(self, inputs: int, outputs: int, halve: bool) -> None:
        super().__init__()
        self.halve = halve
        self.first = nn.Conv3d(inputs, outputs, 3, padding=(0, 1, 1))
        self.second = nn.Conv3d(outputs, outputs, 3, padding=(0, 1, 1))
        self.shortcut = nn.Conv3d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        inside = self.second(beyond_ends(F.leaky_relu(self.first(beyond_ends(F.leaky_relu(x, SLOPE))), SLOPE)))
        x = (self.shortcut(x) + inside) * math.sqrt(0.5)
        return F.avg_pool3d(x, (1, 2, 2)) if self.halve else x


def beyond_ends(x: Tensor) -> Tensor:
    """`x (b, c, t, h, w)` with a frame of zeros before and after it.

    The convolution could pad time itself; in bfloat16 on a CPU its weights then get gradients out of unset memory for
    clips of two frames (torch 2.13 and 2.14).
    """
    return F.pad(x, (0, 0, 0, 0, 1, 1))


class VideoDiscriminator(nn.Module):
    """A score for each clip: how real it looks, plus how well it fits the text (Miyato and Koyama 2018, 1802.05637).

    `widths` are the channels of the blocks; between two of them rows and columns halve, so clips must have
    `2^(len(widths) - 1)` of each at least.
    """

    def __init__(
        self,
        channels: int,
        pooled_width: int,
        widths: tuple[int, ...] = (64, 128, 128),
    ) -> None:
        super().__init__()
        self.smallest = 2 ** (len(widths) - 1)
        self.stem = nn.Conv3d(channels, widths[0], 1)
        pairs = zip((widths[0], *widths), widths, strict=False)
        self.blocks = nn.ModuleList(
            ResidualBlock(inputs, outputs, number < len(widths) - 1) for number, (inputs, outputs) in enumerate(pairs)
        )
        self.score = nn.Linear(widths[-1], 1)
        self.text = nn.Linear(pooled_width, widths[-1], bias=False)

    def forward(self, clip: Tensor, pooled: Tensor) -> Tensor:
        """Scores `(..., b)` of normalised latents `(b, c, t, h, w)` that belong to `pooled (..., b, p)`.

        High means real.
        """
        if min(clip.shape[-2:]) < self.smallest:
            raise ValueError(
                f"this discriminator needs latents of at least {self.smallest} rows and columns, got "
                f"{tuple(clip.shape[-2:])}; take larger clips, or fewer widths"
            )
        x = self.stem(clip)
        for block in self.blocks:
            x = block(x)
        return text_score(F.leaky_relu(x, SLOPE).mean((2, 3, 4)), pooled, self.score, self.text)


def text_score(features: Tensor, pooled: Tensor, score: nn.Linear, text: nn.Linear) -> Tensor:
    """Scores `(..., b)` of clips with `features (b, f)`: how real they look, and how well they fit `(..., b, p)`."""
    fit = (features * text(pooled)).sum(-1) / math.sqrt(features.shape[1])
    return score(features).squeeze(1) + fit


@torch.no_grad()
def init_weights(network: nn.Module, generator: torch.Generator) -> None:
    """Set every weight for training from nothing, from a CPU generator; signals keep their size from layer to layer."""
    for module in network.modules():
        if isinstance(module, nn.Conv3d | nn.Linear):
            deviation = math.sqrt(1 / module.weight[0].numel())
            module.weight.copy_(deviation * torch.randn(module.weight.shape, generator=generator))
            if module.bias is not None:
                module.bias.zero_()
