"""A VGG16 whose weights are drawn from a seed, as a file with the names of torchvision."""

from __future__ import annotations

from pathlib import Path

import torch
from pyramid_video.models.perceptual import BLOCKS, layer_numbers
from safetensors.torch import save_file
from torch import Tensor


def vgg_state(seed: int = 0) -> dict[str, Tensor]:
    """Convolutions that keep the size of what goes through, with small biases."""
    generator, state, inputs = torch.Generator().manual_seed(seed), {}, 3
    for place, outputs in zip(layer_numbers(), (width for block in BLOCKS for width in block), strict=True):
        weight = torch.randn(outputs, inputs, 3, 3, generator=generator) * (2 / (9 * inputs)) ** 0.5
        state[f"features.{place}.weight"] = weight
        state[f"features.{place}.bias"] = torch.randn(outputs, generator=generator) * 0.1
        inputs = outputs
    return state


def linear_state(seed: int = 1) -> dict[str, Tensor]:
    """Positive weights of the features, with the names of LPIPS."""
    generator = torch.Generator().manual_seed(seed)
    widths = [block[-1] for block in BLOCKS]
    return {f"lin{i}.model.1.weight": torch.rand(1, n, 1, 1, generator=generator) for i, n in enumerate(widths)}


def write_vgg(path: Path, **more: Tensor) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({**vgg_state(), **more}, path)
    return path
