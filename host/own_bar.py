"""Whether the node that runs counts its own work on its bar, which parts of that work must then leave alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_own: ContextVar[bool] = ContextVar("own_bar", default=False)


@contextmanager
def own_bar() -> Iterator[None]:
    """The bar belongs to what runs inside this, not to a VAE that it asks."""
    before = _own.set(True)
    try:
        yield
    finally:
        _own.reset(before)


def has_own_bar() -> bool:
    """Whether the work at hand is a part of what `own_bar` stands around."""
    return _own.get()
