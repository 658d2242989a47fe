"""How much of a clip its preview shows: colours fitted by least squares, judged on clips that were not fitted to.

    python benchmarks/preview_colours.py --vae models/pretrained/vae/pyramid_video_small_vae.safetensors \\
        --model models/pretrained/diffusion_models/pyramid_video_small.safetensors --animations DIR

Compares the colours that the model's file brings, those fitted now, and false ones, by the share of the variance
between cells that they show. Official models have none in their files. DIR holds transparent animations, the 20
subjects of the small model among them.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import _package  # noqa: F401  (makes the checkout importable)
import torch
from generate import PIXELS
from pyramid_video.models import checkpoints
from pyramid_video.recipes.emoji.recipe import SUBJECTS
from pyramid_video.training.data.datasets import AnimationDataset
from pyramid_video.training.data.preview_colours import fit_preview


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--vae", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True, help="says how latents are normalised")
    parser.add_argument("--animations", type=Path, required=True, metavar="DIR")
    parser.add_argument("--clips", type=int, default=64)
    options = parser.parse_args()

    vae, _ = checkpoints.load(options.vae, ["causal_vae"], dtype=torch.float32)
    given = checkpoints.inspect(options.model, checkpoints.TRANSFORMERS).latent_format
    dataset = AnimationDataset(options.animations, SUBJECTS, size=PIXELS, split="test")

    @torch.inference_mode()
    def encode(video: torch.Tensor) -> torch.Tensor:
        return vae.encode(video).mode()

    fitted = fit_preview(dataset, encode, given, options.clips)
    rows = {"fitted now": fitted.explained}
    if given.rgb_factors is not None:
        rows["of the model's file"] = fitted.explained_by(given)
    rows["false"] = fitted.explained_by(replace(given, rgb_factors=None, rgb_bias=None))
    for name, share in rows.items():
        print(f"{name:20} {share:7.1%}")


if __name__ == "__main__":
    main()
