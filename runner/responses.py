"""What the responses of a ComfyUI look like. Nothing else is let in, so nothing else need be expected anywhere."""

from __future__ import annotations

import json
from typing import Any

from .errors import ServerError, shown

NOTHING = type(None)
# A shape is a type, Any, a tuple of shapes one of which will do, [shape of all items], {key: shape}, or {...: shape}
# of all values. What may be missing has NOTHING among its shapes.
QUEUE_ITEM = [Any]
QUEUE = {"queue_running": [QUEUE_ITEM], "queue_pending": [QUEUE_ITEM]}
NODE_FAULTS = ({...: {"errors": ([{"message": (str, NOTHING), "details": Any}], NOTHING)}}, list, NOTHING)
QUEUED = {"prompt_id": str, "node_errors": NODE_FAULTS}
REFUSED = {"error": ({"message": (str, NOTHING)}, str, NOTHING), "node_errors": NODE_FAULTS}
STATUS = {"status_str": (str, NOTHING), "messages": ([[Any]], NOTHING)}
HISTORY = {...: {"status": (STATUS, NOTHING), "outputs": ({...: {...: Any}}, NOTHING)}}
UPLOADED = {"name": str, "subfolder": (str, NOTHING)}
NODES = {...: Any}  # descriptions of nodes that a workflow does not use may be anything
GROUP = ({...: Any}, NOTHING)
NODE = {
    "input": ({"required": GROUP, "optional": GROUP}, NOTHING),
    "output": (list, NOTHING),
    "display_name": (str, NOTHING),
}


def read_response(data: bytes, shape: Any, name: str) -> Any:
    """A response of the server `name` as an object of that shape; ServerError for anything else."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        is_page = data.lstrip()[:9].lower().startswith((b"<!doctype", b"<html")) and b"</" in data
        more = ": it shows a web page, perhaps one to log in" if is_page else ""
        raise ServerError(f"what answers at {name} is not ComfyUI{more}") from None
    if not fits(found, shape):
        raise ServerError(f"what answers at {name} is not ComfyUI: it says {shown(found)}")
    return found


def fits(value: Any, shape: Any) -> bool:
    """Whether a value of a JSON text has a shape."""
    if isinstance(shape, tuple):
        return any(fits(value, one) for one in shape)
    if isinstance(shape, list):
        return isinstance(value, list) and all(fits(item, shape[0]) for item in value)
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return False
        if ... in shape:
            return all(fits(item, shape[...]) for item in value.values())
        return all(fits(value.get(key), inner) for key, inner in shape.items())
    return shape is Any or isinstance(value, shape)
