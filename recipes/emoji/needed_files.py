"""The files that a part of the small models begins with: looked at before anything is drawn or encoded."""

from __future__ import annotations

import os
from pathlib import Path

from ...models import checkpoints
from ...training.run.run_state import run_exists
from .recipe import FAMILY_OF, RECIPES, TEXT_FILE, TRANSFORMER_FILES, VAE_FILE
from .small_families import text_encoder_in
from .small_models import check_latents
from .small_text import LEARNED_FROM
from .texts import check_sizes, transformer_config


def check_files(part: str, pixels: int, models: Path, folder: Path, begin_from: Path | None) -> None:
    """Raise FileNotFoundError or ValueError where `models` or `begin_from` lacks what `part` begins with.

    A run that goes on in `folder` has its beginning; a GAN needs it again, for what its second discriminator sees.
    """
    if part == "text":
        check_old_text_encoder(models, folder, begin_from)
    elif part != "vae":
        check_vae_file(part, pixels, models / VAE_FILE)
    if part == "finish":
        text_encoder_in(models)
        check_flow_file(models, pixels)
    together = part == "pyramid" and pixels == min(RECIPES)  # with its text encoder
    if part in FAMILY_OF:
        if not together:
            text_encoder_in(models)
        if part == "history" and begin_from is None and not run_exists(folder):
            raise ValueError(
                "`train history` lets a pyramid learn from clips of its own: give the models folder that has the "
                "pyramid as --begin-from, which may be that of --out"
            )
        if begin_from is not None and (part == "gan" or not run_exists(folder)):
            check_beginning(part, pixels, begin_from, together)


def check_vae_file(part: str, pixels: int, path: Path) -> None:
    """Look at the VAE that all parts but its own share."""
    if not os.path.isfile(path):
        largest = pixels == max(RECIPES)  # as the bundled models are
        bundled = f", or copy the bundled one there (models/pretrained/{VAE_FILE})" if largest else ""
        raise FileNotFoundError(
            f"there is no {path}, the VAE that `train {part}` needs in the folder of --out: first train one with "
            f"`train vae{'' if largest else f' --pixels {pixels}'}`{bundled}"
        )
    check_latents(checkpoints.inspect(path, ["causal_vae"]).config.latent_channels, pixels, path)


def check_flow_file(models: Path, pixels: int) -> None:
    """Look at the flow whose clips a decoder is finished for."""
    path = models / TRANSFORMER_FILES["flow"]
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"there is no {path}, whose clips the decoder learns to draw: first train one with `train flow`, in the "
            "same folder of --out"
        )
    check_sizes(checkpoints.inspect(path, ["miniflux"]), transformer_config(RECIPES[pixels], "flow"))


def check_beginning(part: str, pixels: int, begin_from: Path, together: bool) -> None:
    """Look at the models that a new run of a family begins with."""
    recipe = RECIPES[pixels]
    first = part if together else recipe.begins_with[part]
    path = begin_from / TRANSFORMER_FILES[first]
    needed = {"text_encoder": begin_from / TEXT_FILE, "miniflux": path} if together else {"miniflux": path}
    for kind, file in needed.items():
        check_there(file, begin_from, f"which `train {part}{'' if pixels == max(RECIPES) else f' --pixels {pixels}'}`")
        info = checkpoints.inspect(file, [kind])
        if kind == "miniflux":
            check_sizes(info, transformer_config(recipe, FAMILY_OF[part]), may_grow=together)


def check_old_text_encoder(models: Path, folder: Path, begin_from: Path | None) -> None:
    """Look at the text encoder whose features another one learns; a run keeps a copy of it."""
    if os.path.isfile(folder / LEARNED_FROM):
        return
    if begin_from is not None:
        check_there(begin_from / TEXT_FILE, begin_from, "which `train text`")
    elif not os.path.isfile(models / TEXT_FILE):
        raise FileNotFoundError(
            f"there is no {models / TEXT_FILE}: `train text` learns the features of a text encoder, so give a models "
            "folder that has one as --begin-from, such as models/pretrained"
        )


def check_there(path: Path, folder: Path, whose: str) -> None:
    """Raise FileNotFoundError unless there is a file in the folder of --begin-from."""
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"--begin-from: there is no folder {folder}")
    if not os.path.isfile(path):
        raise FileNotFoundError(f"--begin-from: there is no {path}, {whose} begins with")
