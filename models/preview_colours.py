"""Files of preview colours: what was fitted for a latent format whose checkpoints bring none, as the official ones."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

from .files import write_beside
from .latent_format import LatentFormat
from .plain_text import harmless

LONGEST_NAME = 50  # characters of up to 4 bytes; file systems take 255 bytes


def colours_file(folder: Path, latent_format: LatentFormat) -> Path:
    """Where the colours of this format are kept; its name may come from an untrusted file."""
    name = "".join(letter if letter.isalnum() else "_" for letter in str(latent_format.name)[:LONGEST_NAME])
    return folder / f"{name}.json"


def save_colours(folder: Path, latent_format: LatentFormat) -> Path:
    """Keep the colours of a format that has some."""
    path = colours_file(folder, latent_format)
    with write_beside(path) as part:
        part.write_text(json.dumps(latent_format.to_dict()), "utf-8")
    return path


def known_colours(folder: Path, latent_format: LatentFormat) -> LatentFormat:
    """The format with the colours of its checkpoint, else with those kept in `folder`, else as it is."""
    path = colours_file(folder, latent_format)
    if latent_format.rgb_factors is not None or not path.is_file():
        return latent_format
    try:
        kept = LatentFormat.from_dict(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        logging.warning("Pyramid Video: false colours, because %s cannot be read: %s", path, harmless(str(error)))
        return latent_format
    return replace(latent_format, rgb_factors=kept.rgb_factors, rgb_bias=kept.rgb_bias)
