"""The graph blocks: one module per family, merged here under the names a host looks for."""

from __future__ import annotations

import importlib
import logging

from .bounds import bounded
from .notices import with_harmless_errors

FAMILIES = (
    "loaders",
    "conditioning",
    "memory",
    "schedules",
    "guidance",
    "latents",
    "sampling",
    "sampling_full_sequence",
    "spectral",
    "drafts",
    "spectrum",
    "viewing",
    "preview_colours",
    "datasets",
    "training",
    "trainers",
    "training_results",
    "vae_training",
    "perceptual",
    "lora_training",
)
NODE_CLASS_MAPPINGS: dict[str, type] = {}
NODE_DISPLAY_NAME_MAPPINGS: dict[str, str] = {}

for _family in FAMILIES:
    try:
        _module = importlib.import_module(f".{_family}", __name__)
    except ImportError as error:
        logging.warning(
            "Pyramid Video: the blocks of nodes/%s.py are left out, because %s cannot be imported (%s)",
            _family,
            error.name or "a package",
            error,
        )
        continue
    NODE_CLASS_MAPPINGS.update({name: with_harmless_errors(bounded(node)) for name, node in _module.NODES.items()})
    NODE_DISPLAY_NAME_MAPPINGS.update(_module.NAMES)

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
