"""Peak memory of decoding with the official causal video VAE: whole, in temporal chunks, in spatial tiles.

    python benchmarks/vae_memory.py --width 640 --height 384 --latent-frames 16

Nothing is computed: the full-size network runs on the meta device while every tensor it makes is counted for as long as
it lives. Weights are not counted, nor is what convolution kernels need for themselves.
"""

from __future__ import annotations

import argparse

import _package  # noqa: F401  (makes the checkout importable)
import torch
from _live_tensors import LiveTensors
from pyramid_video.models.causal_vae import CausalVideoVAE
from pyramid_video.models.causal_vae_config import CausalVAEConfig

WAYS = (
    ("whole", None, None),
    ("chunks of 2 latent frames", 2, None),
    ("chunks of 1", 1, None),
    ("chunks of 2, tiles of 512", 2, 512),
    ("chunks of 1, tiles of 256", 1, 256),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=640, help="pixels, a multiple of 8")
    parser.add_argument("--height", type=int, default=384, help="pixels, a multiple of 8")
    parser.add_argument("--latent-frames", type=int, default=16, help="8 pictures each, the first one 1")
    parser.add_argument("--dtype", default="bfloat16", choices=("float32", "bfloat16"))
    options = parser.parse_args()
    dtype = getattr(torch, options.dtype)
    vae = CausalVideoVAE(CausalVAEConfig(), device="meta", dtype=dtype).requires_grad_(False)
    size = (1, 16, options.latent_frames, options.height // 8, options.width // 8)
    for name, chunk, tile in WAYS:
        latent = torch.empty(size, device="meta", dtype=dtype)
        with torch.no_grad(), LiveTensors() as memory:
            vae.decode(latent, chunk=chunk, tile=tile)
        print(f"{name:28}{memory.peak / 2**30:>8.1f} GB")


if __name__ == "__main__":
    main()
