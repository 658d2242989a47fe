"""The type that a run computes in, what its settings ask for or what suits the device, and what goes with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ...models.explicit_attention import explicit_attention
from ..presets import AUTO

CPU_PRODUCTS = ("avx512_bf16", "amx_bf16")  # instructions that multiply in bfloat16, by their names in torch


def chosen_precision(asked: str, device: torch.device) -> str:
    """Return "no" (float32) or "bf16"; "auto" is bf16 where the device computes in it, and float32 elsewhere."""
    if asked != AUTO:
        return asked
    return "bf16" if has_bf16(device) else "no"


def use_fast_attention(network: Any, device: torch.device, precision: str) -> None:
    """Let a transformer attend in the way that learns fastest in the `precision` of a run."""
    if device.type == "cpu" and precision == "bf16":
        network.attention = explicit_attention


def has_bf16(device: torch.device) -> bool:
    """Whether products in bfloat16 are made by the device itself; False for those that cannot tell."""
    if device.type == "cpu":
        able: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # not in older versions
        return any(able.get(name) for name in CPU_PRODUCTS)
    backend: Any = getattr(torch, device.type, None)
    check = getattr(backend, "is_bf16_supported", None)
    if check is None:
        return False
    return bool(check(including_emulation=False) if device.type == "cuda" else check())
