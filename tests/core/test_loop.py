"""The training loop: a stopped run goes on as if it had never stopped."""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from accelerate.state import GradientState
from loop_toys import SETTINGS, assert_same, make_run, objective_of, saved, state_of, train
from pyramid_video.training.run.loop import MOST_SKIPPED, TrainingRun
from pyramid_video.training.run.loss_log import read_losses, read_rows
from pyramid_video.training.run.train_settings import OLD_NAMES, TrainSettings
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint


def test_a_resumed_run_equals_one_that_never_stopped(tmp_path):
    straight = train(make_run(tmp_path / "straight"))
    train(make_run(tmp_path / "halves"), until=5)
    second = make_run(tmp_path / "halves")
    assert second.resume()
    assert second.step == 5
    train(second)
    assert_same(second, straight)
    lines = [json.loads(line) for line in (tmp_path / "halves" / "losses.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(8))


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_run_is_resumed_without_torch_distributed(tmp_path, monkeypatch, optimizer):
    """Some builds of torch have none: importing its tensors there is an error."""
    settings = replace(SETTINGS, optimizer=optimizer)
    straight = train(make_run(tmp_path / "straight", settings))
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "torch.distributed.tensor", None)
        train(make_run(tmp_path / "run", settings), until=3)
        again = make_run(tmp_path / "run", settings)
        assert again.resume()
        train(again)
    assert_same(again, straight)


def test_a_run_learns_where_another_pack_is_in_the_midst_of_its_own_accumulation(tmp_path, monkeypatch):
    """What accelerate knows of accumulating gradients belongs to the process."""
    straight = train(make_run(tmp_path / "straight"))
    run = make_run(tmp_path / "run")
    monkeypatch.setattr(run.accelerator, "gradient_accumulation_steps", 4)
    monkeypatch.setattr(GradientState(), "sync_gradients", False)
    assert_same(train(run), straight)


def test_a_run_that_is_stopped_from_outside_is_saved(tmp_path):
    class Stop(Exception):
        pass

    def stop(step, losses):
        if step == 3:
            raise Stop

    with pytest.raises(Stop):
        train(make_run(tmp_path), on_step=stop)
    again = make_run(tmp_path)
    assert again.resume() and again.step == 3


def test_a_half_done_update_is_never_saved(tmp_path, monkeypatch):
    """Ctrl-C may fall between the new weights and their average; the run then goes on from the state before."""
    run = train(make_run(tmp_path), until=2)
    step_average = run._ema.step

    def interrupted(parameters):
        raise KeyboardInterrupt

    monkeypatch.setattr(run._ema, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(run)
    monkeypatch.setattr(run._ema, "step", step_average)
    with pytest.raises(ValueError, match="in the middle of an update"):
        train(run)
    again = make_run(tmp_path)
    assert again.resume() and again.step == 2
    straight = train(make_run(tmp_path / "straight"))
    train(again)
    assert torch.equal(again.modules["network"].weight, straight.modules["network"].weight)


def test_a_run_that_left_its_device_has_its_averages_alone_and_goes_on_from_its_folder(tmp_path):
    run, beside = make_run(tmp_path), nn.Linear(2, 2)
    with run.leaving_device(beside):
        averages = train(run, until=5).averaged()
    torch.testing.assert_close(run.averaged(), averages, rtol=0, atol=0)
    torch.testing.assert_close(run.modules["network"].state_dict(), averages["network"], rtol=0, atol=0)
    assert all(parameter.grad is None for parameter in run.modules["network"].parameters())
    assert not run.optimizer.state and beside.weight.device.type == "cpu"
    for goes_on in (lambda: train(run), run.save):
        with pytest.raises(ValueError, match="has left its device: make it anew and resume"):
            goes_on()
    again = make_run(tmp_path)
    again.resume()
    assert_same(train(again), train(make_run(tmp_path / "straight")))


def test_of_a_run_that_an_error_ends_nothing_is_left_but_its_folder(tmp_path):
    run, beside = make_run(tmp_path), nn.Linear(2, 2)
    with pytest.raises(KeyError, match="stop"), run.leaving_device(beside):
        train(run, until=5)
        raise KeyError("stop")
    left = [*run.modules["network"].parameters(), *beside.parameters()]
    assert {tensor.device.type for tensor in left} == {"meta"} and not run.optimizer.state
    again = make_run(tmp_path)
    again.resume()
    assert_same(train(again), train(make_run(tmp_path / "straight")))


def test_nothing_to_resume_is_no_error(tmp_path):
    assert not make_run(tmp_path).resume()


def test_a_run_of_another_model_is_refused(tmp_path):
    train(make_run(tmp_path), until=1)
    with pytest.raises(ValueError, match="another model"):
        make_run(tmp_path, width=5).resume()


def test_tensors_that_were_not_trained_are_told(tmp_path):
    train(make_run(tmp_path), until=1)
    frozen = nn.Linear(4, 2)
    frozen.bias.requires_grad_(False)
    with pytest.raises(ValueError, match="trained other tensors"):
        TrainingRun({"network": frozen}, SETTINGS, tmp_path).resume()


def test_a_run_is_not_overwritten_by_one_that_did_not_resume_it(tmp_path):
    train(make_run(tmp_path), until=1)
    with pytest.raises(ValueError, match="holds a run already"):
        train(make_run(tmp_path))
    assert saved(tmp_path)["step"] == 1


def test_a_step_that_is_not_finite_changes_nothing_and_is_told(tmp_path, caplog):
    run = make_run(tmp_path, replace(SETTINGS, steps=6))
    weights = [state_of(run)]
    train(run, nan_at=(2, 3), on_step=lambda step, losses: weights.append(state_of(run)))
    same = [all(torch.equal(before[k], after[k]) for k in after) for before, after in pairwise(weights)]
    assert same == [False, False, True, True, False, False]
    assert [row.get("skipped", 0) for row in read_rows(tmp_path / "losses.jsonl")] == [0, 0, 1, 2, 0, 0]
    assert [step for step, _ in read_losses(tmp_path)["loss"]] == [0, 1, 4, 5] and set(read_losses(tmp_path)) == {
        "loss"
    }
    assert [record.getMessage().split(" had")[0] for record in caplog.records] == ["step 2", "step 3"]


def test_gradients_that_are_not_finite_behind_a_finite_loss_are_skipped(tmp_path):
    run = make_run(tmp_path)
    before = state_of(run)

    def objective(step, generator):
        weight = run.modules["network"].weight
        return {"loss": (weight - weight.detach()).abs().sqrt().sum()}  # 0, with the slope of a root at 0

    run.train(objective, until=1)
    torch.testing.assert_close(state_of(run), before, rtol=0, atol=0)
    assert run.skipped == run.step == 1


def test_steps_in_a_row_that_are_not_finite_stop_the_run_wherever_it_is_broken_off(tmp_path):
    settings, bad = replace(SETTINGS, steps=30), range(4, 30)
    straight = make_run(tmp_path / "straight", settings)
    with pytest.raises(
        ValueError, match=rf"step {3 + MOST_SKIPPED} .* {MOST_SKIPPED} in a row .* learning rate of 0.01"
    ):
        train(straight, nan_at=bad)
    train(make_run(tmp_path / "halves", settings), until=9, nan_at=bad)
    halves = make_run(tmp_path / "halves", settings)
    assert halves.resume() and halves.skipped == 5
    with pytest.raises(ValueError, match="in a row"):
        train(halves, nan_at=bad)
    assert halves.step == straight.step == 4 + MOST_SKIPPED
    assert_same(halves, straight)
    again = make_run(tmp_path / "halves", settings)  # with better data it goes on
    assert again.resume()
    assert train(again).skipped == 0


def test_another_seed_is_refused_on_resume(tmp_path):
    train(make_run(tmp_path), until=1)
    with pytest.raises(ValueError, match="begun with seed 3, and seed 4 would draw other batches"):
        make_run(tmp_path, replace(SETTINGS, seed=4)).resume()


def test_other_settings_hold_from_the_resume_on_and_are_told(tmp_path, caplog):
    train(make_run(tmp_path))
    changed = replace(SETTINGS, steps=10, learning_rate=1e-3, precision="bf16", betas=(0.8, 0.9), ema_decay=0.5)
    run = make_run(tmp_path, changed)
    assert run.resume()
    (message,) = (each for each in caplog.messages if "goes on with other settings" in each)
    assert "steps 8 -> 10" in message and "learning_rate 0.01 -> 0.001" in message and "precision no -> bf16" in message
    train(run)
    groups = saved(tmp_path)["optimizer"]["param_groups"]
    assert {group["betas"] for group in groups} == {(0.8, 0.9)} and run._ema.decay == 0.5
    assert groups[0]["lr"] == 1e-3 * changed.rate(9)
    again = make_run(tmp_path, changed)
    caplog.clear()
    assert again.resume() and not caplog.messages


class Waits(TorchDispatchMode):
    """Counts how often a number is read from a tensor, for which the host waits where a device works."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += "_local_scalar_dense" in str(function)
        return function(*args, **(kwargs or {}))


def test_the_host_waits_as_often_for_many_losses_of_many_batches_as_for_one(tmp_path):
    counts = []
    for watched, batches in ((0, 1), (6, 4)):
        run = make_run(tmp_path / str(watched), replace(SETTINGS, steps=1, gradient_accumulation_steps=batches))
        usual = objective_of(run)

        def step(number, generator, usual=usual, watched=watched):
            loss = usual(number, generator)["loss"]
            return {"loss": loss, **{f"part_{part}": loss * part for part in range(watched)}}

        with Waits() as waits:
            run.train(step)
        counts.append(waits.count)
        (row,) = read_rows(tmp_path / str(watched) / "losses.jsonl")
        assert all(row[f"part_{part}"] == pytest.approx(part * row["loss"]) for part in range(watched))
    assert counts[0] == counts[1]


def test_settings_of_older_versions_are_compared_under_their_new_names(tmp_path, caplog):
    train(make_run(tmp_path), until=1)
    path, old = tmp_path / "settings.json", {new: name for name, new in OLD_NAMES.items()}
    written = {old.get(name, name): value for name, value in json.loads(path.read_text()).items()}
    assert set(OLD_NAMES) <= set(written)
    path.write_text(json.dumps(written))
    assert make_run(tmp_path).resume() and not caplog.messages
    assert make_run(tmp_path, replace(SETTINGS, max_grad_norm=0.5)).resume()
    (message,) = caplog.messages
    assert message.endswith("other settings: max_grad_norm 1.0 -> 0.5")


def test_settings_that_cannot_be_read_are_told_and_stop_nothing(tmp_path, caplog):
    train(make_run(tmp_path), until=1)
    (tmp_path / "settings.json").write_text("{")
    assert make_run(tmp_path).resume()
    assert "cannot be compared" in caplog.text and caplog.records[0].levelno == logging.WARNING


class Deep(nn.Module):
    """Two layers, of which the first can be worked out twice."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.layers, self.saving, self.calls, self.in_features = (
            nn.ModuleList(nn.Linear(4, 4) for _ in "ab"),
            False,
            0,
            4,
        )
        for parameter in self.parameters():
            nn.init.normal_(parameter, generator=generator)

    def enable_gradient_checkpointing(self):
        self.saving = True

    def first(self, x):
        self.calls += 1
        return torch.tanh(self.layers[0](x))

    def forward(self, x):
        x = checkpoint(self.first, x, use_reentrant=False) if self.saving else self.first(x)
        return self.layers[1](x)[:, :2]


def test_gradient_checkpointing_works_twice_and_learns_the_same(tmp_path):
    runs = [
        TrainingRun({"network": Deep()}, replace(SETTINGS, **options), tmp_path / name)
        for name, options in (("plain", {}), ("saving", {"gradient_checkpointing": True}))
    ]
    plain, saving = (train(run) for run in runs)
    assert_same(saving, plain)
    assert saving.modules["network"].calls == 2 * plain.modules["network"].calls


def test_gradient_checkpointing_that_nothing_has_is_refused(tmp_path):
    with pytest.raises(ValueError, match="none of these modules has gradient checkpointing"):
        make_run(tmp_path, replace(SETTINGS, gradient_checkpointing=True))


def test_the_average_is_the_mean_of_the_weights_it_saw(tmp_path):
    """With a decay d the average after a step is d * before + (1 - d) * weights; it never leaves their range."""
    run = make_run(tmp_path)
    seen = []
    train(run, on_step=lambda step, losses: seen.append(run.modules["network"].weight.detach().clone()))
    average = run.averaged()["network"]["weight"]
    history = torch.stack(seen)
    assert (average >= history.min(0).values - 1e-6).all() and (average <= history.max(0).values + 1e-6).all()
    assert torch.equal(run.modules["network"].weight, seen[-1])


def test_the_rate_climbs_then_falls_to_its_final_share():
    settings = TrainSettings(steps=100, warmup_steps=10, final_rate=0.1)
    rates = [settings.rate(step) for step in range(101)]
    assert rates[9] == rates[10] == 1
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[100] == pytest.approx(0.1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"learning_rate": 3.0},
        {"ema_decay": 1.0},
        {"keep": 0},
        {"gradient_accumulation_steps": 0},
        {"precision": "fp16"},
    ],
)
def test_settings_that_cannot_train_are_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        TrainSettings(**{"steps": 5, **wrong})
