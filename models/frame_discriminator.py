"""Tells real frames from decoded ones, patch by patch (PatchGAN: Isola et al. 2017, pix2pix)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

START_DEVIATION = 0.02  # of the weights, as pix2pix starts them


class FrameDiscriminator(nn.Module):
    """Stride-2 convolutions, then two of stride 1; each output scores one patch of a frame.

    `widths` are the channels after each halving. Frames must be at least 4 * 2^len(widths) pixels high and wide.
    """

    def __init__(self, widths: tuple[int, ...] = (64, 128, 256)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for number, (inputs, outputs) in enumerate(zip((3, *widths), (*widths, widths[-1]), strict=True)):
            layers.append(nn.Conv2d(inputs, outputs, 4, stride=2 if number < len(widths) else 1, padding=1))
            if number > 0:
                layers.append(nn.InstanceNorm2d(outputs))
            layers.append(nn.LeakyReLU(0.2))
        layers.append(nn.Conv2d(widths[-1], 1, 4, padding=1))
        self.layers = nn.Sequential(*layers)
        self.smallest = 4 * 2 ** len(widths)

    def forward(self, video: Tensor, features: list[Tensor] | None = None) -> Tensor:
        """Scores `(frames, 1, rows, columns)` of every frame of `video (b, 3, t, h, w)` in -1..1; high means real.

        Its features, the outputs of all layers but the last, are added to the list `features`, if one is given.
        """
        self.check_size(*video.shape[-2:])
        x = video.transpose(1, 2).flatten(0, 1)
        for layer in self.layers:
            x = layer(x)
            if features is not None and isinstance(layer, nn.LeakyReLU):
                features.append(x)
        return x

    def check_size(self, height: int, width: int) -> None:
        """Raise ValueError for frames that are too small."""
        if min(height, width) < self.smallest:
            raise ValueError(
                f"this discriminator needs frames of at least {self.smallest} pixels, got {(height, width)}; "
                "take larger clips, or fewer widths"
            )


@torch.no_grad()
def init_weights(network: FrameDiscriminator, generator: torch.Generator) -> None:
    """Set every weight for training from nothing, from a CPU generator."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.copy_(START_DEVIATION * torch.randn(module.weight.shape, generator=generator))
            assert module.bias is not None  # as all are made above
            module.bias.zero_()
