"""`pyramid-video train`: the runs that make the pack's small model, here or under `accelerate launch`."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path


def add_parser(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the `train` command."""
    train = commands.add_parser("train", help="train the small model on the Fluent animated emoji")
    train.add_argument("part", choices=("vae", "pyramid"), help="the VAE first, then transformer and text encoder")
    train.add_argument(
        "--animations",
        type=Path,
        required=True,
        metavar="DIR",
        help="webp, gif or png with alpha, its 20 subjects among them",
    )
    train.add_argument("--run", type=Path, required=True, metavar="DIR", help="where the run keeps its state")
    train.add_argument("--out", type=Path, required=True, metavar="DIR", help="a models folder for the finished files")
    train.add_argument("--steps", type=int, metavar="N", help="optimiser updates (default: those of the bundled model)")
    train.add_argument("--clips", type=int, metavar="N", help="clips that are drawn once and learned from")
    train.add_argument("--seed", type=int, default=0, metavar="N", help="another seed is another run (default: 0)")
    train.set_defaults(command=train_command)
    return train


def train_command(options: argparse.Namespace) -> int:
    """Train until done or stopped; run the same command again to go on, and with fewer steps to finish early."""
    from ..models import checkpoints
    from ..training import small_model
    from ..training.data import AnimationDataset
    from ..training.loop import TrainSettings

    dataset = AnimationDataset(options.animations, small_model.SUBJECTS)
    recipe = small_model.VAE_TRAINING if options.part == "vae" else small_model.PYRAMID_TRAINING
    settings = TrainSettings(**{**recipe, "steps": options.steps or recipe["steps"], "seed": options.seed})
    clips = {} if options.clips is None else {"clips": options.clips}
    if options.part == "vae":
        run = small_model.train_vae(dataset, options.run, settings, on_step=report, **clips)
        files = [small_model.export_vae(run, options.out)]
    else:
        vae, _ = checkpoints.load(options.out / small_model.FILES["vae"], ["causal_vae"])
        trained = small_model.train_pyramid(dataset, vae, options.run, settings, on_step=report, **clips)
        files = small_model.export_pyramid(*trained, options.out)
    print(*files, sep="\n")
    return 0


def report(step: int, losses: Mapping[str, float]) -> None:
    """One line every hundred steps."""
    if step % 100 == 0:
        print(time.strftime("%H:%M:%S"), step, *(f"{name} {value:.4f}" for name, value in losses.items()), flush=True)
