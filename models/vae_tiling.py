"""Spatial tiles for the video VAE: less memory for large frames, at the price of an inexact result near the seams."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .sizes import nearest_multiple


@dataclass(frozen=True)
class TilePlan:
    """How frames are cut into tiles that overlap by a quarter, and how the results are put together."""

    size: int  # edge of a tile in the input
    step: int  # distance between the starts of two tiles in the input
    blend: int  # rows and columns of the result over which a tile fades into its neighbour
    keep: int  # rows and columns that each tile contributes to the result

    def needed(self, x: Tensor) -> bool:
        """Whether `x (..., h, w)` is longer than one tile in either direction."""
        return max(x.shape[-2:]) > self.size

    def count(self, x: Tensor) -> int:
        """The number of tiles that `x (..., h, w)` is cut into."""
        height, width = x.shape[-2:]
        return len(range(0, height, self.step)) * len(range(0, width, self.step))

    def run(self, work: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """Apply `work` to each tile of `x (..., h, w)`, fade it in from the tiles above and left, join them all."""
        height, width = x.shape[-2:]
        strips: list[Tensor] = []
        above: list[Tensor] = []
        for top in range(0, height, self.step):
            row: list[Tensor] = []
            for column, left in enumerate(range(0, width, self.step)):
                tile = work(x[..., top : top + self.size, left : left + self.size])
                if above:
                    fade_in(above[column], tile, self.blend, dim=-2)
                if row:
                    fade_in(row[-1], tile, self.blend, dim=-1)
                row.append(tile)
            strips.append(torch.cat([tile[..., : self.keep, : self.keep] for tile in row], dim=-1))
            above = row
        return torch.cat(strips, dim=-2)


def plan_tiles(tile: int, space_compression: int, encode: bool) -> TilePlan:
    """Plan tiles of `tile` x `tile` pixels (the official `tile_sample_min_size`) for encoding or decoding.

    Raises:
        ValueError: when a quarter of a tile is no whole number of latent pixels; pieces would not meet.
    """
    multiple = 4 * space_compression
    if tile < multiple or tile % multiple:
        raise ValueError(
            f"VAE tile size {tile} is not a positive multiple of {multiple} pixels; the nearest is "
            f"{nearest_multiple(tile, multiple)}"
        )
    latent = tile // space_compression
    source, result = (tile, latent) if encode else (latent, tile)
    return TilePlan(size=source, step=source * 3 // 4, blend=result // 4, keep=result * 3 // 4)


def fade_in(neighbour: Tensor, tile: Tensor, blend: int, dim: int) -> None:
    """Fade the start of `tile` in from the end of `neighbour` (itself faded before), linear along `dim`, in place."""
    blend = min(blend, neighbour.shape[dim], tile.shape[dim])
    shape = [1] * tile.ndim
    shape[dim] = blend
    weight = (torch.arange(blend, device=tile.device, dtype=torch.float32) / blend).to(tile.dtype).view(shape)
    start = tile.narrow(dim, 0, blend)
    start.copy_((1 - weight) * neighbour.narrow(dim, neighbour.shape[dim] - blend, blend) + weight * start)
