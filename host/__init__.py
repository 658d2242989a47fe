"""The only part that imports ComfyUI, and its stand-in when ComfyUI is not there; both are a `protocol.Host`.

Neither torch nor ComfyUI is imported here: that happens when a host is first used.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .protocol import Host

_current: Host | None = None


def inside_comfyui() -> bool:
    """Say whether this process is a ComfyUI that has loaded its folders and its memory management."""
    return "folder_paths" in sys.modules and "comfy.model_management" in sys.modules


def get_host() -> Host:
    """Return the host of this process: ComfyUI where it runs, else the stand-in."""
    global _current
    if _current is None:
        _current = make_host()
    return _current


def use_host(host: Host | None) -> None:
    """Let `get_host` return this one in this process; None forgets it, so that it is chosen anew."""
    global _current
    _current = host


def make_host() -> Host:
    if inside_comfyui():
        from .comfyui.host import ComfyHost

        return ComfyHost()
    from .standalone.host import StandaloneHost

    return StandaloneHost()
