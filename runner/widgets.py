"""The widgets of a node: which values the editor stores for it, in which order, and what it sends of them.

A file holds the values of a node as a list in the order of its widgets; newer editors add the same values by name.
Between them lie values that are only for the editor: what becomes of a seed after a run, the button of an upload.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .specs import WIDGET_TYPES, InputSpec, NodeSpec

Path = tuple[Any, ...]  # keys and indices from the root of the file
Count = Callable[[InputSpec, int], int]  # how many values for the editor follow that of an input, at this index

SEED_NAMES = ("seed", "noise_seed")
CONTROLS = ("fixed", "increment", "decrement", "randomize", "increment-wrap")  # what becomes of a value after a run
UPLOADS = ("image_upload", "video_upload", "animated_image_upload")
SCRIPTED = "CustomCombo"  # core's node of which no server describes the widgets: a script of the editor makes them
BOX_FIELDS = 4  # the numbers of a BOUNDING_BOX are repeated after it
# Types beside numbers, texts and choices that editors have widgets for.
EDITOR_TYPES = frozenset(
    (
        "COLOR COLORS MARKDOWN TEXTAREA BOUNDING_BOX BOUNDING_BOXES CURVE RANGE CHART GALLERIA PAINTER COMPOSITOR "
        "VIDEO_EDIT TREESELECT MULTISELECT SELECTBUTTON FILEUPLOAD AUDIO_RECORD WEBCAM LOAD_3D"
    ).split()
)


@dataclass(frozen=True)
class Stored:
    """The value of one input, and each place where the file holds it."""

    name: str
    value: Any
    places: tuple[Path, ...] = ()


def stored_values(node: dict[str, Any], spec: NodeSpec | None, path: Path) -> list[Stored]:
    """The values of a node as the editor would send them.

    An input that is newer than the file has its default, which is added to a list that ends just before it.
    """
    stored, named = node.get("widgets_values"), node.get("widgets_values_named")
    if isinstance(stored, dict):
        return list(_by_name(spec, stored, (*path, "widgets_values")))
    stored = stored or []
    named = named if isinstance(named, dict) else {}
    if spec is not None and spec.class_type == SCRIPTED and stored:
        names = ["choice", "index", *(f"option{i}" for i in range(1, len(stored)))]
        return [
            Stored(name, value, ((*path, "widgets_values", i),))
            for i, (name, value) in enumerate(zip(names, stored, strict=False))
        ]
    if spec is None or spec.class_type == SCRIPTED:
        if named:
            return list(_by_name(None, named, (*path, "widgets_values_named")))
        names = [socket_name(entry) for entry in node.get("inputs") or [] if entry.get("widget")]
        return [
            Stored(names[i], stored[i], ((*path, "widgets_values", i),)) for i in range(min(len(names), len(stored)))
        ]
    placed, exact = _layout(spec, stored, _plain_sockets(node))
    if named and not exact:
        return list(_by_name(spec, named, (*path, "widgets_values_named")))
    found = []
    for widget, index in placed:
        if index >= len(stored) and widget.default is None:
            continue
        if index == len(stored):
            node["widgets_values"] = stored
            stored.append(widget.default)
        if index > len(stored):
            found.append(Stored(widget.name, widget.default))
            continue
        also = ((*path, "widgets_values_named", widget.name),) if widget.name in named else ()
        found.append(Stored(widget.name, sent(stored[index], widget), ((*path, "widgets_values", index), *also)))
    return found


def sent(value: Any, widget: InputSpec | None) -> Any:
    """A value as a prompt holds it: a list would be taken for a link there."""
    if not isinstance(value, list):
        return value
    kind = {"__type__": "CURVE"} if widget is not None and widget.type == "CURVE" else {}
    return {**kind, "__value__": value}


def socket_name(entry: Mapping[str, Any]) -> str:
    """Of which input an entry of a node's `inputs` is the socket; TypeError where that is no name."""
    name = (entry.get("widget") or {}).get("name") or entry["name"]
    if not isinstance(name, str):
        raise TypeError(name)
    return name


def has_widget(input_: InputSpec, plain: Iterable[str] = (), custom: bool = False) -> bool:
    """Whether the editor has a widget for an input.

    `plain` are the inputs that the file shows as mere sockets: an older editor had no widget for their type. With
    `custom` every other type is taken for one that a script in the browser has a widget for.
    """
    kind = input_.options.get("widgetType", input_.type)
    if input_.options.get("forceInput"):
        return False
    return kind in WIDGET_TYPES or (input_.name not in plain and (custom or kind in EDITOR_TYPES))


