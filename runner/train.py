"""`pyramid-video train`: on a folder of your own clips, or the runs that make the pack's small models."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..training.run.launch import is_first
from .errors import RunnerError, nearest
from .folders import a_name, a_path, check_folders, check_writable
from .numbers import a_count, a_positive, a_seed, a_step
from .train_clips import add_options, train_clips

if TYPE_CHECKING:
    from ..training.data.datasets import AnimationDataset
    from ..training.run.train_settings import TrainSettings

FORESEEN_FROM = 20  # steps after which the pace is known
PARTS = ("vae", "pyramid", "decoder", "flow", "diffusion", "gan", "finish", "history", "text")
SMALL_ONLY = ("run", "judge_from", "begin_from", "pixels", "minutes")
CLIPS_ONLY = ("kind", "name", "model", "prompt", "batch", "size", "models", "device", "set")
SIZES = (128, 64)  # of pictures, the usual one first
WITH_CLIPS = tuple(part for part in PARTS if part != "text")
ONLY_FOR = {  # options that not every part knows
    "judge_from": ("vae", "decoder"),
    "clips": WITH_CLIPS,
    "animations": WITH_CLIPS,
    "pixels": WITH_CLIPS,
    "begin_from": ("pyramid", "flow", "diffusion", "gan", "history", "text"),
}


def add_parser(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the `train` command."""
    train = commands.add_parser("train", help="train a LoRA, a model or a VAE on your own clips")
    train.add_argument(
        "part",
        type=a_name,
        metavar="FOLDER",
        help="a folder of clips, each with its caption in a text file of the same name; or a part of the pack's small "
        f"models, with --animations: {', '.join(PARTS)}",
    )
    train.add_argument("--steps", type=a_count, metavar="N", help="optimiser updates (default: those of the workflow)")
    train.add_argument("--clips", type=a_count, metavar="N", help="how many clips are drawn and encoded once")
    train.add_argument("--out", type=a_path, metavar="DIR", help="where the finished files go (default: ./output)")
    train.add_argument("--seed", type=a_seed, metavar="N", help="another seed gives another run (default: 0)")
    add_options(train)
    small = train.add_argument_group("for a part of the pack's small models")
    small.add_argument("--animations", type=a_path, metavar="DIR", help="webp, gif or png animations with alpha")
    small.add_argument("--run", type=a_path, metavar="DIR", help="where the run keeps its state")
    small.add_argument(
        "--judge-from",
        type=a_step,
        metavar="STEP",
        help="train the VAE or decoder against a discriminator from this step on (default: never, but for the decoder "
        "of 128 pixels from the first step)",
    )
    small.add_argument(
        "--begin-from",
        type=a_path,
        metavar="DIR",
        help="start a new run from the weights in this models folder: see docs/training.md for which",
    )
    small.add_argument(
        "--pixels",
        type=a_count,
        choices=SIZES,
        help=f"size of the clips (default: {SIZES[0]}, which the bundled models have)",
    )
    small.add_argument(
        "--minutes",
        type=a_positive,
        metavar="N",
        help="stop after N minutes of training on any hardware; the learning rate follows the clock",
    )
    train.set_defaults(command=train_command, refuse=train.error)
    return train


def train_command(options: argparse.Namespace) -> int:
    """Train until done or stopped; run the same command again to go on, and with fewer steps to finish early."""
    check_folders(options)
    if options.animations is None and not (options.part in PARTS and not a_path(options.part).is_dir()):
        refuse_options(options, SMALL_ONLY, "a part of the pack's small models")
        for path in train_clips(options).files:
            print(path)
        return 0
    if options.part not in PARTS:
        close = nearest(options.part, PARTS)
        options.refuse(f"argument --animations: {options.part!r} is not a part of the small models{close}")
    refuse_options(options, CLIPS_ONLY, "a folder of clips")
    needed = [name for name in ("animations", "run", "out") if options.part in ONLY_FOR.get(name, PARTS)]
    for name in needed:
        if getattr(options, name) is None:
            *others, last = (f"--{each}" for each in needed)
            options.refuse(f"{options.part} needs {', '.join(others)} and {last}; --{name} is not given")
    for option, parts in ONLY_FOR.items():
        if getattr(options, option) is not None and options.part not in parts:
            name = option.replace("_", "-")
            options.refuse(f"argument --{name}: means something for {', '.join(parts)} only, not for {options.part}")
    check_folders(options, ["animations"])
    check_part(options)
    check_writable(options.run, "the run's folder")
    check_writable(options.out)
    settings, dataset = prepare(options)  # may refuse the animations, before there is a folder
    from ..training.run.run_lock import run_lock
    from ..training.run.run_state import saying_what_is_kept

    with run_lock(options.run), saying_what_is_kept(options.run):
        for path in train_part(options, settings, dataset):
            print(path)
    return 0


