"""What the four families give for their work, in one table and one picture.

    python benchmarks/families.py --animations DIR --count 100 --picture families.png

The same unseen prompts, the same judge and one process for all. A clip is right when background, motion and subject
are. Network evaluations are counted per clip, both rows of a guided call; seconds are those of a clip made in batches
of `--batch`, text and VAE included.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import _package
import torch
from generate import PIXELS
from judge import Judge
from PIL import Image, ImageDraw, ImageFont
from prompt_accuracy import DEFAULTS, choose_combinations, make_model
from pyramid_video.models.files import write_beside
from pyramid_video.recipes.emoji.recipe import SUBJECTS
from pyramid_video.training.data.captions import caption
from pyramid_video.training.data.datasets import AnimationDataset

STEPS = {  # of each family, from a glance to plenty
    "pyramid": ((1, 1), (2, 1), (5, 3), (8, 4), (20, 10)),
    "flow": ((1,), (2,), (5,), (10,), (20,)),
    "diffusion": ((5,), (10,), (20,), (50,), (100,)),
    "gan": ((1,),),
}
JUDGED = ("background", "motion", "subject")
COLOURS = {"pyramid": (125, 40, 160), "flow": (35, 70, 205), "diffusion": (40, 150, 60), "gan": (214, 40, 40)}
WIDTH, HEIGHT, SMOOTH = 1080, 460, 2  # drawn larger, then reduced: PIL's own lines have stairs
PANELS = ((70, 520), (610, 1060))  # left and right edge
TOP, BOTTOM = 56, 400


@dataclass(frozen=True)
class Point:
    """One family at one number of steps."""

    family: str
    steps: tuple[int, ...]
    evaluations: float  # of the network, per clip
    seconds: float  # per clip
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
    print(f"{'family':10}{'steps':>8}{'evaluations':>13}{'s a clip':>10}{'right':>8}", *(f"{n:>11}" for n in JUDGED))
    for family, choices in STEPS.items():
        for steps in choices:
            made = argparse.Namespace(
                models=options.models, family=family, steps=steps, guidance=DEFAULTS[family]["guidance"]
            )
            model, verdicts = make_model(made), []
            model(prompts[:1], options.seed, dataset.frames, dataset.size)  # the first call prepares what is reused
            model.rows, seconds = 0, 0.0
            batches = range(0, len(prompts), options.batch)
            for begin in batches:
                some = prompts[begin : begin + options.batch]
                started = time.perf_counter()
                clips = model(some, options.seed + begin, dataset.frames, dataset.size)
                seconds += time.perf_counter() - started
                verdicts += [judge(clip) for clip in clips]
            agreements = [verdict.agrees(combination) for verdict, combination in zip(verdicts, asked, strict=True)]
            shares = [mean(agreement[name] for agreement in agreements) for name in JUDGED]
            right = mean(all(agreement[name] for name in JUDGED) for agreement in agreements)
            point = Point(family, steps, model.rows / len(prompts), seconds / len(prompts), right, *shares)
            points.append(point)
            print(
                f"{family:10}{'/'.join(map(str, steps)):>8}{point.evaluations:13.0f}{point.seconds:10.3f}{right:8.1%}",
                *(f"{share:11.1%}" for share in shares),
                flush=True,
            )
    return points


def mean(values) -> float:
    values = list(values)
    return sum(map(float, values)) / len(values)


def draw(points: Sequence[Point]) -> Image.Image:
    """Share of right clips over evaluations and over seconds, both axes of work logarithmic."""
    picture = Image.new("RGB", (WIDTH * SMOOTH, HEIGHT * SMOOTH), "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(14 * SMOOTH)
    for edges, name, title in zip(
        PANELS, ("evaluations", "seconds"), ("network evaluations per clip", "seconds per clip"), strict=True
    ):
        draw_panel(pen, font, points, edges, name, title)
    left = PANELS[0][0]
    pen.text((left * SMOOTH, 14 * SMOOTH), "clips with background, motion and subject right", fill="black", font=font)
    for place, (family, colour) in enumerate(COLOURS.items()):
        pen.text(((610 + 110 * place) * SMOOTH, 14 * SMOOTH), family, fill=colour, font=font)
    return picture.resize((WIDTH, HEIGHT), Image.LANCZOS)


def draw_panel(pen, font, points: Sequence[Point], edges: tuple[int, int], name: str, title: str) -> None:
    left, right = edges
    works = [math.log10(getattr(point, name)) for point in points]
    low, high = math.floor(min(works) * 4) / 4, math.ceil(max(works) * 4) / 4

    def place(work: float, share: float) -> tuple[float, float]:
        x = left + (work - low) / (high - low) * (right - left)
        return x * SMOOTH, (BOTTOM - share * (BOTTOM - TOP)) * SMOOTH

    for share in (0, 0.2, 0.4, 0.6, 0.8, 1.0):
        pen.line((*place(low, share), *place(high, share)), fill=(222, 225, 230), width=SMOOTH)
        pen.text(((left - 44) * SMOOTH, place(low, share)[1] - 9 * SMOOTH), f"{share:.0%}", fill="black", font=font)
    for power in range(math.ceil(low), math.floor(high) + 1):
        x, _ = place(power, 0)
        pen.line((x, TOP * SMOOTH, x, BOTTOM * SMOOTH), fill=(222, 225, 230), width=SMOOTH)
        pen.text((x - 8 * SMOOTH, (BOTTOM + 6) * SMOOTH), f"{10.0**power:g}", fill="black", font=font)
    pen.text(((left + right - 190) / 2 * SMOOTH, (BOTTOM + 28) * SMOOTH), title, fill="black", font=font)
    for family, colour in COLOURS.items():
        own = [place(math.log10(getattr(p, name)), p.right) for p in points if p.family == family]
        if len(own) > 1:
            pen.line(own, fill=colour, width=3 * SMOOTH, joint="curve")
        for x, y in own:
            radius = 5 * SMOOTH
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)


if __name__ == "__main__":
    main()
