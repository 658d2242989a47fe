"""Ctrl-C and the signals that end a process: none of them breaks into a step or a save."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")  # SIGHUP is unknown on Windows, SIGBREAK elsewhere
IMPATIENT = 1.0  # seconds after which a second Ctrl-C means now; launchers pass on the first one sooner


@contextmanager
def unbroken() -> Iterator[list[int]]:
    """Hold back signals that a handler in Python waits for, until the block is done; gives those held up to now.

    Then the first of them does what it would have done, usually raise KeyboardInterrupt; where the block was left with
    one, it has. A second Ctrl-C, after a second, is not held back. Signals reach the main thread only, so in others
    nothing is held.
    """
    held: list[int] = []
    handlers = {}
    if threading.current_thread() is threading.main_thread():
        known = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
        handlers = {number: handler for number in known if callable(handler := signal.getsignal(number))}
    since = time.monotonic()

    def hold(number: int, frame: Any) -> None:
        nonlocal since
        if held and number == signal.SIGINT and time.monotonic() - since > IMPATIENT:
            handlers[number](number, frame)
        since = since if held else time.monotonic()
        held.append(number)

    try:
        for number in handlers:
            signal.signal(number, hold)
        yield held
    except KeyboardInterrupt:
        held.clear()
        raise
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if held:
            handlers[held[0]](held[0], None)
