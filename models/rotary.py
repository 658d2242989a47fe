"""Rotary positions: where tokens are, and how queries and keys turn with it (Su et al. 2021, arXiv 2104.09864).

Tables are worked out in float64 on the CPU, rounded to float32 and kept on the device that asked while a stage lasts.
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


# All steps of a stage ask for the same grids, and no later stage of the run asks for them again. What steps alternate
# between are the prompts, positive and negative, where a host asks for them apart: four tables serve that. More would
# only pile up on the device, out of reach of the host's memory management: 170 MB over 10 seconds at 768p.
@lru_cache(maxsize=4)
def rotation_table(
    text_tokens: int, grids: tuple[Grid, ...], sizes: tuple[int, ...], stretch: bool, device: torch.device
) -> Tensor:
    """Return `(text + image tokens, 1, head / 2)` complex numbers of length 1 that turn neighbouring pairs of features.

    `sizes` are the features of a head that go to time, row and column (the trailing ones may be missing). Text is at 0.
    """
    # Outside inference mode, or a table first made while sampling could never be used in training.
    with torch.inference_mode(False), torch.no_grad():
        image = grid_positions(grids, stretch)
        positions = torch.cat((image.new_zeros(text_tokens, 3), image))
        angles = torch.cat([positions[:, [axis]] / wavelengths(size) for axis, size in enumerate(sizes)], dim=1)
        return torch.polar(torch.ones_like(angles), angles).unsqueeze(1).to(torch.complex64).to(device)


def wavelengths(size: int) -> Tensor:
    """Return the `size / 2` wavelengths `10000^(2k / size)` that divide a position, in float64."""
    return BASE ** (torch.arange(0, size, 2, dtype=torch.float64) / size)


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Turn the pairs (2k, 2k+1) of `x (b, tokens, heads, head)`: `(a, b) -> (a cos - b sin, a sin + b cos)`.

    One complex product is several times faster on a CPU than cosines and sines apart. Half types are turned in float32.
    """
    wide = x if x.dtype in (torch.float32, torch.float64) else x.float()
    pairs = torch.view_as_complex(wide.unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * table).flatten(-2).to(x.dtype)
