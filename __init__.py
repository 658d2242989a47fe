"""Pyramid Video: blocks that make video from text, and train the models that do it.

Registration only. Nothing heavy is imported here: ComfyUI pays for this file at every start.
"""

from .host import inside_comfyui
from .nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS

if inside_comfyui():
    from .host.comfyui.inputs import lend_inputs
    from .host.comfyui.page import offer_picture
    from .host.comfyui.schema import entrypoint, host_has_schema
    from .nodes.stages_picture import stages_png

    lend_inputs()
    offer_picture("/pyramid_video/ladder", stages_png)
    if host_has_schema():
        comfy_entrypoint = entrypoint(NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS)
        del NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS  # the host looks for the entry point only without them

WEB_DIRECTORY = "./web"
__version__ = "0.1.0"
