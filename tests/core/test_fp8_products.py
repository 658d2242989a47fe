"""Linears that multiply in float8: the product of what was rounded, for activations of any size."""

from __future__ import annotations

from functools import lru_cache

import pytest
import torch
import torch.nn.functional as F
from pyramid_video.host.standalone import fp8_layers, layers
from pyramid_video.host.standalone.host import StandaloneHost
from pyramid_video.models import attention_forms
from torch import Tensor, nn

pytestmark = pytest.mark.skipif(not hasattr(F, "scaled_mm"), reason="this torch has no scaled products")
DTYPES = [torch.bfloat16, torch.float32]
FP8 = torch.float8_e4m3fn
SMALL = "pyramid_video_small_flow.safetensors"


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def linear_of(ops, rows: int, columns: int, dtype: torch.dtype) -> nn.Linear:
    layer = ops.Linear(columns, rows, dtype=dtype)
    layer.weight = nn.Parameter(normal(rows, columns, seed=1).to(FP8), requires_grad=False)
    layer.bias = nn.Parameter(normal(rows, seed=2).to(dtype), requires_grad=False)
    return layer


@pytest.mark.parametrize("dtype", DTYPES)
def test_it_is_the_product_of_what_was_rounded(dtype):
    x, weight = normal(40, 64).to(dtype), normal(32, 64, seed=1).to(FP8)
    scale = x.abs().amax() / 448
    exact = ((x / scale).to(FP8).double() * scale.double()) @ weight.double().t()
    fast = fp8_layers.fp8_product(x, weight)
    assert fast.dtype == dtype
    torch.testing.assert_close(fast.double(), exact, rtol=2**-8 if dtype == torch.bfloat16 else 1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("power", [-20, -3, 5, 40])
def test_activations_of_any_size_are_rounded_alike(dtype, power):
    """`f(2^k x) = 2^k f(x)` to the last bit: nothing is clipped at 448 and nothing is lost near zero."""
    x, weight = normal(8, 32).to(dtype), normal(16, 32, seed=1).to(FP8)
    assert torch.equal(fp8_layers.fp8_product(x * 2.0**power, weight), fp8_layers.fp8_product(x, weight) * 2.0**power)


@pytest.mark.parametrize("dtype", DTYPES)
def test_zeros_give_zeros(dtype):
    assert not fp8_layers.fp8_product(torch.zeros(4, 16, dtype=dtype), normal(16, 16).to(FP8)).any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(5, 32), (2, 3, 32), (1, 32)])
def test_a_layer_is_near_the_one_that_only_stores(dtype, shape):
    x = normal(*shape).to(dtype)
    stored, fast = (linear_of(ops, 48, 32, dtype)(x) for ops in (layers, fp8_layers))
    assert fast.shape == stored.shape and fast.dtype == dtype
    assert 0 < (fast - stored).norm() < 0.05 * stored.norm()


def test_nothing_gives_nothing():
    layer = linear_of(fp8_layers, 48, 32, torch.bfloat16)
    assert layer(torch.zeros(2, 0, 32, dtype=torch.bfloat16)).shape == (2, 0, 48)


@pytest.mark.parametrize(("rows", "columns"), [(32, 24), (24, 32)])
def test_what_the_kernel_cannot_take_is_only_stored(rows, columns):
    x = normal(3, columns)
    stored, fast = (linear_of(ops, rows, columns, torch.float32)(x) for ops in (layers, fp8_layers))
    assert torch.equal(fast, stored)


def test_weights_in_full_are_multiplied_in_full():
    layer = fp8_layers.Linear(32, 16)
    for parameter in layer.parameters():
        parameter.data.normal_()
    x = normal(4, 32)
    assert torch.equal(layer(x), F.linear(x, layer.weight, layer.bias))


@pytest.mark.parametrize("able", [True, False])
def test_the_loader_multiplies_where_the_device_can(able, monkeypatch):
    monkeypatch.setattr(fp8_layers, "has_fp8_products", lambda device: able)
    host = StandaloneHost(device="cpu")
    for name, expected in (("fp8_e4m3fn_fast", able), ("fp8_e4m3fn", False), ("default", False)):
        network = host.load_model(host.find_model("diffusion_models", SMALL), name).network
        kinds = {isinstance(module, fp8_layers.Linear) for module in network.modules() if isinstance(module, nn.Linear)}
        assert kinds == {expected}, name


def test_a_cpu_is_not_asked_for_them():
    assert not fp8_layers.has_fp8_products(torch.device("cpu"))


def test_a_device_whose_products_are_wrong_is_not_asked_for_them(monkeypatch):
    here = torch.device("cpu")
    assert fp8_layers.product_is_right.__wrapped__(here)
    monkeypatch.setattr(fp8_layers, "fp8_product", lambda x, weight: x.float() @ weight.float().t() * 1.2)
    assert not fp8_layers.product_is_right.__wrapped__(here)

    def refuse(x, weight):
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(fp8_layers, "fp8_product", refuse)
    assert not fp8_layers.product_is_right.__wrapped__(here)


def test_a_device_that_is_full_is_tried_again(monkeypatch):
    """It has shown nothing; what it shows once there is room holds for the process."""
    here, calls = torch.device("cuda"), []

    def full_at_first(device):
        calls.append(device)
        if len(calls) == 1:
            raise torch.cuda.OutOfMemoryError("the card is full")
        return True

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(fp8_layers, "product_is_right", lru_cache(full_at_first))
    monkeypatch.setattr(fp8_layers.F, "scaled_mm", None, raising=False)
    assert [fp8_layers.has_fp8_products(here) for _ in range(3)] == [False, True, True]
    assert len(calls) == 2


def test_a_probe_of_a_full_device_ends_there(monkeypatch):
    def full(x, weight):
        raise torch.cuda.OutOfMemoryError("the card is full")

    monkeypatch.setattr(fp8_layers, "fp8_product", full)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        fp8_layers.product_is_right.__wrapped__(torch.device("cpu"))
    monkeypatch.setattr(attention_forms, "attend_segments", lambda *given: full(*given[:2]))
    with pytest.raises(torch.cuda.OutOfMemoryError):
        attention_forms.kernel_is_right.__wrapped__(torch.device("cpu"), torch.bfloat16, 8)
