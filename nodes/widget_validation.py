"""Checks of widgets before anything runs: the host calls them when a graph is queued."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..models.plain_text import harmless


def validation_result(check: Callable[..., Any], *values: Any) -> bool | str:
    """The result of a VALIDATE_INPUTS: True, or what `check` says against the values.

    A value that is None comes over a wire and is checked when the block runs.
    """
    if any(value is None for value in values):
        return True
    try:
        check(*values)
    except (ValueError, TypeError, OSError) as error:
        return harmless(str(error))
    return True
