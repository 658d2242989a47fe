"""The numbers that options take, as argparse's `type`: what does not fit is refused with what would."""

from __future__ import annotations

import math
from argparse import ArgumentTypeError

from ..samplers.seeds import LARGEST_SEED

MOST_DIGITS = len(str(LARGEST_SEED))  # Python does not read numbers of thousands of digits


def a_count(text: str) -> int:
    """How many of something."""
    return a_whole(text, 1)


def a_step(text: str) -> int:
    """The number of a step."""
    return a_whole(text, 0)


def a_seed(text: str) -> int:
    """What every seed of a graph may be."""
    return a_whole(text, 0, LARGEST_SEED)


def a_whole(text: str, least: int, most: int | None = None) -> int:
    """A whole number between the two."""
    value = int(text) if text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS else -1
    if value < least or (most is not None and value > most):
        bounds = f"from {least} on" if most is None else f"from {least} to {most}"
        raise ArgumentTypeError(f"takes a whole number {bounds}, not {text!r}")
    return value


def a_length(text: str) -> float:
    """Seconds of a clip; 0 is a single frame."""
    value = as_float(text)
    if not 0 <= value < math.inf:
        raise ArgumentTypeError(f"takes a number of seconds from 0 on, not {text!r}")
    return value


def a_positive(text: str) -> float:
    """A number above 0."""
    value = as_float(text)
    if not 0 < value < math.inf:
        raise ArgumentTypeError(f"takes a number above 0, not {text!r}")
    return value


def as_float(text: str) -> float:
    """A number; NaN, which is in no range, for what is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan
