"""Training stays on the device of the host, where accelerate would look for a card itself; its precision suits it."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from loop_toys import SETTINGS, assert_same, make_run, train
from pyramid_video.host import use_host
from pyramid_video.models.bf16 import autocast_to_bf16
from pyramid_video.nodes.trainer_base import stay_with_host
from pyramid_video.recipes.emoji.recipe import RECIPES
from pyramid_video.training.run.precision import chosen_precision


@pytest.mark.parametrize(("device", "expected"), [("cpu", "true"), ("cuda", None), ("mps", None)])
def test_a_host_on_the_cpu_keeps_training_there(monkeypatch, device, expected):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "")  # so that what is set meanwhile is taken back
    monkeypatch.delenv("ACCELERATE_USE_CPU")
    use_host(SimpleNamespace(device=torch.device(device)))
    try:
        stay_with_host()
        assert os.environ.get("ACCELERATE_USE_CPU") == expected
    finally:
        use_host(None)


def test_auto_computes_in_bf16_where_the_device_does(monkeypatch):
    cards = {0: (7, 5), 1: (8, 6)}  # two in one computer, the current one being the older
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: cards[device.index])
    assert chosen_precision("auto", torch.device("cuda:0")) == "no", "an older card would only emulate it"
    assert chosen_precision("auto", torch.device("cuda:1")) == "bf16"
    assert chosen_precision("no", torch.device("cuda:1")) == "no"
    assert [chosen_precision("auto", torch.device(kind)) for kind in ("mps", "meta")] == ["no"] * 2
    assert chosen_precision("bf16", torch.device("cpu")) == "bf16"


@pytest.mark.parametrize(
    ("able", "expected"), [({"avx512_bf16": True}, "bf16"), ({"amx_bf16": True}, "bf16"), ({"avx2": True}, "no")]
)
def test_auto_computes_in_bf16_on_processors_that_do(monkeypatch, able, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able, raising=False)
    assert chosen_precision("auto", torch.device("cpu")) == expected
    assert chosen_precision("no", torch.device("cpu")) == "no"


def test_auto_is_float32_where_a_processor_does_not_tell(monkeypatch, caplog):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert chosen_precision("auto", torch.device("cpu")) == "no"
    assert chosen_precision("bf16", torch.device("cpu")) == "bf16" and not caplog.text


@pytest.mark.parametrize(
    ("able", "slow"),
    [({"avx512_bf16": True}, False), ({"avx2": True, "amx_bf16": False}, True), ({"bf16": True}, False)],
)
def test_bf16_that_a_processor_only_emulates_is_said_to_be_slow(monkeypatch, caplog, able, slow):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able, raising=False)
    assert chosen_precision("bf16", torch.device("cpu")) == "bf16"
    assert ("ten times as long" in caplog.text) == slow


def test_bf16_that_a_card_only_emulates_is_said_to_be_slow(monkeypatch, caplog):
    cards = {0: (7, 5), 1: (8, 6)}
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: cards[device.index])
    for number, asked, words in ((1, "bf16", ""), (0, "no", ""), (0, "auto", ""), (0, "bf16", "cuda:0 does not mul")):
        chosen_precision(asked, torch.device("cuda", number))
        assert words in caplog.text and bool(words) == bool(caplog.text)


def test_autocast_is_switched_off_also_where_a_device_has_none():
    """As MPS before torch 2.5; meta tensors have none in any version."""
    assert not torch.amp.is_autocast_available("meta")
    for kind in ("cpu", "cuda", "mps", "xpu", "meta"):
        with autocast_to_bf16(torch.device(kind), False):
            assert torch.ones(2, 2).mm(torch.ones(2, 2)).dtype == torch.float32
    with autocast_to_bf16(torch.device("cpu")):
        assert torch.ones(2, 2).mm(torch.ones(2, 2)).dtype == torch.bfloat16
        with autocast_to_bf16(torch.device("cpu"), False):
            assert torch.ones(2, 2).mm(torch.ones(2, 2)).dtype == torch.float32


def test_a_run_learns_in_float32_on_a_device_without_autocast(tmp_path, monkeypatch):
    def unsupported(kind, dtype=None, enabled=True):
        raise RuntimeError(f"User specified an unsupported autocast device_type '{kind}'")

    straight = train(make_run(tmp_path / "straight"))
    monkeypatch.setattr(torch.amp, "is_autocast_available", lambda kind: False)
    monkeypatch.setattr(torch, "autocast", unsupported)
    assert_same(train(make_run(tmp_path / "run")), straight)


def test_no_part_of_the_small_models_insists_on_a_precision():
    """A recipe trains on any hardware, and on half of all processors bf16 takes ten times as long as float32."""
    plans = [settings for recipe in RECIPES.values() for settings in recipe.training.values()]
    assert {settings.get("precision", "no") for settings in plans} == {"no", "auto"}


def test_a_run_says_what_auto_became(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict, raising=False)
    train(make_run(tmp_path, replace(SETTINGS, steps=2, precision="no")))
    again = make_run(tmp_path, replace(SETTINGS, steps=3, precision="auto"))
    again.resume()
    assert again.precision == "no" and "precision" not in caplog.text
    train(again)
    assert json.loads((tmp_path / "settings.json").read_text("utf-8"))["precision"] == "no"
