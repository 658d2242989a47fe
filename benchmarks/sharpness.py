"""How sharp clips are: the PSNR to the nearest real clip, and how much of its gradient energy they have.

    python benchmarks/sharpness.py --animations DIR                      # the pyramid
    python benchmarks/sharpness.py --animations DIR --family flow        # or diffusion, gan
    python benchmarks/sharpness.py --animations DIR --reconstructed      # the VAE alone
    python benchmarks/sharpness.py --animations DIR --size 64 --compared-at 128    # small clips, scaled up first

Each clip is compared with real clips of the combination that its prompt asks for, at the best place, size and moment
(nearest_clip.py). The PSNR is over all pixels and over the figure: what differs from the background by more than 0.1
(of -1..1), grown by two pixels. Grain raises the gradient energy too, so that says something only beside the PSNR.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import _package
import torch
from generate import PIXELS
from nearest_clip import nearest_clip
from prompt_accuracy import add_family, choose_combinations, fill_in, generate, psnr, reconstruct
from pyramid_video.models.files import write_beside
from pyramid_video.recipes.emoji.recipe import SUBJECTS
from pyramid_video.training.data.captions import caption
from pyramid_video.training.data.datasets import AnimationDataset
from pyramid_video.training.objectives.vae import figure
from torch import Tensor
from torch.nn.functional import interpolate

QUANTILES = (0.1, 0.5, 0.9)


def main() -> None:
    options = parse_options()
    try:
        clips, real = clips_and_nearest(options)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")
    report = measure(clips, real)
    print(f"{len(clips)} clips{'':24}{'10 %':>8}{'median':>8}{'90 %':>8}")
    for name, values in report.items():
        print(f"{name:32}" + "".join(f"{value:8.2f}" for value in values))
    if options.json:
        with write_beside(options.json) as part:
            part.write_text(json.dumps(report, indent=1))


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--animations", type=Path, required=True, help="folder of the animations that were learned")
    parser.add_argument("--count", type=int, default=40, help="clips, each of another unseen combination")
    parser.add_argument("--reconstructed", action="store_true", help="real clips after the VAE instead of made ones")
    parser.add_argument("--models", type=Path, default=_package.ROOT / "models" / "pretrained")
    add_family(parser)
    parser.add_argument("--size", type=int, default=PIXELS, help="pixels of the clips")
    parser.add_argument("--compared-at", type=int, help="pixels at which they are compared (default: their own)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=8, help="clips made at once")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    fill_in(parser, options)
    return options


def clips_and_nearest(options: argparse.Namespace) -> tuple[Tensor, Tensor]:
    """Clips to be measured and the nearest real ones, both (n, 3, t, h, w) in -1..1."""
    dataset = AnimationDataset(options.animations, SUBJECTS, size=options.size, split="test")
    compared = dataset
    if options.compared_at:
        compared = AnimationDataset(options.animations, SUBJECTS, size=options.compared_at, split="test")
    generator = torch.Generator().manual_seed(options.seed)
    asked = choose_combinations(dataset, options.count, generator)
    if options.reconstructed:
        clips = torch.stack([dataset.clip(combination, generator) for combination in asked])
        clips = reconstruct(clips, options)
    else:
        clips = generate([caption(combination, generator) for combination in asked], dataset, options)
    clips = scaled(clips, compared.size)
    return clips, torch.stack([nearest_clip(compared, *pair) for pair in zip(asked, clips, strict=True)])


def scaled(clips: Tensor, size: int) -> Tensor:
    """Clips at `size` pixels, by cubic interpolation where they have fewer."""
    if clips.shape[-1] == size:
        return clips
    frames = interpolate(clips.transpose(1, 2).flatten(0, 1), (size, size), mode="bicubic", antialias=True)
    return frames.unflatten(0, (len(clips), -1)).transpose(1, 2).clamp(-1, 1)


def measure(clips: Tensor, real: Tensor) -> dict[str, list[float]]:
    """Quantiles of what is measured for each clip."""
    values = {
        "PSNR, all pixels (dB)": psnr(clips, real),
        "PSNR, figure (dB)": figure_psnr(clips, real),
        "gradient energy, part of real": gradient_energy(clips) / gradient_energy(real),
    }
    return {name: value.quantile(torch.tensor(QUANTILES)).tolist() for name, value in values.items()}


def figure_psnr(clips: Tensor, real: Tensor) -> Tensor:
    """PSNR (n,) over the figures of the real clips."""
    mask = figure(real)
    squared = ((clips - real).square() * mask).flatten(1).sum(1)
    return 10 * torch.log10(4 * 3 * mask.flatten(1).sum(1) / squared.clamp_min(1e-12))


def gradient_energy(clips: Tensor) -> Tensor:
    """Sum of the squared differences of neighbouring pixels, (n,)."""
    across, down = clips.diff(dim=-1), clips.diff(dim=-2)
    return across.square().flatten(1).sum(1) + down.square().flatten(1).sum(1)


if __name__ == "__main__":
    main()
