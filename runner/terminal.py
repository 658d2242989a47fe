"""What is printed beside results."""

from __future__ import annotations

import os
import sys

from .errors import plain


def print_note(text: str) -> None:
    """Show what a node has to say, which may hold words of strangers; stdout is for the paths of the files."""
    print(*map(plain, text.split("\n")), sep="\n", file=sys.stderr)


def close_stdout() -> None:
    """Let go of a stdout that nobody reads any more, or Python complains once more at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
