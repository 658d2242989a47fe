"""The training loop: a stopped run goes on as if it had never stopped."""

from __future__ import annotations

import json

import pytest
import torch
from pyramid_video.training.loop import TrainingRun, TrainSettings
from torch import nn

SETTINGS = TrainSettings(steps=8, learning_rate=1e-2, warmup=2, average=0.9, seed=3)


def make_run(folder, settings=SETTINGS, width=4):
    torch_weights = torch.Generator().manual_seed(0)
    network = nn.Linear(width, 2)
    with torch.no_grad():
        network.weight.copy_(torch.randn(2, width, generator=torch_weights))
        network.bias.zero_()
    return TrainingRun({"network": network}, settings, folder)


def objective_of(run):
    def objective(step, generator):
        x = torch.randn(16, run.modules["network"].in_features, generator=generator)
        error = run.modules["network"](x) - x[:, :2]
        return {"loss": error.square().mean()}

    return objective


def train(run, until=None, **options):
    return run.train(objective_of(run), until, **options)


def state_of(run):
    return {**run.modules["network"].state_dict(), **{f"average.{k}": v for k, v in run.averaged()["network"].items()}}


def test_a_resumed_run_equals_one_that_never_stopped(tmp_path):
    straight = train(make_run(tmp_path / "straight"))
    train(make_run(tmp_path / "halves"), until=5)
    second = make_run(tmp_path / "halves")
    assert second.resume()
    assert second.step == 5
    train(second)
    for key, value in state_of(straight).items():
        assert torch.equal(state_of(second)[key], value), key
    lines = [json.loads(line) for line in (tmp_path / "halves" / "losses.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(8))


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
    step_average = run._average.step

    def interrupted(parameters):
        raise KeyboardInterrupt

    monkeypatch.setattr(run._average, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(run)
    monkeypatch.setattr(run._average, "step", step_average)
    again = make_run(tmp_path)
    assert again.resume() and again.step == 2
    straight = train(make_run(tmp_path / "straight"))
    train(again)
    assert torch.equal(again.modules["network"].weight, straight.modules["network"].weight)


def test_nothing_to_resume_is_no_error(tmp_path):
    assert not make_run(tmp_path).resume()


def test_a_run_of_another_model_is_refused(tmp_path):
    train(make_run(tmp_path), until=1)
    with pytest.raises(ValueError, match="another model"):
        make_run(tmp_path, width=5).resume()


def test_a_loss_that_is_not_finite_stops_and_keeps_the_state_before(tmp_path):
    run = make_run(tmp_path)
    good = objective_of(run)

    def objective(step, generator):
        losses = good(step, generator)
        return losses if step < 4 else {"loss": losses["loss"] * float("nan")}

    with pytest.raises(ValueError, match="step 4 is nan"):
        run.train(objective)
    again = make_run(tmp_path)
    assert again.resume() and again.step == 4
    straight = train(make_run(tmp_path / "straight"))
    train(again)
    assert torch.equal(again.modules["network"].weight, straight.modules["network"].weight)


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
    settings = TrainSettings(steps=100, warmup=10, final_rate=0.1)
    rates = [settings.rate(step) for step in range(101)]
    assert rates[9] == rates[10] == 1
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[100] == pytest.approx(0.1)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"steps": 5, "learning_rate": 3.0}, {"steps": 5, "average": 1.0}])
def test_settings_that_cannot_train_are_refused(wrong):
    with pytest.raises(ValueError, match="expected|at least"):
        TrainSettings(**wrong)
