"""The streams of a latent: a picture, and the sound of some models, which newer hosts pack into one flat tensor."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import comfy.utils
import torch
from torch import Tensor

from ...samplers.noise import seed_generator
from ...samplers.seeds import nth_seed
from ...samplers.spectral import Size


@dataclass(frozen=True)
class Streams:
    """Shapes of what a latent holds; the first is the picture, and the only one that a stage makes smaller."""

    shapes: tuple[tuple[int, ...], ...]

    @property
    def size(self) -> Size:
        """Rows and columns of the picture. ValueError where the latent is none."""
        shape = self.shapes[0]
        if len(shape) not in (4, 5):
            raise ValueError(
                f"the latent of this model has the shape {shape}, which is not a picture: a pyramid needs rows and "
                "columns. Use the host's plain sampler"
            )
        return shape[-2], shape[-1]

    @property
    def sizes(self) -> list[torch.Size]:
        """The shapes as the host keeps them."""
        return [torch.Size(shape) for shape in self.shapes]

    @property
    def numel(self) -> int:
        """Numbers of a latent."""
        return sum(math.prod(shape) for shape in self.shapes)

    def at(self, size: Size) -> Streams:
        """The same streams with a picture of another size."""
        return Streams(((*self.shapes[0][:-2], *size), *self.shapes[1:]))

    def split(self, latent: Tensor) -> list[Tensor]:
        """The streams of a latent, the picture first."""
        return comfy.utils.unpack_latents(latent, self.shapes) if len(self.shapes) > 1 else [latent]

    def join(self, streams: Sequence[Tensor]) -> Tensor:
        """A latent of its streams, as the host packs them."""
        return comfy.utils.pack_latents(list(streams))[0] if len(streams) > 1 else streams[0]


def fresh_noise(like: Tensor, run_noise: Tensor, number: int) -> Tensor:
    """White noise for jump `number` of a stream that has no size; each row follows from that row of the run's noise.

    So nothing else has to be known to go on with a draft, and a row is the same alone and in a batch.
    """
    rows = []
    for row in run_noise.float().cpu():
        digest = hashlib.sha256(row.contiguous().numpy().tobytes()).digest()
        generator = seed_generator(nth_seed(int.from_bytes(digest[:8], "little"), number))
        rows.append(torch.randn(row.shape, generator=generator))
    return torch.stack(rows).to(like)


def streams_of(guider: Any, latent: Tensor) -> Streams:
    """What the latent that the host samples with holds; hosts differ in where they say it."""
    shapes = getattr(guider.inner_model, "latent_shapes", None)
    if shapes is None:
        given = (cond["model_conds"].get("latent_shapes") for conds in guider.conds.values() for cond in conds)
        shapes = next((each.cond for each in given if each is not None), [latent.shape])
    return Streams(tuple(tuple(shape) for shape in shapes))


def packs_streams() -> bool:
    """Whether this host packs several streams into one latent."""
    return hasattr(comfy.utils, "pack_latents")
