"""What a run learns from: latents and text features of a dataset, encoded once and kept on disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ...models.latent_format import LatentFormat
from ..batch import Batch
from ..objectives.draw import GeneratorDraw
from ..objectives.pyramid import drop_captions
from .latent_cache import LatentSet
from .preview_colours import with_colours
from .text_cache import NO_TEXT, TextSet

MEASURED = 512  # latents of each size that mean and deviation are taken from, at most
SHOWN = 8  # of them are decoded to find the colours of previews

Decode = Callable[[Tensor], Tensor]  # latents (1, c, t, h, w) -> pictures (frames, h, w, 3) in 0..1


@dataclass(frozen=True)
class EncodedDataset:
    """Batches of `batch_size` clips of one size with their texts: the usual `trainers.model.TrainingData`."""

    latents: LatentSet
    texts: TextSet  # has all captions of `latents`
    batch_size: int
    key: str
    decode: Decode

    @property
    def widths(self) -> tuple[int, int, int]:
        tokens, pooled = self.texts.features[NO_TEXT]
        return len(self.latents.rows[0].latent), tokens.shape[-1], len(pooled)

    def draw(self, generator: torch.Generator, dropout: float) -> Batch:
        latents, captions = self.latents.sample(generator, self.batch_size)
        return Batch(latents, self.texts.batch(drop_captions(captions, dropout, GeneratorDraw(generator))))

    def measure_format(self) -> LatentFormat:
        parts = [torch.stack([row.latent for row in rows[:MEASURED]]).float() for rows in self.latents.alike.values()]
        shift, scale = statistics([part[:, :, :1] for part in parts])
        plain = LatentFormat("trained", shift, scale, shift, scale)
        if any(part.shape[2] > 1 for part in parts):
            plain = LatentFormat("trained", *statistics([part[:, :, 1:] for part in parts]), shift, scale)
        shown = parts[0][:SHOWN]
        frames = [self.decode(clip[None])[:1] for clip in shown]
        pictures = torch.cat(frames).movedim(-1, 1).unsqueeze(2) * 2 - 1
        return with_colours(plain, shown[:, :, :1], pictures)


def statistics(parts: list[Tensor]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and inverse deviation of each channel over latents (n, c, t, h, w) of several sizes."""
    values = torch.cat([part.movedim(1, 0).flatten(1) for part in parts], 1)
    deviation = values.std(1).clamp_min(1e-6)
    return tuple(values.mean(1).tolist()), tuple((1 / deviation).tolist())
