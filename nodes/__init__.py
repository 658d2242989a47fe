"""The graph blocks: one module per family, merged here under the names a host looks for."""

from __future__ import annotations

import importlib
import logging

from .block import registered

FAMILIES = (
    "loaders",
    "conditioning",
    "helios_conditioning",
    "schedules",
    "guidance",
    "latents",
    "sampling",
    "sampling_full_sequence",
    "any_model",
    "drafts",
    "finish_clip",
    "fit_spectrum",
    "viewing",
    "preview_colours",
    "datasets",
    "training",
    "trainers",
    "training_results",
    "vae_training",
    "perceptual",
    "lora_training",
    "model_lora_training",
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
    NODE_CLASS_MAPPINGS.update({block.ID: registered(block) for block in _module.BLOCKS})
    NODE_DISPLAY_NAME_MAPPINGS.update({block.ID: block.NAME for block in _module.BLOCKS})

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
