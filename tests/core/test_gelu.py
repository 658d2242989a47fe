"""GELU on a CPU by way of the sigmoid: the same function, for any shape, and nothing beside it is touched."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from pyramid_video.models.gelu import PIECE, gelu

SHAPES = [(3,), (2, 5), (2, 7, 24), (2, 3, 2 * PIECE // 3), (1, 40, 5000)]  # the last ones in several pieces


@pytest.mark.parametrize("shape", SHAPES)
@torch.no_grad()
def test_it_is_the_tanh_form(shape):
    x = 4 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    exact = F.gelu(x.double(), approximate="tanh")
    assert (gelu(x) - exact).abs().max() < 1e-6
    assert (F.gelu(x, approximate="tanh") - exact).abs().max() < 1e-6, "torch's own is as near"


@torch.no_grad()
def test_what_is_far_out_is_itself_or_nothing():
    x = torch.tensor([-1e30, -1e4, -50.0, 0.0, 50.0, 1e4, 1e30])
    assert torch.equal(gelu(x), x.clamp_min(0))


@torch.no_grad()
def test_columns_beside_the_result_stay():
    x = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    wide = torch.full((2, 5, 11), 7.0)
    gelu(x, out=wide[..., 3:])
    assert torch.equal(wide[..., 3:], gelu(x)) and (wide[..., :3] == 7).all()


class OnMPS(torch.Tensor):
    """Numbers that say they lie on a Mac."""

    device = torch.device("mps")


@torch.no_grad()
def test_no_kernel_of_a_mac_writes_beside_columns():
    x = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    asked, wide = [], torch.full((2, 5, 11), 7.0)
    with mock.patch.object(torch.ops.aten.gelu, "out", lambda *given, **kw: asked.append(kw)):
        gelu(x.as_subclass(OnMPS), out=wide[..., 3:])
    assert not asked
    torch.testing.assert_close(wide[..., 3:], gelu(x))
    assert (wide[..., :3] == 7).all()


@torch.no_grad()
def test_other_strides_give_the_same():
    """As a copy without them does, to the last bit: a processor may round the last numbers of a row otherwise."""
    x = torch.randn(6, 5, 4, generator=torch.Generator().manual_seed(0)).transpose(0, 2)
    assert not x.is_contiguous() and torch.equal(gelu(x), gelu(x.contiguous()))


@torch.no_grad()
def test_the_default_type_of_torch_does_not_matter():
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    usual, before = gelu(x), torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        assert torch.equal(gelu(x), usual)
    finally:
        torch.set_default_dtype(before)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@torch.no_grad()
def test_other_types_are_torchs_own(dtype):
    x = torch.randn(3, 8, dtype=dtype)
    assert torch.equal(gelu(x), F.gelu(x, approximate="tanh"))


def test_gradients_are_torchs_own():
    x = torch.randn(3, 8, requires_grad=True)
    gelu(x).sum().backward()
    (exact,) = torch.autograd.grad(F.gelu(x, approximate="tanh").sum(), x)
    assert torch.equal(x.grad, exact)


def test_second_gradients_are_torchs_own():
    x = torch.randn(3, 8, requires_grad=True)
    found, wanted = [], []
    for function, gradients in ((gelu, found), (lambda each: F.gelu(each, approximate="tanh"), wanted)):
        (first,) = torch.autograd.grad(function(x).square().sum(), x, create_graph=True)
        gradients += [first, *torch.autograd.grad(first.square().sum(), x)]
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_a_gradient_changes_no_number():
    x = torch.randn(3, 1000, 24, requires_grad=True)
    with torch.no_grad():
        plain = gelu(x)
    assert torch.equal(gelu(x), plain) and gelu(x).requires_grad
