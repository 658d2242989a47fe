"""The nodes that can run here: the pack's own and the few core ones that its workflows use."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from .specs import NodeSpec, spec_of_class


@cache
def node_classes() -> Mapping[str, type]:
    """Class of every known node by id; the pack's ids carry a prefix, so none hides a core node."""
    from ..host.standalone.core import NODES
    from ..nodes import NODE_CLASS_MAPPINGS
    from ..nodes.bounds import bounded

    core = {id_: bounded(node) for id_, node in NODES.items()}
    return MappingProxyType({**core, **NODE_CLASS_MAPPINGS})


@cache
def core_types() -> frozenset[str]:
    """Ids of the core nodes that can run here."""
    from ..host.standalone.core import NODES

    return frozenset(NODES)


def is_core(class_type: str) -> bool:
    """Whether a node is one of ComfyUI's own, whose newer versions may take more than ours."""
    return class_type in core_types()


def node_specs() -> dict[str, NodeSpec]:
    """What every known node takes and gives; read anew each time, as lists of files change."""
    from ..host.standalone.core import NAMES
    from ..nodes import NODE_DISPLAY_NAME_MAPPINGS

    names = NAMES | NODE_DISPLAY_NAME_MAPPINGS
    return {
        class_type: spec_of_class(class_type, node, names.get(class_type))
        for class_type, node in node_classes().items()
    }
