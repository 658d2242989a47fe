"""What the four families give for their work, in one table and one picture.

    python benchmarks/families.py --animations DIR --count 100 --picture families.png

The same unseen prompts, the same judge and one process for all. A clip is right when background, motion and subject
are. Figures are compared with those of the nearest real clip (sharpness.py), medians. Network evaluations are counted
per clip, both rows of a guided call; seconds are those of a clip made in batches of `--batch`, text and VAE included.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import _package
import torch
from generate import PIXELS
from judge import Judge
from nearest_clip import nearest_clip
from PIL import Image
from prompt_accuracy import DEFAULTS, choose_combinations, clips_of, in_batches, make_model
from pyramid_video.drawings.curves import BLACK, GRID, WHITE
from pyramid_video.drawings.pen import Pen
from pyramid_video.models.files import write_beside
from pyramid_video.recipes.emoji.recipe import SUBJECTS
from pyramid_video.training.data.captions import caption
from pyramid_video.training.data.datasets import AnimationDataset
from sharpness import figure_psnr, gradient_energy

STEPS = {  # of each family, from a glance to plenty
    "pyramid": ((1, 1), (5, 3), (8, 4), (20, 10)),  # the last of n steps hardly moves, so 2 are as 1
    "flow": ((1,), (2,), (4,), (6,), (10,)),
    "diffusion": ((5,), (10,), (50,)),
    "gan": ((1,),),
}
JUDGED = ("background", "motion", "subject")
COLOURS = {"pyramid": (125, 40, 160), "flow": (35, 70, 205), "diffusion": (40, 150, 60), "gan": (214, 40, 40)}
WIDTH, HEIGHT, LETTERS = 1080, 460, 14
PANELS = ((70, 520), (610, 1060))  # left and right edge
TOP, BOTTOM = 56, 400


@dataclass(frozen=True)
class Point:
    """One family at one number of steps."""

    family: str
    steps: tuple[int, ...]
    evaluations: float  # of the network, per clip
    seconds: float  # per clip
    figure: float  # dB of PSNR over the figure
    edges: float  # gradient energy, part of that of real clips
    right: float  # share of clips with everything right
    background: float
    motion: float
    subject: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--animations", type=Path, required=True, help="folder of the animations that were learned")
    parser.add_argument("--count", type=int, default=100, help="clips of each family at each number of steps")
    parser.add_argument("--models", type=Path, default=_package.ROOT / "models" / "pretrained")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=10, help="clips made at once")
    parser.add_argument("--picture", type=Path, help="draw the table to this png file")
    parser.add_argument("--json", type=Path, help="write the table to this file")
    options = parser.parse_args()
    try:
        points = measure(AnimationDataset(options.animations, SUBJECTS, size=PIXELS, split="test"), options)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")
    if options.json:
        with write_beside(options.json) as part:
            part.write_text(json.dumps([asdict(point) for point in points], indent=1))
    if options.picture:
        with write_beside(options.picture) as part:
            draw(points).save(part, format="PNG", optimize=True)


def measure(dataset: AnimationDataset, options: argparse.Namespace) -> list[Point]:
    """Make, judge and time the clips, and print the table line by line."""
    generator = torch.Generator().manual_seed(options.seed)
    asked = choose_combinations(dataset, options.count, generator)
    prompts = [caption(combination, generator) for combination in asked]
    judge, points = Judge(dataset), []
    titles = "evaluations", "s a clip", "figure", "edges", "right", *JUDGED
    print(f"{'family':10}{'steps':>8}", *(f"{title:>11}" for title in titles))
    for family, choices in STEPS.items():
        for steps in choices:
            made = argparse.Namespace(
                models=options.models, family=family, steps=steps, guidance=DEFAULTS[family]["guidance"]
            )
            model = make_model(made)
            model(prompts[:1], options.seed, dataset.frames, dataset.size)  # the first call prepares what is reused
            model.rows, started = 0, time.perf_counter()
            clips = in_batches(prompts, options.batch, partial(clips_of, model, dataset, options.seed))
            seconds = time.perf_counter() - started
            real = torch.stack([nearest_clip(dataset, *pair) for pair in zip(asked, clips, strict=True)])
            figure, edges = figure_psnr(clips, real).median(), (gradient_energy(clips) / gradient_energy(real)).median()
            agreements = [judge(clip).agrees(combination) for clip, combination in zip(clips, asked, strict=True)]
            right = mean(all(agreement[name] for name in JUDGED) for agreement in agreements)
            shares = [mean(agreement[name] for agreement in agreements) for name in JUDGED]
            work = model.rows / len(prompts), seconds / len(prompts)
            points.append(Point(family, steps, *work, float(figure), float(edges), right, *shares))
            print(
                f"{family:10}{'/'.join(map(str, steps)):>8} {work[0]:11.0f} {work[1]:11.3f} {figure:11.2f}",
                *(f"{share:11.1%}" for share in (edges, right, *shares)),
                flush=True,
            )
    return points


def mean(values) -> float:
    values = list(values)
    return sum(map(float, values)) / len(values)


def draw(points: Sequence[Point]) -> Image.Image:
    """PSNR over the figures over evaluations and over seconds, both axes of work logarithmic."""
    pen, left = Pen(WIDTH, HEIGHT, WHITE), PANELS[0][0]
    for edges, name, title in zip(
        PANELS, ("evaluations", "seconds"), ("network evaluations a clip", "seconds a clip"), strict=True
    ):
        draw_panel(pen, points, edges, name, title)
    pen.text(left, 14, "PSNR over the figure, to the nearest real clip, dB", BLACK, LETTERS, "la")
    for place, (family, colour) in enumerate(COLOURS.items()):
        pen.text(PANELS[1][0] + 110 * place, 14, family, colour, LETTERS, "la")
    return pen.finished()


def draw_panel(pen: Pen, points: Sequence[Point], edges: tuple[int, int], name: str, title: str) -> None:
    left, right = edges
    works = [math.log10(getattr(point, name)) for point in points]
    low, high = math.floor(min(works) * 4) / 4, math.ceil(max(works) * 4) / 4
    figures = [point.figure for point in points]
    least, most = math.floor(min(figures)), math.ceil(max(figures))

    def place(work: float, figure: float) -> tuple[float, float]:
        across, up = (work - low) / (high - low), (figure - least) / (most - least)
        return left + across * (right - left), BOTTOM - up * (BOTTOM - TOP)

    for figure in range(least, most + 1):
        pen.line(place(low, figure), place(high, figure), colour=GRID, width=1)
        pen.text(left - 8, place(low, figure)[1], str(figure), BLACK, LETTERS, "rm")
    for tick in (factor * 10.0**power for power in range(math.floor(low), math.ceil(high) + 1) for factor in (1, 2, 5)):
        work = math.log10(tick)
        if low <= work <= high:
            pen.line(place(work, least), place(work, most), colour=GRID, width=1)
            pen.text(place(work, least)[0], BOTTOM + 8, f"{tick:g}", BLACK, LETTERS, "mt")
    pen.text((left + right) / 2, BOTTOM + 30, title, BLACK, LETTERS, "mt")
    for family, colour in COLOURS.items():
        own = [place(math.log10(getattr(p, name)), p.figure) for p in points if p.family == family]
        if len(own) > 1:
            pen.line(*own, colour=colour, width=3)
        for point in own:
            pen.dot(*point, colour, 5)


if __name__ == "__main__":
    main()
