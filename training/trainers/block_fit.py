"""The best linear code of blocks of video, to start a VAE from: principal components of what the clips hold."""

from __future__ import annotations

import torch
from torch import Tensor

from ...models.causal_vae import CausalVideoVAE

SAMPLES = 60_000  # blocks that are looked at, of each kind


@torch.no_grad()
def fit_block_shortcut(vae: CausalVideoVAE, videos: Tensor, generator: torch.Generator) -> None:
    """Set the shortcuts of `vae` to the principal components of `videos` (n, 3, t, h, w) in -1..1.

    Every latent value then has mean 0 and deviation 1. The code of single frames is turned, which loses nothing, so
    that a still picture has nearly the same latent in the first frame and later: one thing less to learn for a model
    of latents (orthogonal Procrustes problem, Schoenemann 1966).
    """
    encode, decode = vae.encoder_shortcut, vae.decoder_shortcut
    if encode is None or decode is None:
        raise ValueError("this VAE has no shortcut of blocks (`block_shortcut`) that could be set")
    block, channels = encode.block, vae.config.latent_channels
    blocks = sample_rows(block.cut(videos[:, :, 1:]), generator)
    mean, into, out = principal_components(blocks, channels)
    set_linear(encode.rest, into, -into @ mean)
    set_linear(decode.rest, out, mean)

    pictures = sample_rows(block.cut(videos, frames=1), generator)
    mean, into, out = principal_components(pictures, channels)
    still = pictures.unflatten(1, (videos.shape[1], 1, -1)).expand(-1, -1, block.frames, -1).flatten(1)
    u, _, v = torch.linalg.svd(encode.rest(still).T @ ((pictures - mean) @ into.T))
    turn = u @ v
    set_linear(encode.first, turn @ into, -turn @ into @ mean)
    set_linear(decode.first, out @ turn.T, mean)


def principal_components(rows: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (d,), the map to `count` values of deviation 1 (count, d), and the map back (d, count), of rows (n, d)."""
    mean = rows.mean(0)
    variances, vectors = torch.linalg.eigh((rows - mean).T @ (rows - mean) / len(rows))
    deviations, vectors = variances[-count:].clamp_min(1e-8).sqrt().flip(0), vectors[:, -count:].flip(1)
    return mean, (vectors / deviations).T, vectors * deviations


def sample_rows(blocks: Tensor, generator: torch.Generator) -> Tensor:
    """At most `SAMPLES` blocks (n, numbers) of (b, t, h, w, numbers)."""
    rows = blocks.flatten(0, -2)
    return rows[torch.randperm(len(rows), generator=generator)[:SAMPLES]]


def set_linear(linear: torch.nn.Linear, weight: Tensor, bias: Tensor) -> None:
    linear.weight.copy_(weight)
    linear.bias.copy_(bias)
