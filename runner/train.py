"""`pyramid-video train`: on a folder of your own clips, or the runs that make the pack's small models."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from .errors import nearest
from .ranks import is_first
from .train_clips import add_options, count, train_clips

PARTS = ("vae", "pyramid", "decoder", "flow", "diffusion", "gan")
SMALL_ONLY = ("run", "judge_from", "begin_from")
CLIPS_ONLY = ("kind", "name", "model", "prompt", "batch", "size", "models", "device", "set")
ONLY_FOR = {  # options that not every part knows
    "judge_from": ("vae", "decoder"),
    "begin_from": ("pyramid", "flow", "diffusion", "gan"),
}


def add_parser(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the `train` command."""
    train = commands.add_parser("train", help="train a LoRA, a model or a VAE on your own clips")
    train.add_argument(
        "part",
        metavar="FOLDER",
        help="a folder of clips, each with its caption in a text file of the same name; or a part of the pack's small "
        f"models, with --animations: {', '.join(PARTS)}",
    )
    train.add_argument("--steps", type=count, metavar="N", help="optimiser updates (default: those of the workflow)")
    train.add_argument("--clips", type=count, metavar="N", help="clips that are drawn once and learned from")
    train.add_argument("--out", type=Path, metavar="DIR", help="where the finished files go (default: ./output)")
    train.add_argument("--seed", type=int, metavar="N", help="another seed is another run (default: 0)")
    add_options(train)
    small = train.add_argument_group("for a part of the pack's small models")
    small.add_argument("--animations", type=Path, metavar="DIR", help="webp, gif or png with alpha, its subjects there")
    small.add_argument("--run", type=Path, metavar="DIR", help="where the run keeps its state")
    small.add_argument(
        "--judge-from",
        type=int,
        metavar="STEP",
        help="from this step on a discriminator teaches the VAE or its decoder too",
    )
    small.add_argument(
        "--begin-from",
        type=Path,
        metavar="DIR",
        help="a models folder whose transformer and text encoder learn on, in a new run of pyramid",
    )
    train.set_defaults(command=train_command, refuse=train.error)
    return train


def train_command(options: argparse.Namespace) -> int:
    """Train until done or stopped; run the same command again to go on, and with fewer steps to finish early."""
    from ..training.run_lock import run_lock
    from .opening import check_writable

    if options.animations is None and not (options.part in PARTS and not Path(options.part).is_dir()):
        refuse_options(options, SMALL_ONLY, "a part of the pack's small models")
        for path in train_clips(options).files:
            print(path)
        return 0
    if options.part not in PARTS:
        close = nearest(options.part, PARTS)
        options.refuse(f"argument --animations: {options.part!r} is no part of the small models{close}")
    refuse_options(options, CLIPS_ONLY, "a folder of clips")
    for name in ("animations", "run", "out"):
        if getattr(options, name) is None:
            options.refuse(f"{options.part} needs --animations, --run and --out; --{name} is not given")
    for option, parts in ONLY_FOR.items():
        if getattr(options, option) is not None and options.part not in parts:
            name = option.replace("_", "-")
            options.refuse(f"argument --{name}: means something for {', '.join(parts)} only, not for {options.part}")
    for folder in (options.run, options.out):
        check_writable(folder)
    with run_lock(options.run):
        for path in train_part(options):
            print(path)
    return 0


def refuse_options(options: argparse.Namespace, names: Sequence[str], meant_for: str) -> None:
    """Refuse what says nothing in this use of the command."""
    for name in names:
        if getattr(options, name) not in (None, []):
            shown = {"kind": "as"}.get(name, name.replace("_", "-"))
            options.refuse(f"argument --{shown}: means something for {meant_for} only")


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
    settings = TrainSettings(**recipe, seed=options.seed or 0)
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
    curves = save_curves(options.run)
    return [*(exported if isinstance(exported, tuple) else [exported]), *([curves] if curves else [])]


def report(step: int, losses: Mapping[str, float]) -> None:
    """One line every hundred steps, from the first process."""
    if step % 100 == 0 and is_first():
        print(time.strftime("%H:%M:%S"), step, *(f"{name} {value:.4f}" for name, value in losses.items()), flush=True)
