"""The types that weights can be kept in, by the names that the loader shows.

torch is imported when a type is needed, not before: the names are also needed where it is not loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

LARGE = 100_000_000  # parameters from which half the memory is worth more than the last digits
WEIGHT_DTYPES = {  # name in the loader: name in torch; float16 is missing because it overflows in these networks
    "default": None,
    "bf16": "bfloat16",
    "fp32": "float32",
    "fp8_e4m3fn": "float8_e4m3fn",
    "fp8_e5m2": "float8_e5m2",
    "fp8_e4m3fn_fast": "float8_e4m3fn",
}
FAST = "fp8_e4m3fn_fast"  # products are made in float8 too where the card can


def named_dtype(name: str) -> torch.dtype | None:
    """The type called `name`; None for "default", which leaves the choice to the file and the device."""
    import torch

    if name not in WEIGHT_DTYPES:
        raise ValueError(f"weight_dtype is {name!r}; expected {', '.join(WEIGHT_DTYPES)}")
    in_torch = WEIGHT_DTYPES[name]
    return None if in_torch is None else getattr(torch, in_torch)
