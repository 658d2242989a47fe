"""The only door to ComfyUI, and its stand-in when ComfyUI is not there.

`get_host()` answers with one object of the same small surface in both places. Neither torch nor ComfyUI is
imported here: that happens when a host is asked to do something.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .standalone import StandaloneHost

_current: StandaloneHost | None = None


def inside_comfyui() -> bool:
    """Say whether this process is a ComfyUI that has loaded its folders and its memory management."""
    return "folder_paths" in sys.modules and "comfy.model_management" in sys.modules


def get_host() -> StandaloneHost:
    """Answer with the host of this process: ComfyUI where it runs, else the stand-in."""
    if _current is None:
        if inside_comfyui():
            from .comfy import ComfyHost

            use_host(ComfyHost())
        else:
            from .standalone import StandaloneHost

            use_host(StandaloneHost())
    return _current


def lend_inputs() -> None:
    """Put the pictures and clips that our workflows begin with into ComfyUI's input folder, where it lacks them.

    Core's loaders look nowhere else. A folder that cannot be written is told in the log.
    """
    import folder_paths

    from ..models.files import write_beside
    from .folders import BUNDLED_INPUTS

    for file in sorted(BUNDLED_INPUTS.iterdir()):
        path = Path(folder_paths.get_input_directory()) / file.name
        try:
            if not path.exists():
                with write_beside(path) as part:
                    part.write_bytes(file.read_bytes())
        except OSError as error:
            logging.warning("Pyramid Video: %s is not put into ComfyUI's input folder: %s", file.name, error)


def use_host(host: StandaloneHost | None) -> None:
    """Make `host` the answer of `get_host` in this process; None forgets it, so that it is chosen anew."""
    global _current
    _current = host
