"""Whether a start picture is still itself at the end of a clip, and its background the colour that it was.

    python benchmarks/start_pictures.py --animations DIR

The pyramid goes on from first frames of real clips that were never trained on, and makes the same prompts without a
picture beside it. Printed, as medians and the worst, are the PSNR of the last frame to that of the nearest real clip
(nearest_clip.py), and by how much the colour of the border moves from the first to the last frame, of 255.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import _package
import torch
from generate import PIXELS, PyramidToVideo
from nearest_clip import nearest_clip
from prompt_accuracy import DEFAULTS, choose_combinations, clips_of, in_batches, make_model, psnr
from pyramid_video.recipes.emoji.recipe import SUBJECTS
from pyramid_video.training.data.captions import caption
from pyramid_video.training.data.datasets import AnimationDataset
from torch import Tensor

BORDER = 4  # pixels


def main() -> None:
    options = parse_options()
    try:
        dataset = AnimationDataset(options.animations, SUBJECTS, size=PIXELS, split="test")
        model = make_model(options)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")
    assert isinstance(model, PyramidToVideo)
    generator = torch.Generator().manual_seed(options.seed)
    asked = choose_combinations(dataset, options.count, generator)
    prompts = [caption(combination, generator) for combination in asked]
    pictures = torch.stack([dataset.clip(combination, generator)[:, :1] for combination in asked])

    def continued(batch: Sequence[str], begin: int) -> Tensor:
        begun = model.starting_with(pictures[begin : begin + len(batch)])
        return clips_of(begun, dataset, options.seed, batch, begin)

    clips = {
        "image to video": in_batches(prompts, options.batch, continued),
        "text to video": in_batches(prompts, options.batch, partial(clips_of, model, dataset, options.seed)),
    }
    print(f"{len(prompts)} clips{'':6}{'last frame, median':>20}{'worst':>8}{'drift, median':>16}{'worst':>8}")
    for name, made_clips in clips.items():
        real = torch.stack([nearest_clip(dataset, *pair) for pair in zip(asked, made_clips, strict=True)])
        last, drift = psnr(made_clips[:, :, -1:], real[:, :, -1:]), border_drift(made_clips)
        print(f"{name:14}{last.median():18.2f} dB{last.min():8.2f}{drift.median():16.2f}{drift.max():8.2f}")


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--animations", type=Path, required=True, help="folder of the animations that were learned")
    parser.add_argument("--count", type=int, default=24, help="clips, each of another unseen combination")
    parser.add_argument("--models", type=Path, default=_package.ROOT / "models" / "pretrained")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=8, help="clips made at once")
    options = parser.parse_args()
    options.family = "pyramid"
    options.steps, options.guidance = (DEFAULTS[options.family][name] for name in ("steps", "guidance"))
    return options


def border_drift(clips: Tensor) -> Tensor:
    """How far the median colour of the border is from the first frame to the last, largest channel, (n,) of 255."""
    inside = torch.zeros(clips.shape[-2:], dtype=torch.bool)
    inside[BORDER:-BORDER, BORDER:-BORDER] = True
    first, last = (clips[:, :, moment][..., ~inside].median(-1).values for moment in (0, -1))
    return 127.5 * (last - first).abs().amax(1)


if __name__ == "__main__":
    main()
