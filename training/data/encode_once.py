"""Clips that are drawn again, as excerpts of files no longer than a clip are, need not be encoded again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor

Encode = Callable[[Tensor], Tensor]  # videos (n, 3, t, h, w) in -1..1 -> latents (n, c, t, h, w)
Key = tuple[torch.Size, bytes]  # shape and digest of a clip
MOST_BYTES = 1 << 30  # of latents that are remembered; the oldest go first


class EncodeOnce:
    """`encode` for whatever it was not called with before."""

    def __init__(self, encode: Encode) -> None:
        self.encode = encode
        self.known: dict[Key, Tensor] = {}
        self.bytes = 0

    def __call__(self, videos: Tensor) -> Tensor:
        """Latents of videos, each worked out once."""
        keys = [(video.shape, hashlib.sha256(video.contiguous().numpy().tobytes()).digest()) for video in videos]
        new = {key: number for number, key in enumerate(keys) if key not in self.known}
        made = dict(zip(new, self.encoded(videos[list(new.values())]), strict=True)) if new else {}
        latents = torch.stack([made[key] if key in made else self.known[key] for key in keys])
        self.remember(made)
        return latents

    def encoded(self, videos: Tensor) -> Tensor:
        """What the encoder makes of videos. ValueError where it is not a latent of each."""
        latents = self.encode(videos)
        if latents.ndim != 5 or len(latents) != len(videos):
            raise ValueError(
                f"the encoder made {tuple(latents.shape)} of videos {tuple(videos.shape)}; "
                f"expected latents ({len(videos)}, channels, frames, rows, columns)"
            )
        return latents

    def remember(self, made: dict[Key, Tensor]) -> None:
        """Keep latents as long as there is room."""
        self.known.update(made)
        self.bytes += sum(latent.nbytes for latent in made.values())
        while self.bytes > MOST_BYTES:
            self.bytes -= self.known.pop(next(iter(self.known))).nbytes
