"""Which devices multiply in bfloat16: on the others it takes many times as long as float32."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

FIRST_CAPABILITY = 8, 0  # Ampere
CPU_PRODUCTS = ("avx512_bf16", "amx_bf16")  # instructions that multiply in bfloat16, by their names in torch


def has_bf16(device: torch.device) -> bool:
    """Whether products in bfloat16 are made by the device itself; False for those that cannot tell."""
    if device.type == "cpu":
        return any(cpu_capabilities().get(name) for name in CPU_PRODUCTS)
    if device.type == "cuda":  # torch's own check looks at the current card alone
        return torch.version.hip is not None or torch.cuda.get_device_capability(device) >= FIRST_CAPABILITY
    backend: Any = getattr(torch, device.type, None)
    check = getattr(backend, "is_bf16_supported", None)
    return bool(check is not None and check())


def only_stores_bf16(device: torch.device) -> bool:
    """Whether a device is known to make no products in bfloat16 itself, so that it should compute in float32.

    On cards before Ampere such products are slower than in float32, and torch leaves out cuDNN for convolutions: its
    own way takes many times the memory.
    """
    return device.type in ("cpu", "cuda") and not has_bf16(device)


def only_emulates_bf16() -> bool:
    """Whether the processor says what it can and names nothing with bf16; ARM has other names for it than x86."""
    able = cpu_capabilities()
    return bool(able) and not any(value for name, value in able.items() if "bf16" in name)


def cpu_capabilities() -> Mapping[str, Any]:
    """What torch says of the processor by name, empty in versions that do not tell."""
    able: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return able