def _plain_sockets(node: Mapping[str, Any]) -> set[str]:
    return {entry["name"] for entry in node.get("inputs") or [] if not entry.get("widget")}


def _by_name(spec: NodeSpec | None, named: Mapping[str, Any], place: Path) -> Iterator[Stored]:
    if spec is None:
        yield from (Stored(name, sent(value, None), ((*place, name),)) for name, value in named.items())
        return
    waiting = list(reversed(spec.inputs.values()))
    while waiting:
        widget = waiting.pop()
        if widget.name in named:
            value = named[widget.name]
            yield Stored(widget.name, sent(value, widget), ((*place, widget.name),))
        elif not has_widget(widget) or (value := widget.default) is None:
            continue
        else:
            yield Stored(widget.name, value)
        waiting += reversed(_brought(widget, value))


def _brought(widget: InputSpec, value: Any) -> list[InputSpec]:
    """The inputs that a choice brings with it."""
    return list(widget.brought.get(value, {}).values()) if isinstance(value, (str, int, float)) else []


def _layout(spec: NodeSpec, stored: Sequence[Any], plain: set[str]) -> tuple[list[tuple[InputSpec, int]], bool]:
    """Which value of the list belongs to which widget, and whether they are as many as the widgets.

    Whether the values for the editor are in the list too depends on who wrote it, so the reading is taken that uses
    the list up and gives every widget a value of its kind.
    """

    def by_value(widget: InputSpec, index: int) -> int:
        return editor_values(widget) if index < len(stored) and _is_for_editor(widget, stored[index]) else 0

    readings: list[tuple[bool, Count]] = [
        (custom, count) for custom in (False, True) for count in (lambda widget, _: editor_values(widget), lambda *_: 0)
    ]
    for custom, count in readings:
        placed, end = _place(spec, stored, plain, custom, count)
        if end == len(stored) and all(_fits(widget, stored[index]) for widget, index in placed):
            return placed, True
    return _place(spec, stored, plain, False, by_value)[0], False


def _place(
    spec: NodeSpec, stored: Sequence[Any], plain: set[str], custom: bool, count: Count
) -> tuple[list[tuple[InputSpec, int]], int]:
    """Give every widget the next index, past the values for the editor that `count` finds; and the index after all."""
    placed: list[tuple[InputSpec, int]] = []
    index = 0
    required = [widget for widget in spec.inputs.values() if widget.required]
    uploads = any(widget.options.get(word) for widget in required for word in UPLOADS)
    button = [InputSpec("", "BUTTON", {}, True)] if uploads else []
    waiting = [*required, *button, *(widget for widget in spec.inputs.values() if not widget.required)]
    waiting.reverse()
    while waiting:
        widget = waiting.pop()
        if widget.type == "BUTTON":
            index += count(widget, index)
            continue
        if not has_widget(widget, plain, custom):
            continue
        placed.append((widget, index))
        value = stored[index] if index < len(stored) else widget.default
        index += 1
        index += count(widget, index)
        waiting += reversed(_brought(widget, value))
    return placed, index


def editor_values(widget: InputSpec) -> int:
    """How many values for the editor follow that of a widget."""
    if widget.type == "BUTTON":
        return 1
    if widget.type == "BOUNDING_BOX":
        return BOX_FIELDS
    control = widget.options.get("control_after_generate")
    if widget.type == "COMBO":
        return 2 if control else 0  # the control, and a filter of the choices
    if widget.type == "INT" and control is None:
        return int(widget.name in SEED_NAMES)
    return int(bool(control))


def _is_for_editor(widget: InputSpec, value: Any) -> bool:
    if widget.type == "BOUNDING_BOX":
        return isinstance(value, (int, float))
    return isinstance(value, str) and value in (*CONTROLS, "image")


def _fits(widget: InputSpec, value: Any) -> bool:
    """Whether a value can be that of a widget; texts and unknown types take any."""
    if widget.type in ("INT", "FLOAT"):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if widget.type == "BOOLEAN":
        return isinstance(value, (bool, int))
    if widget.type == "COMBO":
        return value in (widget.choices or ()) or not (isinstance(value, (bool, int, float)) or value in CONTROLS)
    return True
