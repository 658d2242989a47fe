"""What the video VAE asks of a card, counted without one: `python benchmarks/count_vae.py --width 1280 --height 768`.

Decodes and encodes on fake tensors with the official sizes in bf16: launches, bytes moved and peak memory beside the
weights, next to what the VAE tells its host that it needs. Needs a build of torch that knows CUDA, no GPU. Workspace
that cuDNN takes for itself is not counted.
"""

from __future__ import annotations

import argparse
import sys

import _package  # noqa: F401
import torch
import torch.nn.functional as F
from _counting import attention_as_on_a_card, counted_card
from pyramid_video.models import skip_init
from pyramid_video.models.causal_vae import CausalVideoVAE
from pyramid_video.models.causal_vae_config import CausalVAEConfig

CARD = torch.device("cuda", 0)
HALF = 2  # bytes of a number


def main(arguments: list[str]) -> None:
    """Print a line for each way of working."""
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--height", type=int, default=384)
    parser.add_argument("--frames", type=int, default=17, help="8k + 1 (default 17: later chunks are like the second)")
    asked = parser.parse_args(arguments)
    F.scaled_dot_product_attention = attention_as_on_a_card
    with counted_card() as counts:
        config = CausalVAEConfig()
        vae = CausalVideoVAE(config, ops=skip_init, device=CARD, dtype=torch.bfloat16).eval()
        video = torch.empty(1, 3, asked.frames, asked.height, asked.width, device=CARD, dtype=torch.bfloat16)
        size = (asked.frames + 7) // 8, asked.height // 8, asked.width // 8
        latent = torch.empty(1, config.latent_channels, *size, device=CARD, dtype=torch.bfloat16)
        for what, given, pieces in (("decode", latent, (None, 1)), ("encode", video, (None, 8))):
            for chunk in pieces:
                numbers = config.decode_numbers if what == "decode" else config.encode_numbers
                estimate = HALF * numbers(tuple(given.shape), chunk)
                counts.clear()
                start = counts.live
                work = vae._to_video if what == "decode" else vae._to_moments
                for part in vae_chunks(work, given, chunk):
                    del part
                print(
                    f"{what} {asked.frames} frames of {asked.width}x{asked.height}, chunk {chunk or 'all'}: "
                    f"{sum(counts.launches.values())} launches, {sum(counts.bytes.values()) / 1e12:.2f} TB, "
                    f"peak {(counts.peak - start) / 1e9:.1f} GB, estimated {estimate / 1e9:.1f} GB",
                    flush=True,
                )


def vae_chunks(work, given, chunk):
    from pyramid_video.models.causal_vae import in_chunks

    return in_chunks(work, given, chunk)


if __name__ == "__main__":
    main(sys.argv[1:])
