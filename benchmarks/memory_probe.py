"""For ComfyUI's `custom_nodes`: the address /memory_probe says what the server's process holds. Adds no blocks.

`interrupts.py` puts it into a server of its own.
"""

from __future__ import annotations

import gc

import comfy.model_management
import psutil
import torch
from aiohttp import web
from server import PromptServer

NODE_CLASS_MAPPINGS: dict[str, type] = {}
KINDS = (torch.Tensor, torch.nn.Parameter)  # others hold no memory of their own, such as those a compiler traces with


@PromptServer.instance.routes.get("/memory_probe")
async def memory_probe(request: web.Request) -> web.Response:
    """Bytes of the process, its tensors and networks after a garbage collection, and what is loaded."""
    gc.collect()
    held = gc.get_objects()
    tensors = [thing for thing in held if type(thing) in KINDS and thing.device.type != "meta"]
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return web.json_response(
        {
            "rss": psutil.Process().memory_info().rss,
            "tensors": len(tensors),
            "tensor_bytes": sum(storages.values()),
            "networks": sum(hasattr(type(thing), "state_dict_for_saving") for thing in held),
            "loaded": len(comfy.model_management.loaded_models()),
        }
    )
