"""Do the models draw one prompt in many ways, and all that can be asked for? Mode collapse shows here.

    python benchmarks/diversity.py --animations DIR --prompts 40 --clips 4

Of every prompt several clips are made, and as many drawn from the data. "Diversity" is the mean distance (root mean
square over pixels) between clips of one prompt, as a share of that between the drawn ones: a collapsed generator gives
0, the data give 1. "Coverage" is the share of prompts of which at least one clip is right in background, motion and
subject; "subjects" is how many of the asked subjects were drawn right at least once.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path

import _package
import torch
from generate import PIXELS
from judge import Judge
from prompt_accuracy import DEFAULTS, choose_combinations, make_model
from pyramid_video.recipes.emoji.recipe import SUBJECTS
from pyramid_video.training.data.captions import Combination, caption
from pyramid_video.training.data.datasets import AnimationDataset
from torch import Tensor

JUDGED = ("background", "motion", "subject")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--animations", type=Path, required=True, help="folder of the animations that were learned")
    parser.add_argument("--prompts", type=int, default=40, help="unseen combinations")
    parser.add_argument("--clips", type=int, default=4, help="clips of each")
    parser.add_argument("--families", nargs="+", choices=DEFAULTS, default=list(DEFAULTS))
    parser.add_argument("--models", type=Path, default=_package.ROOT / "models" / "pretrained")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.prompts < 1 or options.clips < 2:
        parser.error(f"--prompts {options.prompts} --clips {options.clips}: at least 1 and 2")
    try:
        measure(AnimationDataset(options.animations, SUBJECTS, size=PIXELS, split="test"), options)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")


def measure(dataset: AnimationDataset, options: argparse.Namespace) -> None:
    """Print a line for each family."""
    generator = torch.Generator().manual_seed(options.seed)
    asked = choose_combinations(dataset, options.prompts, generator)
    prompts = [caption(combination, generator) for combination in asked]
    drawn = [torch.stack([dataset.clip(combination, generator) for _ in range(options.clips)]) for combination in asked]
    usual = mean_distance(drawn)
    judge = Judge(dataset)
    print(f"{'family':10}{'diversity':>11}{'coverage':>10}{'subjects':>10}   of {len({c.subject for c in asked})}")
    for family in options.families:
        chosen = {name: DEFAULTS[family][name] for name in ("steps", "guidance")}
        model = make_model(argparse.Namespace(models=options.models, family=family, **chosen))
        made = [
            model([prompt] * options.clips, options.seed + number * options.clips, dataset.frames, dataset.size)
            for number, prompt in enumerate(prompts)
        ]
        right = [
            any(is_right(judge, clip, combination) for clip in clips)
            for clips, combination in zip(made, asked, strict=True)
        ]
        subjects = {combination.subject for combination, found in zip(asked, right, strict=True) if found}
        share = mean_distance(made) / usual
        print(f"{family:10}{share:11.2f}{sum(right) / len(right):10.1%}{len(subjects):10}", flush=True)


def is_right(judge: Judge, clip: Tensor, combination: Combination) -> bool:
    agreement = judge(clip).agrees(combination)
    return all(agreement[name] for name in JUDGED)


def mean_distance(groups: list[Tensor]) -> float:
    """Mean root mean square distance between the clips (n, 3, t, h, w) of each group."""
    distances = [
        float((one - other).square().mean().sqrt())
        for clips in groups
        for one, other in itertools.combinations(clips, 2)
    ]
    return sum(distances) / len(distances)


if __name__ == "__main__":
    main()
