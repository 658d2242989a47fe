"""Rotary positions: where tokens are, and how queries and keys turn with it (Su et al. 2021, arXiv 2104.09864).

Tables are worked out in float64 on the CPU, rounded to float32 and kept on the device while a stage lasts.
A table is `(2, tokens, 1, head / 2, 2)`: `(cos, sin)`, which first features of a pair are multiplied by, and
`(-sin, cos)` for second ones. Where rows of a batch have tokens in different places it is `(2, b, tokens, ...)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

Grid = tuple[int, int, int]  # frames, rows, columns of a clip in patches

BASE = 10000.0


def stretched_line(count: int, full: int) -> Tensor:
    """Return `count` positions over a line of `full` patches: 0, 1, 2, ... resized linearly, corners not aligned."""
    line = torch.arange(full, dtype=torch.float64)
    if count == full:
        return line
    return F.interpolate(line[None, None], size=count, mode="linear", align_corners=False)[0, 0]


def grid_positions(grids: Sequence[Grid], stretch: bool) -> Tensor:
    """Return time, row and column `(tokens, 3)` of all image tokens; frames count on from clip to clip.

    With `stretch` every clip spans the patch grid of the last one, so a history clip of half the size sits at 0.5, 2.5,
    ...
    """
    _, full_rows, full_columns = grids[-1]
    clips, start = [], 0
    for frames, rows, columns in grids:
        time = torch.arange(start, start + frames, dtype=torch.float64)
        row = stretched_line(rows, full_rows if stretch else rows)
        column = stretched_line(columns, full_columns if stretch else columns)
        clips.append(torch.cartesian_prod(time, row, column).view(-1, 3))
        start += frames
    return torch.cat(clips)


# All steps of a stage use the same grids, and no later stage of the run uses them again. What steps alternate between
# are the prompts, positive and negative, where a host evaluates them apart: four tables serve that. More would
# only pile up on the device, out of reach of the host's memory management: 170 MB over 10 seconds at 768p.
@lru_cache(maxsize=4)
def rotation_table(
    text_tokens: int, grids: tuple[Grid, ...], sizes: tuple[int, ...], stretch: bool, device: torch.device
) -> Tensor:
    """Return the table `(2, text + image tokens, 1, head / 2, 2)` that turns neighbouring pairs of features.

    `sizes` are the features of a head that go to time, row and column (the trailing ones may be missing). Text is at 0.
    """
    # Outside inference mode, or a table first made while sampling could never be used in training.
    with torch.inference_mode(False), torch.no_grad():
        image = grid_positions(grids, stretch)
        positions = torch.cat((image.new_zeros(text_tokens, 3), image))
        angles = torch.cat([positions[:, [axis]] / wavelengths(size) for axis, size in enumerate(sizes)], dim=1)
        return turning_table(torch.polar(torch.ones_like(angles), angles)).to(device)


def table_of_chosen(table: Tensor, text_tokens: int, chosen: Tensor) -> Tensor:
    """Return the table `(2, b, text + k, 1, head / 2, 2)` of the text and of the image tokens `chosen (b, k)`."""
    text, image = table[:, None, :text_tokens], table[:, text_tokens:]
    return torch.cat((text.expand(-1, len(chosen), -1, -1, -1, -1), image[:, chosen]), dim=2)


def turning_table(numbers: Tensor) -> Tensor:
    """Return the table `(2, tokens, 1, head / 2, 2)` of complex `numbers (tokens, head / 2)`, in float32."""
    first, second = torch.view_as_real(numbers), torch.view_as_real(numbers * 1j)
    return torch.stack((first, second)).unsqueeze(2).float()


def wavelengths(size: int) -> Tensor:
    """Return the `size / 2` wavelengths `10000^(2k / size)` that divide a position, in float64."""
    return BASE ** (torch.arange(0, size, 2, dtype=torch.float64) / size)


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Turn the pairs (2k, 2k+1) of `x (..., tokens, heads, head)`: `(a, b) -> (a cos - b sin, a sin + b cos)`.

    Products are worked out in float32 whatever `x` is. On a device they are written in the type of `x` at once, two
    kernels and no wide copy; a compiler fuses the sum by itself; a CPU is several times faster with complex numbers.
    """
    if x.device.type == "cpu" and not torch.compiler.is_compiling():
        wide = x if x.dtype in (torch.float32, torch.float64) else x.float()
        numbers = torch.view_as_complex(wide.unflatten(-1, (-1, 2))) * torch.view_as_complex(table[0])
        return torch.view_as_real(numbers).flatten(-2).to(x.dtype)
    pairs = x.unflatten(-1, (-1, 2))
    if torch.compiler.is_compiling() or torch.is_grad_enabled() and x.requires_grad:
        return (pairs[..., :1] * table[0] + pairs[..., 1:] * table[1]).to(x.dtype).flatten(-2)
    return two_kernels(x, table)


def two_kernels(x: Tensor, table: Tensor) -> Tensor:
    """`rotate` with nothing wider than `x` in memory; not for gradients."""
    pairs = x.unflatten(-1, (-1, 2))
    rotated = torch.mul(pairs[..., :1], table[0], out=torch.empty_like(pairs))
    return rotated.addcmul_(pairs[..., 1:], table[1]).flatten(-2)
