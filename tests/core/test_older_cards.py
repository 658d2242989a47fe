"""On cards that do not multiply in bfloat16, weights are stored in it and computed with in float32."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from official_folders import write_component
from products import types_of_products
from pyramid_video.host.standalone.host import StandaloneHost
from pyramid_video.models import checkpoint_dtypes
from pyramid_video.models.bf16 import has_bf16, only_stores_bf16
from pyramid_video.training.run.precision import chosen_precision

PASCAL, TURING, AMPERE, BLACKWELL = (6, 1), (7, 5), (8, 6), (12, 0)
CARDS = [(PASCAL, torch.float32), (TURING, torch.float32), (AMPERE, torch.bfloat16), (BLACKWELL, torch.bfloat16)]


@pytest.fixture
def host_with(monkeypatch):
    """A host whose card has a capability; networks stay on the CPU until they are used."""
    monkeypatch.setattr(checkpoint_dtypes, "LARGE", 0)  # the tiny networks here stand for large ones

    def make(capability: tuple[int, int]) -> StandaloneHost:
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        host = StandaloneHost()
        host.__dict__["device"] = torch.device("cuda", 0)
        return host

    return make


@pytest.mark.parametrize(("capability", "computes"), CARDS)
def test_a_transformer_is_stored_in_bf16_and_multiplies_in_what_the_card_can(
    host_with, tmp_path, monkeypatch, capability, computes
):
    model = host_with(capability).load_model(write_component(tmp_path / "component", "miniflux"))
    assert (model.network.context_embedder.weight.dtype, model.dtype) == (torch.bfloat16, computes)
    assert types_of_products(model, monkeypatch) == {computes}


@pytest.mark.parametrize(("capability", "computes"), CARDS)
def test_a_vae_computes_in_what_the_card_can(host_with, tmp_path, capability, computes):
    vae = host_with(capability).load_vae(write_component(tmp_path / "component", "causal_vae"))
    assert {parameter.dtype for parameter in vae.network.parameters()} == {computes}


def test_what_cannot_tell_is_believed_to_compute_in_it(monkeypatch):
    assert not only_stores_bf16(torch.device("mps"))
    monkeypatch.setattr(torch.version, "hip", "6.4")
    for properties in (SimpleNamespace(), SimpleNamespace(gcnArchName="of tomorrow")):
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device, card=properties: card)
        assert has_bf16(torch.device("cuda", 0)), "whatever capability AMD's cards name"


@pytest.mark.parametrize(
    ("names", "able"),
    [
        ("gfx803 gfx900 gfx902 gfx906 gfx906:sramecc+:xnack- gfx909 gfx90c gfx1010 gfx1012 gfx1030 gfx1036", False),
        ("gfx908 gfx90a gfx90a:sramecc+:xnack- gfx940 gfx942 gfx950 gfx1100 gfx1151 gfx1200 gfx1201", True),
    ],
)
def test_amds_cards_multiply_in_bf16_since_rdna_3_and_mi100(monkeypatch, names, able):
    monkeypatch.setattr(torch.version, "hip", "6.4")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (10, 3))
    for name in names.split():
        monkeypatch.setattr(
            torch.cuda, "get_device_properties", lambda device, name=name: SimpleNamespace(gcnArchName=name)
        )
        card = torch.device("cuda", 0)
        assert (has_bf16(card), only_stores_bf16(card)) == (able, not able), name
        assert chosen_precision("auto", card) == ("bf16" if able else "no")
