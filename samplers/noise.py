"""Noise for a pyramid: white, correlated in 2x2 blocks, halved and doubled between resolutions.

Every row of a batch has its own CPU generator, so a clip is the same alone and in a batch, and the same on every
device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from einops import reduce, repeat
from torch import Tensor

from .seeds import LARGEST_SEED
from .stages import check_gamma

Generators = Sequence[torch.Generator]
ALONG_THE_WAY = 0x9E3779B9  # sets noise drawn while sampling apart from the initial noise of the same seed


def halve(x: Tensor) -> Tensor:
    """Halve rows and columns of (..., h, w): the mean of every 2x2 block, as bilinear resizing to half gives."""
    if x.shape[-2] % 2 or x.shape[-1] % 2:
        raise ValueError(f"{x.shape[-2]} rows and {x.shape[-1]} columns cannot be halved; both must be even")
    return reduce(x, "... (h p) (w q) -> ... h w", "mean", p=2, q=2)


def double(x: Tensor) -> Tensor:
    """Double rows and columns of (..., h, w) by repeating every value in a 2x2 block."""
    return repeat(x, "... h w -> ... (h p) (w q)", p=2, q=2)


def pyramid(x: Tensor, count: int) -> tuple[Tensor, ...]:
    """`x` at `count` resolutions, coarsest first, each the halved next one."""
    levels = [x]
    for _ in range(count - 1):
        levels.append(halve(levels[-1]))
    return tuple(reversed(levels))


def noise_pyramid(x: Tensor, count: int) -> tuple[Tensor, ...]:
    """White noise `x` at `count` resolutions, coarsest first, white at each."""
    return tuple(2 ** (count - 1 - stage) * level for stage, level in enumerate(pyramid(x, count)))


def seed_generator(seed: int) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(seed & LARGEST_SEED)


def row_seeds(seed: int, batch: int, numbers: Sequence[int] | None = None) -> list[int]:
    """The seed of every row: `seed` and the row's number, which a LATENT cut out of a batch has as `batch_index`."""
    if numbers is None or len(numbers) != batch:
        numbers = range(batch)
    return [seed + int(number) for number in numbers]


def row_generators(seed: int, batch: int, numbers: Sequence[int] | None = None) -> tuple[torch.Generator, ...]:
    """One CPU generator per row for noise drawn on the way; it depends on the row's seed, not on the initial noise."""
    return tuple(seed_generator(each ^ ALONG_THE_WAY) for each in row_seeds(seed, batch, numbers))


def draw_noise(shape: Sequence[int], seed: int, numbers: Sequence[int] | None = None) -> Tensor:
    """White float32 noise on the CPU, first axis the batch; each row comes from its own seed, alone or in a batch."""
    seeds = row_seeds(seed, shape[0], numbers)
    return torch.stack([torch.randn(shape[1:], generator=seed_generator(each)) for each in seeds])


def white_noise(like: Tensor, generators: Generators) -> Tensor:
    """White noise in shape, device and dtype of `like` (b, ...), one generator per row."""
    return draw_rows(like, generators).to(like)


def block_noise(like: Tensor, gamma: float, generators: Generators) -> Tensor:
    """Noise of variance 1 that correlates by -gamma inside 2x2 blocks; shape and dtype of `like` (b, ..., h, w).

    The covariance (1 + gamma) I - gamma J has the eigenvectors "block mean" and "the rest", so white noise only needs
    both scaled. Exact for the whole range 0 <= gamma <= 1/3; at 1/3 the matrix is singular (every block sums to 0) and
    a Cholesky factor fails.
    """
    check_gamma(gamma)
    white = draw_rows(like, generators).to(like.device)
    mean = double(halve(white))
    noise = math.sqrt(1 + gamma) * (white - mean) + math.sqrt(max(0.0, 1 - 3 * gamma)) * mean
    return noise.to(like.dtype)


def draw_rows(like: Tensor, generators: Generators) -> Tensor:
    """White float32 noise in the shape of `like`, where the generators are."""
    if len(generators) != len(like):
        raise ValueError(f"{len(generators)} generators for a batch of {len(like)}; expected one per row")
    return torch.stack([torch.randn(like.shape[1:], generator=g, device=g.device) for g in generators])
