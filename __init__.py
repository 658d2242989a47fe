"""Pyramid Video: blocks that make video from text, and train the models that do it.

Registration only. Nothing heavy is imported here: ComfyUI pays for this file at every start.
"""

from typing import Any

from .host import inside_comfyui

if inside_comfyui():
    from .host.comfyui.inputs import lend_inputs
    from .host.comfyui.page import offer_picture
    from .host.comfyui.schema import entrypoint, host_has_schema
    from .nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS
    from .nodes.stages_picture import stages_png

    lend_inputs()
    offer_picture("/pyramid_video/ladder", stages_png)
    if host_has_schema():
        comfy_entrypoint = entrypoint(NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS)
        del NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS  # the host looks for the entry point only without them
else:

    def __getattr__(name: str) -> Any:
        """Load the blocks when they are asked for: the command line hears signals, and answers options, before."""
        if name not in ("NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from . import nodes

        return getattr(nodes, name)


WEB_DIRECTORY = "./web"
__version__ = "0.1.0"
