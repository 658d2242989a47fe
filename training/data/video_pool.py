"""Clips in memory as bytes, and the pieces of them that a VAE learns from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .datasets import VideoDataset

Pool = tuple[Tensor, ...]  # byte clips (n, 3, t, h, w), one tensor for each size of clip
OnClip = Callable[[int, int], None]  # (done, total); may raise to stop


def draw_pool(dataset: VideoDataset, clips: int, generator: torch.Generator, on_clip: OnClip | None = None) -> Pool:
    """Draw `clips` clips once, as bytes, so that training does not wait for them."""
    by_size: dict[torch.Size, list[Tensor]] = {}
    for done in range(1, clips + 1):
        video = to_bytes(dataset.sample(generator, 1)[0][0])
        by_size.setdefault(video.shape, []).append(video)
        if on_clip is not None:
            on_clip(done, clips)
    return tuple(torch.stack(videos) for videos in by_size.values())


def to_bytes(videos: Tensor) -> Tensor:
    """Pixels in -1..1 to the nearest of 0..255; any shape."""
    return ((videos + 1) * 127.5).round().to(torch.uint8)


def from_bytes(videos: Tensor) -> Tensor:
    """Pixels in 0..255 to -1..1; any shape."""
    return videos.float() / 127.5 - 1


@dataclass(frozen=True, eq=False)
class VideoPieces:
    """What is learned in a step: `frames` pictures of some clips, or every `pictures_every`-th step single pictures."""

    pool: Pool
    frames: int
    batch_size: int
    pictures_every: int = 4

    def draw(self, step: int, done: float, generator: torch.Generator) -> Tensor:
        """A batch (b, 3, t, h, w) in -1..1; sizes are drawn as often as they have clips."""
        counts = torch.tensor([float(len(clips)) for clips in self.pool])
        clips = self.pool[int(torch.multinomial(counts, 1, generator=generator))]
        single = self.pictures_every > 0 and step % self.pictures_every == self.pictures_every - 1
        frames, batch = (1, self.batch_size * self.frames) if single else (self.frames, self.batch_size)
        rows = torch.randint(len(clips), (batch,), generator=generator)
        starts = torch.randint(clips.shape[2] - frames + 1, (batch,), generator=generator).tolist()
        cut = [clips[row, :, start : start + frames] for row, start in zip(rows.tolist(), starts, strict=True)]
        return from_bytes(torch.stack(cut))
