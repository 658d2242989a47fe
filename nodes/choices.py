"""What widgets offer that several blocks share."""

from __future__ import annotations

from ..host import get_host
from ..host.folders import BUNDLED


def model_names(kind: str) -> list[str]:
    """Models of one kind for a widget: those that come with the pack first, so that one of them is the default."""
    return sorted(get_host().list_models(kind), key=lambda name: (not (BUNDLED / kind / name).is_file(), name))
