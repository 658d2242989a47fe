"""`pyramid-video train`: the runs that make the pack's small model, here or under `accelerate launch`."""

from __future__ import annotations

import argparse
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from .ranks import is_first

PARTS = ("vae", "pyramid", "decoder", "flow", "diffusion", "gan")
ONLY_FOR = {  # options that not every part knows
    "judge_from": ("vae", "decoder"),
    "begin_from": ("pyramid", "flow", "diffusion", "gan"),
}


def count(text: str) -> int:
    """The value of an option that counts something."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"takes a whole number from 1 on, not {text!r}")
    return int(text)


def add_parser(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the `train` command."""
    train = commands.add_parser("train", help="train the small model on the Fluent animated emoji")
    train.add_argument(
        "part",
        choices=PARTS,
        help="the VAE first, then transformer and text encoder of the pyramid, then a finer decoder for the VAE; flow, "
        "diffusion and gan share VAE and text encoder and come last",
    )
    train.add_argument(
        "--animations",
        type=Path,
        required=True,
        metavar="DIR",
        help="webp, gif or png with alpha, its 20 subjects among them",
    )
    train.add_argument("--run", type=Path, required=True, metavar="DIR", help="where the run keeps its state")
    train.add_argument("--out", type=Path, required=True, metavar="DIR", help="a models folder for the finished files")
    train.add_argument(
        "--steps", type=count, metavar="N", help="optimiser updates (default: those of the bundled model)"
    )
    train.add_argument("--clips", type=count, metavar="N", help="clips that are drawn once and learned from")
    train.add_argument(
        "--judge-from",
        type=int,
        metavar="STEP",
        help="from this step on a discriminator teaches the VAE or its decoder too",
    )
    train.add_argument(
        "--begin-from",
        type=Path,
        metavar="DIR",
        help="a models folder whose transformer and text encoder learn on, in a new run of pyramid",
    )
    train.add_argument("--seed", type=int, default=0, metavar="N", help="another seed is another run (default: 0)")
    train.set_defaults(command=train_command, refuse=train.error)
    return train


def train_command(options: argparse.Namespace) -> int:
    """Train until done or stopped; run the same command again to go on, and with fewer steps to finish early."""
    from .opening import check_writable

    for option, parts in ONLY_FOR.items():
        if getattr(options, option) is not None and options.part not in parts:
            name = option.replace("_", "-")
            options.refuse(f"argument --{name}: means something for {', '.join(parts)} only, not for {options.part}")
    for folder in (options.run, options.out):
        check_writable(folder)
    with ending_as_ctrl_c():
        for path in train_part(options):
            print(path)
    return 0


@contextmanager
def ending_as_ctrl_c() -> Iterator[None]:
    """Let SIGTERM end what runs inside as Ctrl-C does, with everything saved; `nohup` and `&` make Ctrl-C deaf."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def train_part(options: argparse.Namespace) -> list[Path]:
    """Train one part and write its files, and its curves beside the state of the run; all by the first process."""
    from ..models import checkpoints
    from ..training import small_families, small_pyramid, small_vae
    from ..training.data import AnimationDataset
    from ..training.loop import TrainSettings
    from ..training.report import save_curves

    dataset = AnimationDataset(options.animations, small_vae.SUBJECTS)
    recipes = {
        "vae": small_vae.VAE_TRAINING,
        "pyramid": small_pyramid.PYRAMID_TRAINING,
        "decoder": small_vae.DECODER_TRAINING,
        **small_families.TRAINING,
    }
    recipe = dict(recipes[options.part])
    if options.steps is not None:
        recipe["steps"] = options.steps
    settings = TrainSettings(**recipe, seed=options.seed)
    clips = {} if options.clips is None else {"clips": options.clips}
    vae = None
    if options.part != "vae":
        vae, _ = checkpoints.load(options.out / small_vae.VAE_FILE, ["causal_vae"])
    if options.part == "pyramid":
        trained = small_pyramid.train_pyramid(
            dataset, vae, options.run, settings, begin_from=options.begin_from, on_step=report, **clips
        )
        run, export = trained[0], partial(small_pyramid.export_pyramid, *trained)
    elif options.part in small_families.SMALL_FAMILIES:
        run, latent_format = small_families.train_family(
            options.part,
            dataset,
            vae,
            options.out,
            options.run,
            settings,
            begin_from=options.begin_from,
            on_step=report,
            **clips,
        )
        export = partial(small_families.export_family, options.part, run, latent_format)
    else:
        run = small_vae.train_vae(
            dataset, options.run, settings, begun=vae, judged_from=options.judge_from, on_step=report, **clips
        )
        export = partial(small_vae.export_vae, run)
    if not run.is_main:
        return []
    exported = export(options.out)
    return [*(exported if isinstance(exported, tuple) else [exported]), save_curves(options.run)]


def report(step: int, losses: Mapping[str, float]) -> None:
    """One line every hundred steps, from the first process."""
    if step % 100 == 0 and is_first():
        print(time.strftime("%H:%M:%S"), step, *(f"{name} {value:.4f}" for name, value in losses.items()), flush=True)
