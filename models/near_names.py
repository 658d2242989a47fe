"""What a sentence says of a name that is not known: the one that may be meant, or what there is."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import SequenceMatcher, get_close_matches

NEAR = 0.65  # likeness of two names from which on one may be meant by the other: 'vea' is as like 'vae' as 2/3
LONGEST_NAME = 100  # characters that are compared with known names
MOST_LISTED = 8  # known names that a sentence lists
ENDING = re.compile(r"\.[a-z][a-z0-9]*$", re.IGNORECASE)  # of a file; the 2 of `wan2.2` is none
WORD = re.compile(r"\d+|[A-Z]*[^\W\d_A-Z]+|[A-Z]+")  # of names such as `small_vae_2` and `LoadVAE`


def near_name(name: object, known: Iterable[object]) -> str | None:
    """The known name that `name` is most like, in capitals or not; None when it is like none.

    Endings of files are not compared, and what two names share does not make up for a word in which they differ.
    """
    given = ENDING.sub("", str(name)[:LONGEST_NAME])
    names = {ENDING.sub("", each).lower(): each for each in sorted(map(str, known), reverse=True)}
    close = get_close_matches(given.lower(), names, n=max(1, len(names)), cutoff=NEAR)
    return next((names[each] for each in close if may_mean(given, ENDING.sub("", names[each]))), None)


def may_mean(given: str, known: str) -> bool:
    """Whether the words of `given` that `known` lacks are misspelt words of it, and no other numbers."""
    words, others = ([word.lower() for word in WORD.findall(name)] for name in (given, known))
    changes = SequenceMatcher(None, words, others, autojunk=False).get_opcodes()
    wrong = [("".join(words[a:b]), "".join(others[c:d])) for kind, a, b, c, d in changes if b > a and kind != "equal"]
    return all(
        SequenceMatcher(None, part, meant).ratio() >= NEAR and not (part.isdigit() or meant.isdigit())
        for part, meant in wrong
    )


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
