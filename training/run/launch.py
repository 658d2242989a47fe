"""What `accelerate launch` and torchrun say to each process, in its environment."""

from __future__ import annotations

import os
from datetime import timedelta

LONGEST_WAIT = timedelta(days=30)  # one process may have far more to do than another, such as a validation


def own_rank() -> int:
    """The number of this process among those that were started together, 0 for the only one."""
    return int(os.environ.get("RANK", "0"))


def is_first() -> bool:
    """Whether this process is the only one or the first of those that were started together."""
    return own_rank() == 0


def process_count() -> int:
    """How many processes were started together."""
    return int(os.environ.get("WORLD_SIZE", "1"))
