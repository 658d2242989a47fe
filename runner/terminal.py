"""What is printed beside results. Printing never decides over work: what cannot be written is dropped."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from .errors import plain


class Unfailing:
    """A text stream that drops what it cannot write: nobody reads it any more, its disk or its pipe is full.

    Letters that its encoding lacks are written as `\\u4e2d`. Everything else is the stream's own.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            try:
                self._stream.write(text)
            except UnicodeEncodeError as error:
                self._stream.write(text.encode(error.encoding, "backslashreplace").decode(error.encoding))
        except (OSError, ValueError):
            pass  # ValueError is a stream that was closed
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError):
            pass

    def finish(self) -> None:
        """Let go of what could not be written, or Python complains at its end and turns the exit code into 120."""
        try:
            self._stream.flush()
        except ValueError:
            pass
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())


@contextmanager
def unfailing_output() -> Iterator[None]:
    """Let no `print`, progress bar or log of the block fail, wherever stdout and stderr lead."""
    before = sys.stdout, sys.stderr
    with open(os.devnull, "w") as nowhere:
        streams = [Unfailing(nowhere if stream is None else stream) for stream in before]  # None: it was never open
        sys.stdout, sys.stderr = streams
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before
            for stream in streams:
                stream.finish()


def print_note(text: str) -> None:
    """Show what a node has to say, which may come from anybody; stdout is for the paths of the files."""
    print(*map(plain, text.split("\n")), sep="\n", file=sys.stderr)
