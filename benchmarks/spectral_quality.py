"""What the pyramid for any model costs and keeps on the bundled flow, which knows 128 and 64 pixels: timed and judged.

    python benchmarks/spectral_quality.py --animations DIR --count 100

Clips of 128 pixels of prompts never trained on, plain and with the early steps at half size, from the same noise, in
turn in one run. Seconds are of one clip at a time: of sampling, and of all from the prompt to the pixels. The judge
knows nothing of the model (see judge.py); intervals are Wilson's, of 95 %.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import _package
import torch
from generate import PIXELS, only_file
from judge import Judge
from prompt_accuracy import JUDGED, choose_combinations, count_agreement
from pyramid_video.host.standalone.host import StandaloneHost
from pyramid_video.models.files import write_beside
from pyramid_video.recipes.emoji.recipe import SUBJECTS, TRANSFORMER_FILES
from pyramid_video.samplers.spectral_stages import SpectralStages
from pyramid_video.training.data.captions import caption
from pyramid_video.training.data.datasets import AnimationDataset
from torch import Tensor

GUIDANCE = 3.0


def main() -> None:
    options = parse_options()
    rows = {"plain": SpectralStages((1.0,))}
    rows |= {f"1/2 down to noise {level:g}": SpectralStages(levels=(level,)) for level in options.levels}
    dataset = AnimationDataset(options.animations, SUBJECTS, size=PIXELS, split="test")
    generator = torch.Generator().manual_seed(options.seed)
    asked = choose_combinations(dataset, options.count, generator)
    prompts = [caption(combination, generator) for combination in asked]
    make, judge = Maker(options.models, options.steps, dataset.frames), Judge(dataset)
    for name in rows:  # what is paid once is paid before
        make(prompts[0], rows[name], 0)
    made: dict[str, list[tuple[float, float, Any]]] = {name: [] for name in rows}
    for number, prompt in enumerate(prompts):
        for name, stages in rows.items():
            clip, sampling, whole = make(prompt, stages, options.seed + number)
            made[name].append((sampling, whole, judge(clip)))
        print(f"\r{number + 1} of {len(prompts)} prompts", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    report = {name: summary(clips, asked) for name, clips in made.items()}
    print_report(report)
    if options.json:
        with write_beside(options.json) as part:
            part.write_text(json.dumps(report, indent=1))


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--animations", type=Path, required=True, help="folder of the animations that were learned")
    parser.add_argument("--count", type=int, default=100, help="prompts, each another unseen combination")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--levels", type=float, nargs="+", default=[0.85, 0.7], help="where half size ends")
    pretrained = _package.ROOT / "models" / "pretrained"
    parser.add_argument("--models", type=Path, default=pretrained, help="folder laid out like models/pretrained")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the table to this file")
    return parser.parse_args()


class Maker:
    """Makes clips with the bundled flow as 'Sample with a pyramid' does without ComfyUI."""

    def __init__(self, models: Path, steps: int, frames: int) -> None:
        self.host, self.steps = StandaloneHost(silent=True), steps
        self.model = self.host.load_model(models / TRANSFORMER_FILES["flow"])
        self.vae = self.host.load_vae(only_file(models, "vae"))
        self.clip = self.host.load_text_encoder(only_file(models, "text_encoders"))
        info = self.host.vae_info(self.vae)
        side = PIXELS // info.space_compression
        self.empty = {"samples": torch.zeros(1, info.latent_channels, info.latent_frames_of(frames), side, side)}

    def __call__(self, prompt: str, stages: SpectralStages, seed: int) -> tuple[Tensor, float, float]:
        """The clip (3, t, h, w) in -1..1, the seconds of sampling, and those of all."""
        began = time.perf_counter()
        texts = self.host.encode_prompt(self.clip, prompt), self.host.encode_prompt(self.clip, "")
        any_model = self.host.any_model
        sigmas = any_model.sigmas(self.model, self.steps, "simple")
        before = time.perf_counter()
        latent = any_model.sample(self.model, (*texts, GUIDANCE), "euler", stages, sigmas, self.empty, seed)
        after = time.perf_counter()
        pictures = self.host.decode(self.vae, latent["samples"])
        return pictures.movedim(-1, 0) * 2 - 1, after - before, time.perf_counter() - began


def summary(clips: list[tuple[float, float, Any]], asked: list) -> dict[str, Any]:
    sampling, whole, verdicts = zip(*clips, strict=True)
    return {"sampling": median(sampling), "whole": median(whole), "right": count_agreement(verdicts, asked)}


def print_report(report: dict[str, dict[str, Any]]) -> None:
    plain = report["plain"]
    print(f"{'':<26}{'sampling':>18}{'whole clip':>18}" + "".join(f"{name:>22}" for name in JUDGED))
    for name, row in report.items():
        times = "".join(f"{row[part]:>10.2f} s {plain[part] / row[part]:>4.2f}x" for part in ("sampling", "whole"))
        shares = (row["right"][judged] for judged in JUDGED)
        right = "".join(f"{s['share']:>10.1%} ({s['low']:.0%}-{s['high']:.0%})".rjust(22) for s in shares)
        print(f"{name:<26}{times:>36}{right}")


if __name__ == "__main__":
    main()
