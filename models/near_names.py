"""What a sentence says of a name that is not known: the one that may be meant, or what there is."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

NEAR = 0.6  # likeness of two names from which on one may be meant by the other
LONGEST_NAME = 100  # characters that are compared with known names
MOST_LISTED = 8  # known names that a sentence lists


def near_name(name: object, known: Iterable[object]) -> str | None:
    """The known name that `name` is most like, in capitals or not; None when it is like none."""
    names = {str(each).lower(): str(each) for each in sorted(map(str, known), reverse=True)}
    near = get_close_matches(str(name)[:LONGEST_NAME].lower(), names, n=1, cutoff=NEAR)
    return names[near[0]] if near else None


def near_or_known(name: object, known: Iterable[object]) -> str:
    """The end of a sentence: the nearest of the known names, or else some of them."""
    names = sorted(map(str, known))
    if not names:
        return " (there are none)"
    near = near_name(name, names)
    if near is not None:
        return f"; the nearest is {near!r}"
    more = len(names) - MOST_LISTED
    return f"; there {'is' if len(names) == 1 else 'are'} {', '.join(map(repr, names[:MOST_LISTED]))}" + (
        f" and {more} more" if more > 0 else ""
    )
