"""How often a clip shows what its prompt asks for, on combinations never trained on.

    python benchmarks/prompt_accuracy.py --animations DIR --count 200
    python benchmarks/prompt_accuracy.py --animations DIR --family flow     # or diffusion, gan
    python benchmarks/prompt_accuracy.py --animations DIR --real            # the judge itself, on real clips
    python benchmarks/prompt_accuracy.py --animations DIR --reconstructed   # the VAE alone
    python benchmarks/prompt_accuracy.py --animations DIR --prompts benchmarks/other_words.tsv

The judge knows nothing of the model (see judge.py). The row "shuffled" judges the same clips against the prompts of
other clips: it must be at chance level. 95 % intervals are Wilson's.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import _package
import torch
from generate import PIXELS, FullSequenceToVideo, PyramidToVideo, TextToVideo, load_vae, only_file
from judge import Judge, Verdict
from PIL import Image, ImageDraw
from pyramid_video.host.direct import full_sequence_sampler
from pyramid_video.models import checkpoints
from pyramid_video.models.files import write_beside
from pyramid_video.recipes.emoji.recipe import SUBJECTS
from pyramid_video.samplers.guidance import ClipGuidance, PyramidGuidance
from pyramid_video.samplers.stages import make_stages
from pyramid_video.training.data.captions import Combination, caption
from pyramid_video.training.data.datasets import AnimationDataset
from torch import Tensor
from torch.nn.functional import pad

DEFAULTS = {  # numbers of steps, and of guidance
    "pyramid": {"steps": (8, 4), "guidance": (3.5, 2.5, 0, 0.0)},
    "flow": {"steps": (6,), "guidance": (3.5, 0.2)},
    "diffusion": {"steps": (50,), "guidance": (3.0,)},
    "gan": {"steps": (1,), "guidance": (1.0,)},
}
JUDGED = ("background", "motion", "subject", "size")
SHOWN = 5  # frames of each clip on the contact sheet
GAP = 2  # pixels between them
COLUMNS = 4


def main() -> None:
    options = parse_options()
    try:
        dataset = AnimationDataset(options.animations, SUBJECTS, size=options.pixels, split="test")
        report, clips = measure(dataset, options)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")
    print_report(report)
    if options.json:
        with write_beside(options.json) as part:
            part.write_text(json.dumps(report, indent=1))
    if options.clips:
        options.clips.mkdir(parents=True, exist_ok=True)
        with write_beside(options.clips / "contact_sheet.png") as part:
            draw_contact_sheet(clips, report["clips"]).save(part, format="PNG")
        print(f"clips: {options.clips / 'contact_sheet.png'}")


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--animations", type=Path, required=True, help="folder of the animations that were learned")
    parser.add_argument("--count", type=int, default=200, help="clips to judge, each another unseen combination")
    parser.add_argument(
        "--prompts",
        type=Path,
        help="lines of prompt, subject, background and motion, divided by tabs, to judge instead",
    )
    parser.add_argument("--pixels", type=int, default=PIXELS, help="height and width of the clips")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--real", action="store_true", help="judge real clips instead of generated ones")
    source.add_argument("--reconstructed", action="store_true", help="judge real clips after the VAE, and its PSNR")
    pretrained = _package.ROOT / "models" / "pretrained"
    parser.add_argument("--models", type=Path, default=pretrained, help="folder laid out like models/pretrained")
    add_family(parser)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=8, help="clips made at once")
    parser.add_argument("--json", type=Path, help="write every verdict to this file")
    parser.add_argument("--clips", type=Path, help="write a picture of all clips to this folder")
    options = parser.parse_args()
    if options.count < 1 or options.batch < 1:
        parser.error(f"--count {options.count} --batch {options.batch}: both must be at least 1")
    fill_in(parser, options)
    return options


def add_family(parser: argparse.ArgumentParser) -> None:
    """Which model makes the clips, and how; `fill_in` gives what was not said."""
    parser.add_argument("--family", choices=DEFAULTS, default="pyramid", help="which of the bundled models")
    parser.add_argument(
        "--steps", type=int, nargs="+", help="pyramid: steps of the first frame and of later ones; others: one number"
    )
    parser.add_argument(
        "--guidance",
        type=float,
        nargs="+",
        help="as --steps, for the pyramid also how many stages are guided (0: all), and for pyramid and flow the share "
        "of coarse guidance; 1 is the prompt alone",
    )


def fill_in(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Put the family's defaults where neither steps nor guidance were given."""
    for name, default in DEFAULTS[options.family].items():
        given = getattr(options, name) or default
        if len(given) != len(default):
            parser.error(f"--family {options.family} takes {len(default)} numbers for --{name}, not {len(given)}")
        setattr(options, name, given)


