"""Colours of previews: the linear map from latent channels to RGB that fits real clips best (least squares)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from ...models.latent_format import LatentFormat, fit_rgb
from .datasets import VideoDataset

HELD_OUT = 4  # one in so many clips is not fitted to, but tested on
SEED = 0  # which clips are drawn

Encode = Callable[[Tensor], Tensor]  # video (1, 3, t, h, w) in -1..1 -> latent (1, c, t', h', w') in the VAE's scale
OnClip = Callable[[int, int], None]  # (done, total); may raise to stop


@dataclass(frozen=True, eq=False)
class FittedColours:
    """A format with its colours, and how they do on clips that they were not fitted to."""

    latent_format: LatentFormat
    held_out: tuple[Tensor, Tensor]  # all cells of those clips and their colours, as `cells` gives them
    pictures: Tensor  # of one such clip, (t', H, W, 3) in 0..1
    previews: Tensor  # of the same, (t', h', w', 3) in 0..1

    @property
    def explained(self) -> float:
        return self.explained_by(self.latent_format)

    def explained_by(self, latent_format: LatentFormat) -> float:
        """Share of the variance of the colours of cells that previews show; 1 is all of it."""
        known, wanted = self.held_out
        colours = (wanted.movedim(1, -1) + 1) / 2  # (1, 1, N, 3)
        spread = colours - colours.mean(dim=2, keepdim=True)
        missed = colours - latent_format.preview(known)
        return 1 - float(missed.square().sum() / spread.square().sum().clamp_min(1e-12))


def fit_preview(
    dataset: VideoDataset, encode: Encode, latent_format: LatentFormat, clips: int, on_clip: OnClip | None = None
) -> FittedColours:
    """Draw so many clips of a dataset, encode them, and fit the colours of `latent_format` to three quarters of them.

    Raises ValueError for fewer clips than can be divided so.
    """
    if clips < HELD_OUT:
        raise ValueError(f"{clips} clips are too few to fit colours to and to test them on; take {HELD_OUT} or more")
    generator = torch.Generator().manual_seed(SEED)
    fitted: list[tuple[Tensor, Tensor]] = []
    held_out: list[tuple[Tensor, Tensor]] = []
    for done in range(1, clips + 1):
        videos, _, _ = dataset.sample(generator, 1)
        latent = latent_format.normalize(encode(videos).float().cpu())
        pictures = pictures_of(latent, videos)
        (held_out if done % HELD_OUT == 0 else fitted).append(cells(latent, pictures))
        if on_clip is not None:
            on_clip(done, clips)
        if done % HELD_OUT == 0:
            example = latent, pictures
    factors, bias = fit_rgb(*(torch.cat(parts, dim=-1) for parts in zip(*fitted, strict=True)))
    result = replace(latent_format, rgb_factors=factors, rgb_bias=bias)
    latent, pictures = example
    return FittedColours(
        result,
        (torch.cat([known for known, _ in held_out], -1), torch.cat([wanted for _, wanted in held_out], -1)),
        (pictures[0].permute(1, 2, 3, 0) + 1) / 2,
        result.preview(latent[0].movedim(1, 0)),
    )


def with_colours(plain: LatentFormat, latents: Tensor, pictures: Tensor) -> LatentFormat:
    """`plain` with colours fitted to `latents` (n, c, t, h, w) and their `pictures` (n, 3, t, H, W) in -1..1."""
    factors, bias = fit_rgb(*cells(plain.normalize(latents), pictures))
    return replace(plain, rgb_factors=factors, rgb_bias=bias)


def pictures_of(latents: Tensor, videos: Tensor) -> Tensor:
    """The last picture that each frame of `latents` (b, c, t', h, w) stands for, (b, 3, t', H, W)."""
    frames = latents.shape[2]
    return videos[:, :, :: max(1, (videos.shape[2] - 1) // max(1, frames - 1))][:, :, :frames]


def cells(latents: Tensor, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Every cell of `(n, c, t, h, w)` beside the mean of the pixels that it stands for: (1, c, 1, N), (1, 3, 1, N)."""
    frames = F.interpolate(pictures.transpose(1, 2).flatten(0, 1).float().cpu(), latents.shape[-2:], mode="area")
    return (
        latents.float().cpu().movedim(1, 0).reshape(1, latents.shape[1], 1, -1),
        frames.movedim(1, 0).reshape(1, 3, 1, -1),
    )
