"""Ctrl-C, SIGTERM, SIGHUP and SIGBREAK end a command alike, also while Python still loads what the command needs."""

from __future__ import annotations

import _thread
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ..training.run.launch import process_count
from ..training.run.stopping import SIGNALS

IMPORTING = "<frozen importlib._bootstrap>"  # where the frames of every import are
LATER = 0.02  # seconds
INTERRUPTED = 130  # exit code


@contextmanager
def ending_as_ctrl_c() -> Iterator[None]:
    """Let SIGTERM, SIGHUP and SIGBREAK end what runs inside as Ctrl-C does, with everything saved, and only once.

    `nohup` and `&` make Ctrl-C deaf. What the caller ignores stays ignored, as `nohup` wants it of SIGHUP. A signal
    that falls into an import waits for its end: what is raised in there may become another error, or be dropped.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():
        known = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
        before = {number: signal.getsignal(number) for number in known if signal.getsignal(number) != signal.SIG_IGN}
    once = set(before)
    if process_count() == 1:  # else launchers pass Ctrl-C on to processes that the terminal has signalled already
        once.discard(signal.SIGINT)
    around = imports_in(sys._getframe())
    reminder: threading.Timer | None = None
    waiting = False

    def remind(number: int) -> None:
        nonlocal waiting
        waiting = False
        send(number)  # once: by now it may be heard by another handler than `stop`

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal reminder, waiting
        if imports_in(frame) > around:
            if not waiting:
                waiting = True
                reminder = threading.Timer(LATER, remind, [number])
                reminder.daemon = True
                reminder.start()
            return
        for each in once if number in once else ():
            signal.signal(each, lambda *_: None)  # Python complains where one comes just before it is ignored for good
        raise KeyboardInterrupt

    try:
        for number in before:
            signal.signal(number, stop)
        yield
        if waiting:
            raise KeyboardInterrupt
    finally:
        try:
            if reminder is not None:
                reminder.cancel()
                reminder.join()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def imports_in(frame: FrameType | None) -> int:
    """How many frames of imports are at work in a stack."""
    count = 0
    while frame is not None:
        count += frame.f_code.co_filename == IMPORTING
        frame = frame.f_back
    return count


def send(number: int) -> None:
    """Signal the main thread again, which wakes it where the system can do so."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident, number)
    else:
        _thread.interrupt_main(number)
