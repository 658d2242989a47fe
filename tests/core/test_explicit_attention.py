"""Attention by two products is attention: the same numbers and the same gradients, with masks and with padding."""

from __future__ import annotations

import pytest
import torch
from pyramid_video.training import explicit_attention as module
from pyramid_video.training.explicit_attention import explicit_attention, learn_fast
from torch import nn
from torch.nn.functional import scaled_dot_product_attention


def outcome(attention, mask, counted):
    """What comes out, and the gradients of queries, keys and values, where only `counted` queries mean anything."""
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(2, 3, n, 8, generator=generator, requires_grad=True) for n in (5, 7, 7)]
    made = attention(*tensors, attn_mask=mask)[:, :, :counted]
    made.square().sum().backward()
    return made, [tensor.grad for tensor in tensors]


@pytest.mark.parametrize("most", [module.MOST_WEIGHTS, 0], ids=["products", "too long"])
@pytest.mark.parametrize("masked", [None, "some", "padding"])
def test_it_is_attention(monkeypatch, masked, most):
    monkeypatch.setattr(module, "MOST_WEIGHTS", most)
    mask = None if masked is None else torch.rand(2, 1, 5, 7, generator=torch.Generator().manual_seed(1)) < 0.7
    if mask is not None:
        mask[..., 0] = True
    if masked == "padding":
        mask[:, :, 4] = False  # a query that sees nothing; what comes out for it means nothing
    counted = 4 if masked == "padding" else 5
    expected = outcome(scaled_dot_product_attention, mask, counted)
    torch.testing.assert_close(outcome(explicit_attention, mask, counted), expected)


def test_only_a_cpu_learns_with_it():
    for device, expected in (("cpu", explicit_attention), ("cuda", scaled_dot_product_attention)):
        network = nn.Module()
        network.attention = scaled_dot_product_attention
        learn_fast(network, torch.device(device))
        assert network.attention is expected
