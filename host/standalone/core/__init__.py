"""ComfyUI's own nodes as far as our workflows use them, under its ids and input names, for runs without it."""

from __future__ import annotations

from . import files, latents, loaders, sampling, values

PARTS = (loaders, sampling, latents, files, values)
NODES: dict[str, type] = {id_: node for part in PARTS for id_, node in part.NODES.items()}
NAMES: dict[str, str] = {id_: name for part in PARTS for id_, name in part.NAMES.items()}
