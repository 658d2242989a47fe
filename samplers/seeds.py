"""What a seed may be, and many from one; no torch here, so that blocks can say it where torch is not loaded."""

from __future__ import annotations

LARGEST_SEED = 2**64 - 1  # of a torch.Generator, and of the seed widgets of ComfyUI


def nth_seed(seed: int, number: int) -> int:
    """Seed `number` of those that belong to `seed`: splitmix, a bijection of 64 bits, so neighbours are unlike."""
    x = (seed * 0x9E3779B97F4A7C15 + number) % 2**64
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> shift)) * factor % 2**64
    return x ^ (x >> 31)
