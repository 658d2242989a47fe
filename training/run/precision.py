"""The type that a run computes in, what its settings ask for or what suits the device, and what goes with it."""

from __future__ import annotations

import logging
from typing import Any

import torch

from ...models.bf16 import CPU_PRODUCTS, has_bf16, only_emulates_bf16
from ...models.explicit_attention import explicit_attention
from ..presets import AUTO

log = logging.getLogger(__name__)


def chosen_precision(asked: str, device: torch.device) -> str:
    """Return "no" (float32) or "bf16"; "auto" is bf16 where the device computes in it, and float32 elsewhere.

    Where a processor or a card has no products in bf16, asking for it is taken at its word and logged as slow.
    """
    if asked == AUTO:
        return "bf16" if has_bf16(device) else "no"
    if asked == "bf16" and device.type == "cpu" and only_emulates_bf16():
        log.warning(
            "precision is bf16, and this processor has neither of %s: products in bf16 take it about ten times as long "
            'as those in float32. Set precision to "auto" or "no", and the run goes on from where it is',
            " and ".join(CPU_PRODUCTS),
        )
    if asked == "bf16" and device.type == "cuda" and not has_bf16(device):
        log.warning(
            "precision is bf16, and the card %s does not multiply in it itself, which takes longer than float32. Set "
            'precision to "auto" or "no", and the run goes on from where it is',
            device,
        )
    return asked


def use_fast_attention(network: Any, device: torch.device, precision: str) -> None:
    """Let a transformer attend in the way that learns fastest in the `precision` of a run."""
    if device.type == "cpu" and precision == "bf16":
        network.attention = explicit_attention