def refuse_options(options: argparse.Namespace, names: Sequence[str], meant_for: str) -> None:
    """Refuse options that have no effect in this use of the command."""
    for name in names:
        if getattr(options, name) not in (None, []):
            shown = {"kind": "as"}.get(name, name.replace("_", "-"))
            options.refuse(f"argument --{shown}: means something for {meant_for} only")


def check_part(options: argparse.Namespace) -> None:
    """Refuse a part whose recipe is not installed, or that lacks the files it begins with."""
    try:
        from ..recipes.emoji.needed_files import check_files
    except ModuleNotFoundError as missing:
        if "recipes" not in str(missing.name):
            raise
        raise RunnerError(
            f"`train {options.part}` makes the pack's own small models, whose recipe pip does not install: clone the "
            "repository and run it there, or give a folder of clips"
        ) from None
    check_files(options.part, options.pixels or SIZES[0], options.out, options.run, options.begin_from)


def prepare(options: argparse.Namespace) -> tuple[TrainSettings, AnimationDataset | None]:
    """What a part is trained with and on."""
    from ..recipes.emoji import small_models
    from ..recipes.emoji.recipe import SUBJECTS
    from ..training.data.datasets import AnimationDataset

    pixels = options.pixels or SIZES[0]
    settings = small_models.settings_of(options.part, pixels, options.steps, options.minutes, options.seed or 0)
    return settings, None if options.part == "text" else AnimationDataset(options.animations, SUBJECTS, size=pixels)


def train_part(
    options: argparse.Namespace, settings: TrainSettings, dataset: AnimationDataset | None
) -> Iterator[Path]:
    """Train one part and write its files, and its curves beside the state of the run; all by the first process."""
    import torch

    from ..drawings.curves import save_curves
    from ..models import checkpoints
    from ..recipes.emoji import small_models
    from ..recipes.emoji.recipe import VAE_FILE

    vae = None
    if options.part not in ("vae", "text"):
        vae, _ = checkpoints.load(options.out / VAE_FILE, ["causal_vae"], dtype=torch.float32)
    trained = small_models.train(
        options.part,
        dataset,
        vae,
        options.out,
        options.run,
        settings,
        begin_from=options.begin_from,
        discriminator_start=options.judge_from,
        clips=options.clips,
        on_step=Reporter(settings),
    )
    if trained.run.is_main:
        yield from trained.export(options.out)
        if (curves := save_curves(options.run)) is not None:
            yield curves


class Reporter:
    """One line every hundred steps, from the first process; where time is limited, also what it will suffice for."""

    def __init__(self, settings: TrainSettings) -> None:
        self.settings, self.began, self.first = settings, 0.0, 0

    def __call__(self, step: int, losses: Mapping[str, float]) -> None:
        if not self.began:
            self.began, self.first = time.monotonic(), step
        if step % 100 == 0 and is_first():
            shown = (f"{name} {value:.4f}" for name, value in losses.items())
            print(time.strftime("%H:%M:%S"), step, *shown, flush=True)
        if self.settings.minutes is not None and step == self.first + FORESEEN_FROM and is_first():
            pace = (time.monotonic() - self.began) / FORESEEN_FROM
            expected = min(self.settings.steps, round(60 * self.settings.minutes / pace))
            print(
                f"{pace:.2f} s a step: about {expected} steps in {self.settings.minutes:g} minutes; the recipe's whole "
                f"run has {self.settings.steps}",
                flush=True,
            )
