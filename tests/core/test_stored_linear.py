"""A base that is stored in fewer bits: the numbers and gradients of the weights in full, without keeping those."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import pytest
import torch
from pyramid_video.models import layers
from pyramid_video.models.lora import LoRA, LoRASettings
from pyramid_video.models.miniflux import MiniFluxTransformer
from pyramid_video.models.mmdit import MMDiTTransformer
from pyramid_video.models.stored_linear import StoredLinear, dequantised, store_linears
from test_lora import MINIFLUX, MMDIT, ask, filled, make

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
from _live_tensors import LiveTensors

stored_types = pytest.mark.parametrize("dtype", ["bf16", "fp8_e4m3fn"])


def in_full(network):
    """The same network with torch's own linears that hold what the stored ones work out."""
    plain = copy.deepcopy(network)
    for name, layer in list(plain.named_modules()):
        if isinstance(layer, StoredLinear):
            whole = torch.nn.Linear(layer.in_features, layer.out_features, layer.bias is not None)
            weight = dequantised(layer.weight, layer.scale, torch.float32)
            whole.load_state_dict({"weight": weight} | ({} if layer.bias is None else {"bias": layer.bias}))
            parent, _, child = name.rpartition(".")
            setattr(plain.get_submodule(parent), child, whole.requires_grad_(False))
    return plain


def gradients(network, targets="attention", bf16=False):
    """Answer and gradients of a LoRA beside `network`."""
    lora = filled(network, targets)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        answer = ask(network)
    answer.float().square().mean().backward()
    return [answer.detach(), *(parameter.grad for parameter in lora.parameters())]


@stored_types
@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "autocast"])
@pytest.mark.parametrize("kind", ["miniflux", "mmdit"])
def test_gradients_are_those_of_the_weights_in_full_to_the_last_bit(kind, bf16, dtype):
    network = make(kind)
    store_linears(network, dtype)
    stored = [layer for layer in network.modules() if isinstance(layer, StoredLinear)]
    assert len(stored) >= 20 and all(layer.weight.dtype != torch.float32 for layer in stored)
    plain = in_full(network)
    for ours, exact in zip(gradients(network, bf16=bf16), gradients(plain, bf16=bf16), strict=True):
        assert torch.equal(ours, exact) and ours.any()


@pytest.mark.parametrize("kind", ["miniflux", "mmdit"])
def test_where_training_computes_in_bf16_a_base_in_bf16_changes_no_number(kind):
    stored = make(kind)
    store_linears(stored, "bf16")
    for ours, exact in zip(gradients(stored, bf16=True), gradients(make(kind), bf16=True), strict=True):
        assert torch.equal(ours, exact)


def test_float8_uses_all_of_its_range_and_float32_changes_nothing():
    network = make()
    store_linears(network, "fp32")
    assert not any(isinstance(layer, StoredLinear) for layer in network.modules())
    weight = network.transformer_blocks[0].attn.to_q.weight.detach().clone()
    store_linears(network, "fp8_e4m3fn")
    layer = network.transformer_blocks[0].attn.to_q
    assert layer.weight.float().abs().max() == 448
    torch.testing.assert_close(dequantised(layer.weight, layer.scale, torch.float32), weight, rtol=0.07, atol=1e-3)
    assert type(network.context_embedder) is torch.nn.Linear, "what lies outside the blocks is small"


def test_gradient_checkpointing_gives_the_same_gradients():
    found = []
    for enabled in (False, True):
        network = make()
        store_linears(network, "fp8_e4m3fn")
        network.enable_gradient_checkpointing(enabled)
        found.append(gradients(network))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def held_for_backward(network) -> int:
    """Bytes that wait for the way back after a small question, on the meta device, where nothing is computed."""
    lora = LoRA(network, LoRASettings(2, 2.0, "attention"), torch.Generator()).to("meta")
    with LiveTensors() as memory:
        clip = torch.zeros(1, network.config.latent_channels, 1, 4, 4, device="meta")
        text, pooled = (
            torch.zeros(1, *shape, device="meta")
            for shape in ((3, network.config.joint_attention_dim), (network.config.pooled_projection_dim,))
        )
        plan = network.plan(((1, 2, 2),), ((True,) * 3,), clip)
        tokens = layers.patchify(clip)
        answer = network.velocity(tokens, (1, 2, 2), torch.zeros(1, device="meta"), text, pooled, plan)
        held = memory.live
    del answer, lora
    return held


@stored_types
def test_no_weight_in_full_waits_for_the_way_back(dtype, monkeypatch):
    network = MiniFluxTransformer(MINIFLUX)
    layers.init_weights(network)
    store_linears(network, dtype)
    full = sum(4 * layer.weight.numel() for layer in network.modules() if isinstance(layer, StoredLinear))
    network.to("meta")
    held = held_for_backward(network)

    def kept(layer, x):
        return torch.nn.functional.linear(x, dequantised(layer.weight, layer.scale, x.dtype), layer.bias)

    monkeypatch.setattr(StoredLinear, "forward", kept)
    # Without gradient the first layers keep nothing either way.
    assert held_for_backward(network) > held + 0.5 * full


def test_a_base_of_the_last_block_of_an_sd3_model_keeps_what_it_needs():
    network = MMDiTTransformer(MMDIT)
    layers.init_weights(network)
    shapes = {name: tuple(weight.shape) for name, weight in network.named_parameters()}
    store_linears(network, "bf16")
    assert {name: tuple(weight.shape) for name, weight in network.named_parameters()} == shapes
