"""Pieces of drawn clips that show some of the figure: what a VAE has to learn, without the plain colour around."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool3d

from ...training.objectives.vae import FIGURE


@dataclass(frozen=True)
class FigureCrops:
    """Batches of byte clips `(n, 3, t, h, w)`, cut to `edge` pixels.

    Most cuts lie around a point of the figure; a share `anywhere` does not, and a share `whole` of the batches is whole
    clips at half their size instead, so that small pictures are known too. In a share `recoloured` the three colour
    channels change places.
    """

    clips: Tensor
    edge: int = 64
    anywhere: float = 0.1
    whole: float = 0.2
    recoloured: float = 0.1

    def draw(self, frames: int, batch: int, generator: torch.Generator) -> Tensor:
        """A batch `(batch, 3, frames, edge, edge)` in -1..1; of shorter clips all their frames."""
        frames = min(frames, self.clips.shape[2])
        whole = happens(self.whole, generator) and self.clips.shape[-1] == 2 * self.edge
        return torch.stack([self._one(frames, whole, generator) for _ in range(batch)])

    def _one(self, frames: int, whole: bool, generator: torch.Generator) -> Tensor:
        clip = self.clips[number(len(self.clips), generator)]
        start = number(clip.shape[1] - frames + 1, generator)
        piece = clip[:, start : start + frames].float() / 127.5 - 1
        if happens(self.recoloured, generator):
            piece = piece[torch.randperm(3, generator=generator)]
        if whole:
            return avg_pool3d(piece, (1, 2, 2))
        top, left = self._corner(piece, generator)
        return piece[:, :, top : top + self.edge, left : left + self.edge]

    def _corner(self, piece: Tensor, generator: torch.Generator) -> tuple[int, int]:
        room = piece.shape[-1] - self.edge
        picture = piece[:, number(piece.shape[1], generator)]
        apart = (picture - picture[:, :1, :1]).abs().amax(0) > FIGURE
        if happens(self.anywhere, generator) or not apart.any():
            return number(room + 1, generator), number(room + 1, generator)
        corner = []
        for axis in (1, 0):
            covered = apart.any(axis).nonzero()
            first, last = int(covered[0]), int(covered[-1])
            middle = first + number(last - first + 1, generator)
            corner.append(min(max(middle - self.edge // 2, 0), room))
        return corner[0], corner[1]


def number(count: int, generator: torch.Generator) -> int:
    """One of 0 to `count - 1`."""
    return int(torch.randint(count, (), generator=generator))


def happens(share: float, generator: torch.Generator) -> bool:
    """Yes in the share `share` of calls."""
    return float(torch.rand((), generator=generator)) < share
