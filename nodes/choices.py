"""What widgets offer that several blocks share."""

from __future__ import annotations

from ..host import get_host
from ..host.folders import BUNDLED
from ..samplers.seeds import LARGEST_SEED

POSITIVE = ("CONDITIONING", {"tooltip": "What to show, from 'Encode prompt'."})
NEGATIVE = (
    "CONDITIONING",
    {"tooltip": "What to steer away from; an empty prompt is fine. Left open: no guidance, twice as fast, looser."},
)
LATENT = ("LATENT", {"tooltip": "Size and length, from 'Empty video latent'."})
SEED = (
    "INT",
    {
        "default": 0,
        "min": 0,
        "max": LARGEST_SEED,
        "control_after_generate": True,
        "tooltip": "Same seed, same noise on any device, and on the same kind of device the same clip; "
        "another seed is another clip. Clip i of a batch uses seed + i.",
    },
)


def model_names(kind: str) -> list[str]:
    """Models of one kind for a widget: those that come with the pack first, so that one of them is the default."""
    return sorted(get_host().list_models(kind), key=lambda name: (not (BUNDLED / kind / name).is_file(), name))