def measure(dataset: AnimationDataset, options: argparse.Namespace) -> tuple[dict, Tensor]:
    """Make and judge the clips; the report, and the clips (n, 3, t, h, w) in -1..1."""
    generator = torch.Generator().manual_seed(options.seed)
    if options.prompts:
        prompts, asked = read_prompts(options.prompts)
    else:
        asked = choose_combinations(dataset, options.count, generator)
        prompts = [caption(combination, generator) for combination in asked]
    report = {"settings": {name: str(value) for name, value in vars(options).items()}}
    began = time.perf_counter()
    if options.real or options.reconstructed:
        clips = torch.stack([dataset.clip(combination, generator) for combination in asked])
        if options.reconstructed:
            real, clips = clips, reconstruct(clips, options)
            report["psnr"] = float(psnr(clips, real).mean())
    else:
        clips = generate(prompts, dataset, options)
    report["seconds"] = time.perf_counter() - began

    judge = Judge(dataset)
    verdicts = [judge(clip) for clip in clips]
    shuffled = [asked[i] for i in torch.randperm(len(asked), generator=generator).tolist()]
    report["likeness"] = sum(verdict.likeness for verdict in verdicts) / len(verdicts)
    report["prompted"] = count_agreement(verdicts, asked)
    report["shuffled"] = count_agreement(verdicts, shuffled)
    report["clips"] = [
        {"prompt": prompt, "asked": asdict(combination), "seen": asdict(verdict), "right": verdict.agrees(combination)}
        for prompt, combination, verdict in zip(prompts, asked, verdicts, strict=True)
    ]
    return report, clips


def read_prompts(path: Path) -> tuple[list[str], list[Combination]]:
    """The prompts of a file and what each asks for; a size that is not named counts as medium."""
    prompts, asked = [], []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        parts = line.split("\t")
        if len(parts) != 4:
            raise ValueError(
                f"{path}, line {number} has {len(parts)} parts; expected prompt, subject, background, motion"
            )
        prompts.append(parts[0])
        asked.append(Combination(*parts[1:]))
    return prompts, asked


def choose_combinations(dataset: AnimationDataset, count: int, generator: torch.Generator) -> list[Combination]:
    """`count` combinations in random order, all different while there are enough."""
    order = torch.randperm(len(dataset.combinations), generator=generator).tolist()
    return [dataset.combinations[order[i % len(order)]] for i in range(count)]


@torch.inference_mode()
def reconstruct(clips: Tensor, options: argparse.Namespace) -> Tensor:
    vae = load_vae(options.models)
    return in_batches(clips, options.batch, lambda batch, _: vae.decode(vae.encode(batch).mode()).clamp(-1, 1))


def generate(prompts: Sequence[str], dataset: AnimationDataset, options: argparse.Namespace) -> Tensor:
    return in_batches(prompts, options.batch, partial(clips_of, make_model(options), dataset, options.seed))


def clips_of(model: TextToVideo, dataset: AnimationDataset, seed: int, prompts: Sequence[str], begin: int) -> Tensor:
    """Clips of some prompts, the first of which is number `begin`, as long and large as those of the dataset."""
    return model(prompts, seed + begin, dataset.frames, dataset.size)


def make_model(options: argparse.Namespace) -> TextToVideo:
    """The model of a family, with the steps and the guidance that were asked for."""
    if options.family == "pyramid":
        first_steps, video_steps = options.steps
        stages = make_stages(first_steps=first_steps, video_steps=video_steps)
        return PyramidToVideo(options.models, stages, pyramid_guidance(*options.guidance))
    (steps,), (scale, *coarse) = options.steps, options.guidance
    family = checkpoints.inspect(only_file(options.models, "diffusion_models", options.family)).family
    sampler = full_sequence_sampler(family, steps)
    if coarse:
        sampler = replace(sampler, guidance=ClipGuidance(coarse=coarse[0]))
    return FullSequenceToVideo(options.models, sampler, scale)


