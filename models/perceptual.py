"""How different two clips look: LPIPS (Zhang et al. 2018, arXiv 1801.03924) on the features of the user's own VGG16.

The VGG16 (Simonyan and Zisserman 2015) was trained on photographs; its convolutions are read from a safetensors file
with the names of torchvision and timm (`features.0.weight`, ...) or of LPIPS itself (`net.slice1.0.weight`, ...). LPIPS
weighs the features by linear layers (`lin0.model.1.weight`, ...), where a file brings them; else all count alike.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .checkpoint_files import CheckpointError, WeightFiles, is_safetensors, read_tensors, scan

BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))  # channels of the convolutions
MEAN = (-0.030, -0.088, -0.188)  # of ImageNet's red, green and blue in -1..1, as LPIPS has them
DEVIATION = (0.458, 0.448, 0.450)
SMALLEST = 2 ** (len(BLOCKS) - 1)  # pixels; the last block sees frames halved four times
EPSILON = 1e-10
CONVOLUTION = re.compile(r"(?:features|net\.slice\d)\.(\d+)\.(weight|bias)")
LINEAR = re.compile(r"lin([0-4])\.model\.1\.weight")


class PerceptualDistance(nn.Module):
    """Squared differences of unit-length features after each block of convolutions; the same clip is at distance 0."""

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        widths = [3, *(width for block in BLOCKS for width in block)]
        shapes = iter(zip(widths, widths[1:], strict=False))
        self.blocks = nn.ModuleList(
            nn.ModuleList(nn.Conv2d(*next(shapes), 3, padding=1) for _ in block) for block in BLOCKS
        )
        self.linear = nn.ParameterList(torch.ones(block[-1]) for block in BLOCKS)
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("deviation", torch.tensor(DEVIATION).view(1, 3, 1, 1))
        self.requires_grad_(False)

    def forward(self, video: Tensor, other: Tensor) -> Tensor:
        """Mean distance of the frames of two videos `(b, 3, t, h, w)` in -1..1."""
        if min(video.shape[-2:]) < SMALLEST:
            raise ValueError(f"frames of {tuple(video.shape[-2:])} pixels are too small for VGG16; from {SMALLEST} on")
        pairs = zip(self.features(video), self.features(other), strict=True)
        return sum(
            ((own - theirs).square() * weight.view(1, -1, 1, 1)).sum(1).mean()
            for (own, theirs), weight in zip(pairs, self.linear, strict=True)
        )

    def features(self, video: Tensor) -> list[Tensor]:
        """Features after each block, `(b t, channels, rows, columns)`, of length 1 at every place."""
        x, found = (video.transpose(1, 2).flatten(0, 1) - self.mean) / self.deviation, []
        for number, block in enumerate(self.blocks):
            x = F.max_pool2d(x, 2) if number else x
            for convolution in block.children():
                x = F.relu(convolution(x))
            length = x.float().square().sum(1, keepdim=True).sqrt()
            found.append(x.float() / (length + EPSILON))
        return found


def load_perceptual(path: Path, linear: Path | None = None) -> PerceptualDistance:
    """Read VGG16 from `path`, and linear weights from `linear`, or from `path` if it has them.

    CheckpointError says what another file is or lacks.
    """
    network = PerceptualDistance()
    layers = dict(zip(layer_numbers(), (layer for block in network.blocks for layer in block.children()), strict=True))
    wanted = {(place, name): value for place, layer in layers.items() for name, value in layer.named_parameters()}
    files = scan_plain(path)
    names = {(int(match[1]), match[2]): key for key in files.tensors if (match := CONVOLUTION.fullmatch(key))}
    if missing := wanted.keys() - names.keys():
        place, name = min(missing)
        raise CheckpointError(
            f"{path} is no VGG16: it lacks {len(missing)} of {len(wanted)} tensors, first features.{place}.{name}; "
            "vgg16.tv_in1k of timm is one"
        )
    copy_into(files, {names[at]: parameter for at, parameter in wanted.items()})
    brought = files if linear is None else scan_plain(linear)
    weights = {key: network.linear[int(match[1])] for key in brought.tensors if (match := LINEAR.fullmatch(key))}
    if len(weights) not in ((0, len(BLOCKS)) if linear is None else (len(BLOCKS),)):
        raise CheckpointError(
            f"{brought.files[0]} holds {len(weights)} of the {len(BLOCKS)} linear weights of LPIPS, which are called "
            "lin0.model.1.weight to lin4.model.1.weight"
        )
    copy_into(brought, weights)
    return network


def layer_numbers() -> list[int]:
    """Places of the convolutions in torchvision's list, where a ReLU follows each and a pooling each block."""
    numbers: list[int] = []
    place = 0
    for block in BLOCKS:
        numbers += range(place, place + 2 * len(block), 2)
        place += 2 * len(block) + 1
    return numbers


def scan_plain(path: Path) -> WeightFiles:
    """Names and shapes of a safetensors file; others are refused, and never opened."""
    if not is_safetensors(path):
        raise CheckpointError(
            f"{path} is not read here: weights of a loss come from safetensors files; save its tensors as one"
        )
    return scan((path,))


@torch.no_grad()
def copy_into(files: WeightFiles, targets: dict[str, nn.Parameter]) -> None:
    """Fill parameters with the tensors of these names; linear weights lie there as convolutions of 1 to 1 pixels."""
    for key, parameter in targets.items():
        stored, own = files.tensors[key], tuple(parameter.shape)
        if stored.dtype is None or stored.shape not in (own, (1, *own, 1, 1)):
            raise CheckpointError(
                f"{stored.file} is another network: its {key} has the shape {stored.shape}, here it has {own}"
            )
    for key, tensor in read_tensors(files, list(targets)):
        if not torch.isfinite(tensor.float()).all():
            raise CheckpointError(f"{files.tensors[key].file} holds NaN or infinite numbers in {key}")
        targets[key].copy_(tensor.float().view_as(targets[key]))
