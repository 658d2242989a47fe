"""The blocks as nodes of ComfyUI's v3 schema, made from the classes that its mappings hold.

Graphs, prompts and saved workflows are the same either way: ids, inputs, their order, defaults and outputs.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import fields
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from comfy_api.latest import ComfyExtension, io

SCHEMA_NAMES = {"dynamicPrompts": "dynamic_prompts"}  # options that the schema calls otherwise than the mappings


def host_has_schema() -> bool:
    """Whether this ComfyUI has a v3 schema that holds all that the blocks say; older ones do not know aliases."""
    try:
        from comfy_api.latest import io
    except ImportError:
        return False
    return "search_aliases" in {field.name for field in fields(io.Schema)}


def entrypoint(blocks: Mapping[str, type[Any]], titles: Mapping[str, str]) -> Callable[[], Awaitable[ComfyExtension]]:
    """What ComfyUI calls to get the nodes of a pack; it looks for it where the pack has no mappings."""
    from comfy_api.latest import ComfyExtension

    class PyramidVideo(ComfyExtension):
        async def get_node_list(self) -> list[type[io.ComfyNode]]:
            nodes = [node_of(block, id_, titles[id_]) for id_, block in blocks.items()]
            return [node for node in nodes if has_schema(node)]

    async def comfy_entrypoint() -> ComfyExtension:
        return PyramidVideo()

    return comfy_entrypoint


def node_of(block: type[Any], id_: str, title: str) -> type[io.ComfyNode]:
    """The v3 node of a block: each run has a new object of the block's class."""
    from comfy_api.latest import io

    class Node(io.ComfyNode):
        @classmethod
        def define_schema(cls) -> io.Schema:
            return schema_of(block, id_, title)

        @classmethod
        def execute(cls, **inputs: Any) -> Any:
            return getattr(block(), block.FUNCTION)(**inputs)

    for theirs, ours in (("validate_inputs", "VALIDATE_INPUTS"), ("fingerprint_inputs", "IS_CHANGED")):
        if hasattr(block, ours):
            setattr(Node, theirs, classmethod(handed_on(getattr(block, ours))))
    Node.__name__ = Node.__qualname__ = block.__name__
    Node.__module__ = block.__module__
    return Node


def has_schema(node: type[io.ComfyNode]) -> bool:
    """Whether a node can say what it takes; one that fails would keep the host from loading the others."""
    try:
        node.GET_SCHEMA()
    except Exception:
        logging.exception("Pyramid Video: the block %s is left out", node.__name__)
        return False
    return True


def handed_on(method: Any) -> Callable[..., Any]:
    """A class method that calls another one; the host reads from its signature which inputs it takes."""

    def call(cls: type, **inputs: Any) -> Any:
        return method(**inputs)

    call.__dict__["__signature__"] = inspect.signature(method.__func__)
    return call


def schema_of(block: type[Any], id_: str, title: str) -> io.Schema:
    """What a block says of itself, as a schema."""
    from comfy_api.latest import io

    groups = block.INPUT_TYPES()
    inputs = [
        input_of(name, kind, options, group == "optional")
        for group, entries in groups.items()
        for name, (kind, options) in entries.items()
    ]
    names: Sequence[str] = getattr(block, "RETURN_NAMES", block.RETURN_TYPES)
    lists = getattr(block, "OUTPUT_IS_LIST", [False] * len(names))
    outputs = [
        custom(kind).Output(display_name=name, tooltip=tooltip, is_output_list=is_list)
        for kind, name, tooltip, is_list in zip(block.RETURN_TYPES, names, block.OUTPUT_TOOLTIPS, lists, strict=True)
    ]
    return io.Schema(
        node_id=id_,
        display_name=title,
        category=block.CATEGORY,
        description=block.DESCRIPTION,
        inputs=inputs,
        outputs=outputs,
        search_aliases=block.SEARCH_ALIASES,
        is_output_node=getattr(block, "OUTPUT_NODE", False),
    )


def input_of(name: str, kind: str | list[str], options: Mapping[str, Any], optional: bool) -> io.Input:
    """An input as INPUT_TYPES gives it, as one of a schema."""
    from comfy_api.latest import io

    given = {SCHEMA_NAMES.get(key, key): value for key, value in options.items()}
    if isinstance(kind, list):
        return io.Combo.Input(name, options=kind, optional=optional, **given)
    widgets = {"INT": io.Int, "FLOAT": io.Float, "STRING": io.String, "BOOLEAN": io.Boolean}
    return widgets.get(kind, custom(kind)).Input(name, optional=optional, **given)


@cache
def custom(kind: str) -> Any:
    """The schema's class of a type of wire."""
    from comfy_api.latest import io

    return io.Custom(kind)
