"""The nodes that can run here: the pack's own and the few core ones that its workflows use."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from .specs import NodeSpec, spec_of_class


@cache
def node_classes() -> Mapping[str, type]:
    """Class of every known node by id; the pack's ids carry a prefix, so none hides a core node."""
    from ..nodes import NODE_CLASS_MAPPINGS
    from . import core_files, core_nodes, core_values

    return MappingProxyType({**core_nodes.NODES, **core_files.NODES, **core_values.NODES, **NODE_CLASS_MAPPINGS})


def node_specs() -> dict[str, NodeSpec]:
    """What every known node takes and gives; read anew each time, as lists of files change."""
    from ..nodes import NODE_DISPLAY_NAME_MAPPINGS
    from . import core_files, core_nodes, core_values

    names = {**core_nodes.NAMES, **core_files.NAMES, **core_values.NAMES, **NODE_DISPLAY_NAME_MAPPINGS}
    return {
        class_type: spec_of_class(class_type, node, names.get(class_type))
        for class_type, node in node_classes().items()
    }
