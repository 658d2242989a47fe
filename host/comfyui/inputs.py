"""The pictures and clips that our workflows begin with, where ComfyUI's own loaders find them."""

from __future__ import annotations

import logging
from pathlib import Path

import folder_paths

from ...models.files import write_beside
from ...models.plain_text import harmless
from ..folders import BUNDLED_INPUTS


def lend_inputs() -> None:
    """Put the pictures and clips that our workflows begin with into ComfyUI's input folder, where it lacks them.

    Core's loaders look nowhere else. A folder that cannot be written is named in the log.
    """
    for file in sorted(BUNDLED_INPUTS.iterdir()):
        path = Path(folder_paths.get_input_directory()) / file.name
        try:
            if not path.exists():
                with write_beside(path) as part:
                    part.write_bytes(file.read_bytes())
        except OSError as error:
            logging.warning(
                "Pyramid Video: %s is not put into ComfyUI's input folder: %s", file.name, harmless(str(error))
            )
