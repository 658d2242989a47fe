"""What a seed may be; no torch here, so that blocks can say it where torch is not loaded."""

from __future__ import annotations

LARGEST_SEED = 2**64 - 1  # of a torch.Generator, and of the seed widgets of ComfyUI
