"""What one network has learned since, added to another that once began with the same weights.

Diffusion and GAN begin with the flow of an early minute; what the flow learns later is worth as much to them, and a sum
of weights costs seconds where training costs hours (task arithmetic, Ilharco et al. 2023, arXiv 2212.04089). It holds
while they are not far from where they began: the pyramid, which learns longest, gains nothing by more than a quarter.
A part of what a decoder learned can be better than all or nothing of it: a mean of two networks on one way averages out
what each gets wrong (Wortsman et al. 2022, arXiv 2203.05482).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ...models import checkpoints

KINDS = (*checkpoints.TRANSFORMERS, "causal_vae")


def add_learned(model: Path, later: Path, earlier: Path, share: float, out: Path) -> Path:
    """Write `model + share (later - earlier)` to `out`; all are files of networks of one kind and the same sizes.

    The new file says of itself what `model` says, in its type. ValueError where the sizes differ.
    """
    info = checkpoints.inspect(model, KINDS)
    weights, plus, minus = (float32_weights(path) for path in (model, later, earlier))
    for path, other in ((later, plus), (earlier, minus)):
        if shapes(other) != shapes(weights):
            raise ValueError(f"{path} is a network of other sizes than {model}: one cannot be added to the other")
    total = {key: weight + share * (plus[key] - minus[key]) for key, weight in weights.items()}
    extra = {"family": info.family.to_dict()} if info.kind in checkpoints.TRANSFORMERS else None
    return checkpoints.save(out, total, info.kind, info.config, info.latent_format, extra, info.dtype)


def float32_weights(path: Path) -> dict[str, Tensor]:
    """The weights in a file by the names that its network has for them."""
    return checkpoints.load_state_dict(checkpoints.inspect(path, KINDS), dtype=torch.float32)


def shapes(weights: dict[str, Tensor]) -> dict[str, torch.Size]:
    return {key: weight.shape for key, weight in weights.items()}
