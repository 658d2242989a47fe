"""What a device and its environment can do beside the usual: products in float8, attention of another package."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import _package  # noqa: F401
import torch
from pyramid_video.host.standalone import fp8_layers
from pyramid_video.host.standalone import layers as casting_layers
from pyramid_video.models.attention_forms import Attention


def fp8_options(device: torch.device) -> Iterator[tuple[str, ModuleType]]:
    """How weights in float8 can be computed with: by name, the layers that do it."""
    yield "stored in fp8", casting_layers
    if fp8_multiplies(device):
        yield "products in fp8", fp8_layers


def fp8_multiplies(device: torch.device) -> bool:
    """Whether products can be made in float8; a CPU makes them slowly, which shows that the program runs."""
    return fp8_layers.has_fp8_products(device) or (device.type == "cpu" and fp8_layers.product_is_right(device))


def sage_attention() -> Attention | None:
    """SageAttention where it is installed, as a transformer here takes it."""
    try:
        from sageattention import sageattn
    except ImportError:
        return None
    return lambda query, key, value: sageattn(query, key, value, tensor_layout="HND")
