"""The one way of text from untrusted sources to a page, a log or a terminal.

Captions, file names and messages of libraries come along here. A terminal obeys control characters, and a page may take
what looks like markup for its own.
"""

from __future__ import annotations

import re

# C0 and C1 controls but for line breaks, the two separators that end a line, and marks that turn the reading direction.
CONTROLS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
HALVES = re.compile("[\ud800-\udfff]")  # of surrogate pairs: no text in UTF-8 can hold them
TAG = re.compile(r"<(?=[A-Za-z/!?])")  # as HTML has it; any other is a sign of mathematics
LINK = re.compile(r"\[(?=\[)")  # ComfyUI's page makes a link of [[words|address]]


def plain(text: str) -> str:
    """The text without anything that a terminal obeys, line breaks excepted."""
    return HALVES.sub("\ufffd", CONTROLS.sub(" ", text))


def harmless(text: str) -> str:
    """The text as any page, log or terminal may show it: plain, and without what a page could read as markup."""
    return LINK.sub("[ ", TAG.sub("\u2039", plain(text)))  # a look-alike


def may_be_listed(name: str) -> bool:
    """Whether a file of this name may stand in the menus of a page, some of which read names as markup."""
    return not (CONTROLS.search(name) or TAG.search(name) or "\n" in name)


def make_harmless(error: BaseException) -> None:
    """Rewrite the words of an error, and of those that led to it: hosts print all of them."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        if harmless(str(link)) != str(link):
            link.args = tuple(harmless(part) if isinstance(part, str) else part for part in link.args)
            if isinstance(link, OSError | SyntaxError) and isinstance(link.filename, str):  # printed, not in args
                link.filename = harmless(link.filename)
        link = link.__cause__ or link.__context__
