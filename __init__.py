"""Pyramid Video: blocks that make video from text, and train the models that do it.

Registration only. Nothing heavy is imported here: ComfyUI pays for this file at every start.
"""

from .host import inside_comfyui
from .nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS

if inside_comfyui():
    from .host.comfyui.inputs import lend_inputs
    from .host.comfyui.pictures import offer_picture
    from .nodes.stages_picture import stages_png

    lend_inputs()
    offer_picture("/pyramid_video/ladder", stages_png)

WEB_DIRECTORY = "./web"
__version__ = "0.1.0"

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS", "WEB_DIRECTORY"]
