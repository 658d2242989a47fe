"""How long a run will still take, from how long its calls took."""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping
from typing import Any

NEWEST = 0.3  # share of the newest call in the mean of its kind: a growing past makes later calls slower


class TimeEstimator:
    """Seconds per call, kept apart for kinds of calls that differ in cost, such as the stages of a pyramid."""

    def __init__(self) -> None:
        self.seconds: dict[Hashable, float] = {}
        self.last: float | None = None

    def step(self, kind: Hashable = None) -> None:
        """A call of this kind is done. The first of a run is not counted: it waits for weights to load."""
        now = time.monotonic()
        if self.last is not None:
            mean = self.seconds.get(kind, now - self.last)
            self.seconds[kind] = mean + NEWEST * (now - self.last - mean)
        self.last = now

    def left(self, calls: Mapping[Any, int]) -> float | None:
        """Seconds for so many calls of each kind; None while one of the kinds was never measured."""
        wanted = {kind: count for kind, count in calls.items() if count}
        if not wanted.keys() <= self.seconds.keys():
            return None
        return sum(count * self.seconds[kind] for kind, count in wanted.items())


def clock(seconds: float) -> str:
    """Hours, minutes and seconds, as people write them."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def time_left(seconds: float | None) -> str:
    """How a line about a run ends: nothing at its end, and while the time is not known."""
    return f", {clock(seconds)} left" if seconds else ""
