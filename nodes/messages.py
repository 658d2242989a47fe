"""What a block writes on its node and in the log: what it changed of the inputs, and how far it is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ..host import get_host
from ..host.own_bar import own_bar
from ..models.plain_text import harmless


def show_message(*sentences: str) -> dict[str, list[str]]:
    """Write the sentences, which may quote strangers, on the node and in the log.

    Returns the `ui` part of a block's result, so that the API and the runner get the text too.
    """
    text = harmless(" ".join(sentences))
    logging.info("Pyramid Video: %s", text)
    get_host().show_note(text)
    return {"text": [text]}


def with_message(output: Any, sentences: Sequence[str]) -> tuple | dict[str, Any]:
    """The result of a block with one output, and what it has to say, if anything."""
    return {"ui": show_message(*sentences), "result": (output,)} if sentences else (output,)


@contextmanager
def counting(words: str) -> Iterator[Callable[[int, int], None]]:
    """Shows on the node how many of how many are done; the bar begins when that is known, and ends with the block."""
    bar = None

    def update(done: int, total: int) -> None:
        nonlocal bar
        bar = bar or get_host().progress(total)
        bar.update(done, words)

    try:
        with own_bar():
            yield update
    finally:
        if bar is not None:
            bar.close()
