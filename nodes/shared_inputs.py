"""Inputs that several blocks share."""

from __future__ import annotations

from ..host import get_host
from ..host.folders import BUNDLED
from ..samplers.seeds import LARGEST_SEED
from .block import Choice, Input, Int, Output, Wire

POSITIVE = Wire("positive", "CONDITIONING").tip("What to show, from 'Encode prompt'.")
NEGATIVE = Wire("negative", "CONDITIONING").tip(
    "What to steer away from; an empty prompt is fine. Not connected: no guidance, twice as fast, less close to the "
    "prompt."
)
LATENT = Wire("latent_image", "LATENT").tip("Size and length, from 'Empty video latent'.")
SEED = Int("seed", 0, 0, LARGEST_SEED, control_after_generate=True).tip(
    "The same seed gives the same noise on any device, and the same clip on the same kind of device. Clip i of a "
    "batch uses seed + i."
)
FINISHED = Output("LATENT", "The finished latent video, for 'Decode video' or VAE Decode.")
MODEL_FILE_TEXT = "The first entries come with the pack; the others are in your models folders."


def ModelFile(name: str, kind: str, *others: str) -> Input:
    """The choice of a model file of one kind, after `others`."""
    return Choice(name, lambda: [*others, *model_names(kind)], others[0] if others else None)


def model_names(kind: str) -> list[str]:
    """Models of one kind: those that come with the pack first, so that one of them is the default."""
    return sorted(get_host().list_models(kind), key=lambda name: (not (BUNDLED / kind / name).is_file(), name))
