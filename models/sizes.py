"""The sizes that fit: what an error names and what a block takes are the same."""

from __future__ import annotations


def nearest_multiple(size: int, multiple: int) -> int:
    """The nearest positive multiple; half way goes up."""
    return max(multiple, (2 * size + multiple) // (2 * multiple) * multiple)
