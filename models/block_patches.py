"""Blocks that somebody else runs: leaves out, or changes what goes into them and comes out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

Streams = tuple[Tensor, Any]  # tokens (b, n, width) of the clips; of the text, None where it is among them or kept
RunBlock = Callable[[Tensor, Any], Streams]
BlockPatch = Callable[[nn.Module, RunBlock, Tensor, Any, Tensor], Streams]
"""`(block, run, x, text, temb)`, of which `run(x, text)` is the block as it is."""
