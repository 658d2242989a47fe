"""What a standalone model multiplies in."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def types_of_products(model, monkeypatch) -> set[torch.dtype]:
    """The types that linears are given in one forward of a Pyramid Flow transformer."""
    text, pooled = torch.zeros(1, 3, model.info.text_width), torch.zeros(1, model.info.pooled_width)
    clip = torch.zeros(1, model.info.latent_channels, 1, 4, 4, dtype=model.dtype)
    products = []
    monkeypatch.setattr(F, "linear", lambda x, *rest, real=F.linear: products.append(x.dtype) or real(x, *rest))
    model.network([clip], torch.tensor([500.0]), text.to(model.dtype), None, pooled.to(model.dtype))
    return set(products)
