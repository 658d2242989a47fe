"""Weights that people write into prompts: `(word:1.4)` and `((word))`, which other models' text encoders use.

Ours read every sign, and the brackets and numbers would spoil the clip.
"""

from __future__ import annotations

import re

MARKS = re.compile(r"\\[()]|[()]")
WEIGHT = re.compile(r":\s*[+-]?(\d+\.?\d*|\.\d+)\s*$")

LONGEST_WEIGHT = 32  # characters


def without_weights(text: str) -> tuple[str, bool]:
    """The prompt without weights, and whether it had any; brackets behind a backslash come out as plain brackets.

    Single brackets without a number stay: they are punctuation to these models. So does a number behind a number, as
    in `(16:9)`.
    """
    opened: list[int] = []
    pairs: dict[int, int] = {}  # where a bracket opens -> where it closes
    cut: set[int] = set()
    for mark in MARKS.finditer(text):
        if len(mark[0]) == 2:
            cut.add(mark.start())
        elif mark[0] == "(":
            opened.append(mark.start())
        elif opened:
            pairs[opened.pop()] = mark.start()
    escapes = len(cut)
    for start, end in pairs.items():
        weight = WEIGHT.search(text, max(start + 1, end - LONGEST_WEIGHT), end)
        if weight and re.search(r"[^\W\d]", text[start + 1 : weight.start()]):
            cut.update((start, *range(weight.start(), end + 1)))
        elif pairs.get(start + 1) == end - 1:
            cut.update((start, start + 1, end - 1, end))
    kept = "".join(sign for place, sign in enumerate(text) if place not in cut)
    return kept, len(cut) > escapes
