"""Which devices multiply in bfloat16: on the others it takes many times as long as float32."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

FIRST_CAPABILITY = 8, 0  # Ampere
AMD_MATRICES = ("08", "0a")  # gfx908 and gfx90a, MI100 and MI200; those after them are gfx940 and above
CPU_PRODUCTS = ("avx512_bf16", "amx_bf16")  # instructions that multiply in bfloat16, by their names in torch


def has_bf16(device: torch.device) -> bool:
    """Whether products in bfloat16 are made by the device itself; False for those that cannot tell."""
    if device.type == "cpu":
        return any(cpu_capabilities().get(name) for name in CPU_PRODUCTS)
    if device.type == "cuda":  # torch's own check looks at the current card alone
        if torch.version.hip is not None:
            return amd_multiplies(str(getattr(torch.cuda.get_device_properties(device), "gcnArchName", "")))
        return torch.cuda.get_device_capability(device) >= FIRST_CAPABILITY
    backend: Any = getattr(torch, device.type, None)
    check = getattr(backend, "is_bf16_supported", None)
    return bool(check is not None and check())


def amd_multiplies(architecture: str) -> bool:
    """Whether AMD's cards of an architecture such as `gfx1030` or `gfx90a:xnack-` multiply in bfloat16.

    All since RDNA 3 do (gfx11), and of those before it the ones for computing since MI100; unknown names are believed
    to.
    """
    name = re.match(r"gfx(\d+)([0-9a-f])([0-9a-f])(?![0-9a-f])", architecture)
    if name is None:
        return True
    family, kind = int(name[1]), name[2] + name[3]
    return family >= 11 or (family == 9 and (kind in AMD_MATRICES or kind[0] >= "4"))


def autocast_to_bf16(device: torch.device, enabled: bool = True) -> AbstractContextManager[object]:
    """A context in which networks compute in bfloat16, or else in the type that they have.

    Where torch has no autocast for a device (MPS before torch 2.5), there is none to switch off.
    """
    if not enabled and not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16 if enabled else None, enabled=enabled)


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
