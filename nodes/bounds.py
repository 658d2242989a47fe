"""Numbers that come over a link: no host compares them with the range of the input, so the blocks do it.

A graph from a stranger could otherwise ask for a thousand million steps through a primitive node. The same holds for
NaN, which passes every comparison with a range, and for what is no number, which has no place in one.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Iterator, Mapping
from numbers import Real
from typing import Any


def bounded(node: type) -> type:
    """Make a block refuse, with a ValueError, numbers outside the ranges of its INPUT_TYPES; gives the block back."""
    run = getattr(node, node.FUNCTION)
    names = list(inspect.signature(run).parameters)[1:]

    @functools.wraps(run)
    def checked(self, *args: Any, **kwargs: Any) -> Any:
        for fault in faults(node.INPUT_TYPES(), {**dict(zip(names, args, strict=False)), **kwargs}):
            raise ValueError(fault)
        return run(self, *args, **kwargs)

    setattr(node, node.FUNCTION, checked)
    return node


def faults(groups: Mapping[str, Mapping[str, Any]], given: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each number that is outside its range, and for what is given where a number belongs."""
    for name, (kind, *rest) in {**groups.get("required", {}), **groups.get("optional", {})}.items():
        value = given.get(name)
        if kind not in ("INT", "FLOAT") or value is None:
            continue
        if not isinstance(value, Real):
            yield f"input {name!r} is of type {type(value).__name__}; it takes a number"
            continue
        options = rest[0] if rest else {}
        low, high = options.get("min", -math.inf), options.get("max", math.inf)
        if isinstance(value, float) and not math.isfinite(value):  # an int may be too large to be looked at as a float
            yield f"input {name!r} is {value}, which is not a number"
        elif value < low:
            yield f"input {name!r} is {value}; the least is {low}"
        elif value > high:
            yield f"input {name!r} is {value}; the most is {high}"
