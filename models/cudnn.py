"""Convolutions of clips by cuDNN, on cards with a torch that leaves it out.

In half types torch 2.9 and later do without cuDNN 9.8 to 9.14 for kernels of three axes: some of its kernels are wrong
where channels lie in front (issue 163539 of torch). What takes its place (vol2col) copies every value once for each
place of the kernel, 27 times. Where channels lie last cuDNN is right, and newer versions of torch use it there.
"""

from __future__ import annotations

from functools import cache
from typing import cast

import torch
from torch import Tensor, nn

HALF_TYPES = (torch.float16, torch.bfloat16)
FIRST_TORCH, LAST_STRICT = (2, 9), (2, 9)  # the latter does without every later cuDNN too
WRONG, RIGHT = 90800, 91500  # the first versions of cuDNN that are


class Conv3d(nn.Conv3d):
    """torch's, by cuDNN where it would do without, and nothing has to be learned."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if not is_left_out(input, weight):
            return super()._conv_forward(input, weight, bias)
        last = torch.channels_last_3d
        output = torch.cudnn_convolution(
            input.contiguous(memory_format=last),
            weight.contiguous(memory_format=last),
            cast("tuple[int, ...]", self.padding),
            self.stride,
            self.dilation,
            self.groups,
            benchmark=torch.backends.cudnn.benchmark,
            deterministic=torch.backends.cudnn.deterministic,
            allow_tf32=False,  # half types are not rounded to it
        )
        return output if bias is None else output.add_(bias[:, None, None, None])


def is_left_out(x: Tensor, weight: Tensor) -> bool:
    """Whether torch would convolve `x (b, c, t, h, w)` without cuDNN, which could do it."""
    if torch.compiler.is_compiling() or x.device.type != "cuda" or x.dtype not in HALF_TYPES:
        return False
    learns = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    return not learns and x.dtype == weight.dtype and torch.backends.cudnn.enabled and avoids_cudnn()


@cache
def avoids_cudnn() -> bool:
    """Whether this torch avoids the cuDNN that it comes with."""
    version = None if torch.version.hip else torch.backends.cudnn.version()
    return version is not None and is_avoided(torch.__version__, version)


def is_avoided(torch_version: str, cudnn_version: int) -> bool:
    """Whether this version of torch does without this version of cuDNN."""
    major, minor = (int(part) for part in torch_version.split(".")[:2])
    if (major, minor) < FIRST_TORCH or cudnn_version < WRONG:
        return False
    return (major, minor) <= LAST_STRICT or cudnn_version < RIGHT
