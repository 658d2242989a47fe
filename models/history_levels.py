"""The past that Helios sees: three levels, and the time of every frame in them (arXiv 2603.04379).

Near frames are cut into small patches, far ones into large patches, so that a long past costs few tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from .layers import PATCH
from .rotary import turning_table, wavelengths

UNIT_FRAMES = 9  # latent frames that are made at once, and encoded and decoded on their own

Place = tuple[tuple[int, ...], int, int, int]  # time indices, rows and columns of the finest patches, patches averaged


@dataclass(frozen=True, eq=False)  # tensors do not compare to one truth value
class HistoryLevel:
    """Latent frames `(b, c, t, h, w)`, normalised and of full size, and the time index of each of the t frames."""

    latents: Tensor
    frames: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.latents.ndim != 5 or self.latents.shape[2] != len(self.frames) or not self.frames:
            raise ValueError(
                f"latents of the past have the shape {tuple(self.latents.shape)} and {len(self.frames)} time indices; "
                "expected (batch, channels, frames, rows, columns) with an index for every frame, and at least one"
            )


@dataclass(frozen=True, eq=False)
class HistoryLevels:
    """The time indices of the frames that are made, and the past: `short` in patches of 1x2x2 latent pixels, `mid` in
    2x4x4 and `long` in 4x8x8."""

    frames: tuple[int, ...]
    short: HistoryLevel | None = None
    mid: HistoryLevel | None = None
    long: HistoryLevel | None = None

    @property
    def levels(self) -> tuple[tuple[str, HistoryLevel, int], ...]:
        """Name, content and coarseness (1, 2, 4) of the levels there are, in the order of their tokens."""
        named = (("long", self.long, 4), ("mid", self.mid, 2), ("short", self.short, 1))
        return tuple((name, level, size) for name, level, size in named if level is not None)

    def each(self, change: Callable[[Tensor], Tensor]) -> HistoryLevels:
        """The same history with `change` applied to the latents of every level."""
        changed = {name: HistoryLevel(change(level.latents), level.frames) for name, level, _ in self.levels}
        return HistoryLevels(self.frames, **changed)


def whole_patches(latents: Tensor, size: int) -> Tensor:
    """Repeat last frames, rows and columns of `(b, c, t, h, w)` until patches of `size` times 1x2x2 divide them."""
    frames, rows, columns = latents.shape[2:]
    fill = (-columns % (PATCH * size), -rows % (PATCH * size), -frames % size)
    return F.pad(latents, (0, fill[0], 0, fill[1], 0, fill[2]), mode="replicate") if any(fill) else latents


# All steps of a stage use the same table, positive and negative prompts alike.
@lru_cache(maxsize=2)
def history_rotation(places: tuple[Place, ...], sizes: tuple[int, int, int], device: torch.device) -> Tensor:
    """Return the table (see `rotary`) that turns neighbouring pairs of features of tokens at `places`.

    Worked out in float64 on the CPU and rounded to float32. `sizes` are the features of a head that go to time, row
    and column. A coarse patch has the mean of the finest patches that it covers, so its numbers are shorter than 1.
    """
    with torch.inference_mode(False), torch.no_grad():  # a table made while sampling must also serve training
        tables = []
        for frames, rows, columns, pool in places:
            axes = [
                turns(at, size, pool) for at, size in zip((frames, range(rows), range(columns)), sizes, strict=True)
            ]
            t, h, w = map(len, axes)
            time, row, column = axes[0][:, None, None], axes[1][None, :, None], axes[2][None, None, :]
            tables.append(torch.cat([axis.expand(t, h, w, -1) for axis in (time, row, column)], dim=-1).flatten(0, 2))
        return turning_table(torch.cat(tables)).to(device)


def turns(places: Iterable[int], size: int, pool: int) -> Tensor:
    """The complex numbers `(n / pool, size / 2)` of places along an axis, each the mean of `pool` neighbours.

    The last place is repeated where their number does not divide.
    """
    angles = torch.tensor(list(places), dtype=torch.float64)[:, None] / wavelengths(size)
    phases = torch.polar(torch.ones_like(angles), angles)
    filled = torch.cat((phases, phases[-1:].expand(-len(phases) % pool, -1)))
    return filled.unflatten(0, (-1, pool)).mean(dim=1)
