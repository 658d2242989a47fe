"""`pyramid-video` and `python -m pyramid_video` are the command line."""

import gc
import sys

from .runner.signals import INTERRUPTED, ending_as_ctrl_c


def main() -> int:
    """Run the command line; a signal that comes while it is loaded waits until that is done."""
    try:
        with ending_as_ctrl_c():
            from .runner.cli import main as command_line
        return command_line()
    except KeyboardInterrupt:  # it came before `command_line` could say so
        print("pyramid-video: interrupted", file=sys.stderr)
        return INTERRUPTED
    finally:
        gc.freeze()  # at its end Python would look through all of torch for garbage, which takes most of a second


if __name__ == "__main__":
    sys.exit(main())
