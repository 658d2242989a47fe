"""`pyramid-video` and `python -m pyramid_video` are the command line."""

import sys

from .runner.signals import ending_as_ctrl_c

INTERRUPTED = 130


def main() -> int:
    """Run the command line; a signal that comes while it is loaded waits until that is done."""
    try:
        with ending_as_ctrl_c():
            from .runner.cli import main as command_line

            return command_line()
    except KeyboardInterrupt:  # it came before there were options
        print("pyramid-video: interrupted", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
