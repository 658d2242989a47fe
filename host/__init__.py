"""The only door to ComfyUI, and its stand-in when ComfyUI is not there.

`get_host()` answers with one object of the same small surface in both places. Neither torch nor ComfyUI is
imported here: that happens when a host is asked to do something.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .standalone.host import StandaloneHost

_current: StandaloneHost | None = None


def inside_comfyui() -> bool:
    """Say whether this process is a ComfyUI that has loaded its folders and its memory management."""
    return "folder_paths" in sys.modules and "comfy.model_management" in sys.modules


def get_host() -> StandaloneHost:
    """Answer with the host of this process: ComfyUI where it runs, else the stand-in."""
    if _current is None:
        if inside_comfyui():
            from .comfyui.host import ComfyHost

            use_host(ComfyHost())
        else:
            from .standalone.host import StandaloneHost

            use_host(StandaloneHost())
    return _current


def use_host(host: StandaloneHost | None) -> None:
    """Make `host` the answer of `get_host` in this process; None forgets it, so that it is chosen anew."""
    global _current
    _current = host
