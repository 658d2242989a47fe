"""Attention by two products is attention: the same numbers and the same gradients, with masks and with padding."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from pyramid_video.models import explicit_attention as module
from pyramid_video.models.attention_forms import choose_form
from pyramid_video.models.explicit_attention import explicit_attention
from pyramid_video.training.run.precision import use_fast_attention
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


def test_in_bfloat16_it_is_half_as_exact_as_the_fused_one():
    generator = torch.Generator().manual_seed(0)
    tensors = [2 * torch.randn(4, 4, 320, 64, generator=generator) for _ in range(3)]
    exact = scaled_dot_product_attention(*tensors)
    half = [tensor.bfloat16() for tensor in tensors]
    errors = [(f(*half) - exact).norm() / exact.norm() for f in (explicit_attention, scaled_dot_product_attention)]
    assert errors[0] < 2.5 * errors[1] < 0.03


@pytest.mark.parametrize(
    ("device", "precision", "expected"),
    [
        ("cpu", "bf16", explicit_attention),
        ("cpu", "no", scaled_dot_product_attention),
        ("cuda", "bf16", scaled_dot_product_attention),
    ],
)
def test_only_bfloat16_on_a_cpu_learns_with_it(device, precision, expected):
    network = SimpleNamespace(attention=scaled_dot_product_attention)
    use_fast_attention(network, torch.device(device), precision)
    assert network.attention is expected


def test_it_takes_the_masks_that_the_fused_one_takes():
    """A form without masks would be some hundred calls for a pyramid's batch."""
    cpu, asked = torch.device("cpu"), (torch.bfloat16, 64, True, False)
    assert choose_form(explicit_attention, cpu, *asked) == choose_form(scaled_dot_product_attention, cpu, *asked)
    assert choose_form(lambda query, key, value: value, cpu, *asked) == "runs"
