"""How a block tells the artist what it did with a value that was not taken as given."""

from __future__ import annotations

import logging

from ..host import get_host


def tell(*sentences: str) -> dict[str, list[str]]:
    """Write the sentences on the node and in the log.

    Returns the `ui` part of a node's answer, so that the API and the runner get the text too.
    """
    text = " ".join(sentences)
    logging.info("Pyramid Video: %s", text)
    get_host().progress(1).update(1, text=text)
    return {"text": [text]}
