"""The host's own patcher around a network of ours, so that whatever memory management this host has serves it."""

from __future__ import annotations

from typing import Any

import comfy.model_management
import comfy.model_patcher
import torch
from torch import nn


def patcher_of(model: nn.Module, network: nn.Module, load: torch.device, offload: torch.device) -> Any:
    """A patcher of the class that this host gives its own models; newer ones stream the weights of `network` with it.

    Those cast a weight to the type that it had when the network was made, and some of ours are in another one since
    (norms beside float8, float32 beside bfloat16): the types are noted again.
    """
    note_types = getattr(comfy.model_management, "archive_model_dtypes", None)
    if note_types is not None:
        note_types(network)
    kind = getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)
    return kind(model, load_device=load, offload_device=offload)
