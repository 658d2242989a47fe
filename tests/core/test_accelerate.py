"""What accelerate keeps for a whole process, which other packs share, and runs beside it."""

from __future__ import annotations

import os

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from loop_toys import assert_same, make_run, train
from pyramid_video.training.run.launch import LONGEST_WAIT
from pyramid_video.training.run.processes import start_accelerator, train_on

CARDS = [torch.device("cuda", number) for number in range(3)]


@pytest.fixture
def anew(monkeypatch):
    """A process that has not begun with accelerate."""
    for state in (PartialState, AcceleratorState):
        monkeypatch.setattr(state, "_shared_state", {})
    for name in ("ACCELERATE_TORCH_DEVICE", "ACCELERATE_USE_CPU", "NCCL_P2P_DISABLE", "NCCL_IB_DISABLE"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_a_run_learns_the_same_where_another_pack_has_asked_for_bf16(tmp_path, request):
    straight = train(make_run(tmp_path / "straight"))
    request.getfixturevalue("anew")
    other = Accelerator(mixed_precision="bf16", cpu=True)
    assert_same(train(make_run(tmp_path / "run")), straight)
    assert other.mixed_precision == "bf16", "the other pack keeps its own"


@pytest.mark.parametrize("card", CARDS[1:])
def test_training_follows_the_host_to_any_card_and_no_other_program_does(anew, card):
    before = dict(os.environ)
    train_on(card)
    assert start_accelerator().device == card and dict(os.environ) == before
    train_on(card)
    for other in CARDS:
        if other != card:
            with pytest.raises(ValueError, match=f"on {other}, and another training .* on {card}"):
                train_on(other)


@pytest.mark.parametrize(("name", "value"), [("ACCELERATE_USE_CPU", "true"), ("ACCELERATE_TORCH_DEVICE", "cpu")])
def test_what_the_variables_of_accelerate_ask_for_holds(anew, name, value):
    anew.setenv(name, value)
    train_on(CARDS[1])
    assert start_accelerator().device == torch.device("cpu")


def test_processes_that_were_started_together_have_a_card_each(anew):
    anew.setenv("WORLD_SIZE", "2")
    train_on(CARDS[1])
    assert PartialState._shared_state == {}


def test_one_process_begins_beside_cards_that_send_each_other_nothing(anew):
    """As several RTX 40 with an older driver."""
    anew.setattr("accelerate.state.check_cuda_p2p_ib_support", lambda: False)
    anew.setattr(PartialState, "default_device", CARDS[0])
    assert start_accelerator().device == CARDS[0]
    assert not [name for name in os.environ if name.startswith("NCCL")]


class Connected(Exception):
    """Takes the place of a connection with others, with what was asked for."""


@pytest.fixture
def of_two(anew):
    """A process of two."""

    def connect(**options):
        raise Connected(options)

    anew.setattr(torch.distributed, "init_process_group", connect)
    ranks = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}
    for name, value in {**ranks, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29511"}.items():
        anew.setenv(name, value)
    return anew


def test_no_process_is_given_up_while_another_makes_clips(of_two):
    with pytest.raises(Connected) as found:
        start_accelerator()
    assert found.value.args[0]["timeout"] == LONGEST_WAIT


@pytest.mark.parametrize(("built", "backend"), [(True, "nccl"), (False, "gloo")])
def test_cards_are_connected_by_what_torch_is_built_with(of_two, built, backend):
    """On Windows there is no NCCL."""
    of_two.setattr(torch.cuda, "is_available", lambda: True)
    of_two.setattr(torch.cuda, "set_device", lambda device: None)
    of_two.setattr(torch.distributed, "is_nccl_available", lambda: built)
    of_two.setattr("accelerate.state.check_cuda_p2p_ib_support", lambda: True)
    with pytest.raises(Connected) as found:
        start_accelerator()
    assert found.value.args[0]["backend"] == backend