def pyramid_guidance(first: float, video: float, guided_stages: float, coarse: float) -> PyramidGuidance:
    """What the numbers of `--guidance` are to the pyramid."""
    return PyramidGuidance(first, video, stages=int(guided_stages), coarse=coarse)


def in_batches(items: Sequence, size: int, make: Callable[[Sequence, int], Tensor]) -> Tensor:
    """What `make(some items, index of their first)` gives for all items, with a count on stderr."""
    made = []
    for begin in range(0, len(items), size):
        made.append(make(items[begin : begin + size], begin))
        print(f"\r{begin + len(made[-1])} of {len(items)} clips", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return torch.cat(made)


def count_agreement(verdicts: Sequence[Verdict], asked: Sequence[Combination]) -> dict[str, dict[str, float]]:
    """Of each thing judged: how often it is right, and the 95 % interval of that share."""
    agreements = [verdict.agrees(combination) for verdict, combination in zip(verdicts, asked, strict=True)]
    table = {}
    for name in JUDGED:
        right = sum(agreement[name] for agreement in agreements)
        low, high = wilson_interval(right, len(agreements))
        table[name] = {"share": right / len(agreements), "low": low, "high": high}
    return table


def wilson_interval(right: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's score interval of a share; unlike the usual one it is sound near 0 and 1."""
    share, spread = right / count, z * z / count
    middle = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / count + spread / (4 * count))
    return max(0.0, middle - half), min(1.0, middle + half)


def print_report(report: dict) -> None:
    clips = report["clips"]
    print(f"{len(clips)} clips in {report['seconds']:.0f} s; likeness {report['likeness']:.3f}")
    if "psnr" in report:
        print(f"PSNR of the reconstruction: {report['psnr']:.2f} dB")
    print(f"{'':12}{'right':>8}{'95 % interval':>18}{'shuffled':>10}")
    for name in JUDGED:
        row, chance = report["prompted"][name], report["shuffled"][name]
        interval = f"{row['low']:.1%} to {row['high']:.1%}"
        print(f"{name:12}{row['share']:8.1%}{interval:>18}{chance['share']:10.1%}")
    for name in JUDGED:
        mistakes = Counter(f"{c['asked'][name]} -> {c['seen'][name]}" for c in clips if not c["right"][name])
        if mistakes:
            print(f"{name}: " + ", ".join(f"{mistake} ({count})" for mistake, count in mistakes.most_common(8)))


def psnr(decoded: Tensor, video: Tensor) -> Tensor:
    """Peak signal to noise ratio in dB of each clip of `(b, 3, t, h, w)` in -1..1 (peak to peak 2)."""
    error = (decoded.clamp(-1, 1) - video).square().flatten(1).mean(1)
    return 10 * torch.log10(4 / error.clamp_min(1e-12))


def draw_contact_sheet(clips: Tensor, verdicts: Sequence[dict]) -> Image.Image:
    """Every clip as a few frames over its prompt; what the judge saw instead is written in red."""
    size = clips.shape[-1]
    looks = torch.linspace(0, clips.shape[2] - 1, SHOWN).round().long()
    pictures = (pad(clips[:, :, looks], (0, GAP), value=1) + 1) * 127.5
    strips = pictures.round().byte().permute(0, 3, 2, 4, 1).flatten(2, 3)  # (n, h, looks w, 3)
    cell = (strips.shape[2] + 8, size + 30)
    sheet = Image.new("RGB", (cell[0] * COLUMNS, cell[1] * math.ceil(len(clips) / COLUMNS)), "white")
    pen = ImageDraw.Draw(sheet)
    for index, (strip, verdict) in enumerate(zip(strips, verdicts, strict=True)):
        x, y = index % COLUMNS * cell[0], index // COLUMNS * cell[1]
        sheet.paste(Image.fromarray(strip.numpy()), (x, y))
        pen.text((x, y + size), verdict["prompt"][:54], fill="black")
        wrong = [verdict["seen"][name] for name in JUDGED if not verdict["right"][name]]
        pen.text((x, y + size + 12), ", ".join(wrong), fill="red")
    return sheet


if __name__ == "__main__":
    main()
