"""SIGTERM and SIGHUP end a command as Ctrl-C does."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ..training.run.launch import process_count


@contextmanager
def ending_as_ctrl_c() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end what runs inside as Ctrl-C does, with everything saved, and only once.

    `nohup` and `&` make Ctrl-C deaf. What the caller ignores stays ignored, as `nohup` wants it of SIGHUP.
    """
    names = ["SIGTERM", "SIGHUP"]  # Windows has no SIGHUP
    if process_count() > 1:
        names.append("SIGINT")  # launchers pass it on to processes that the terminal has signalled already
    before = {}
    if threading.current_thread() is threading.main_thread():
        known = [getattr(signal, name) for name in names if hasattr(signal, name)]
        before = {number: signal.getsignal(number) for number in known if signal.getsignal(number) != signal.SIG_IGN}

    def stop(number: int, frame) -> None:
        for each in before:
            signal.signal(each, lambda *_: None)  # Python complains where one comes just before it is ignored for good
        raise KeyboardInterrupt

    try:
        for number in before:
            signal.signal(number, stop)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
