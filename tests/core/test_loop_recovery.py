"""Broken disks, full disks, torn lines: what of a run is left, and how it goes on."""

from __future__ import annotations

import errno
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from loop_toys import SETTINGS, assert_same, make_run, saved, train
from pyramid_video.training.run import loss_log, run_state
from pyramid_video.training.run.loop import TrainingRun
from pyramid_video.training.run.loss_log import LossLog, read_rows
from pyramid_video.training.run.muon import inner_matrices
from pyramid_video.training.run.run_state import run_exists, saved_states
from pyramid_video.training.run.train_settings import ModuleRate
from torch import nn

THREE = replace(SETTINGS, keep=3)


@pytest.fixture
def straight(tmp_path):
    return train(make_run(tmp_path / "straight"))


@pytest.fixture
def folder(tmp_path):
    """A run after six steps, with the states after 2, 4 and 6."""
    run = make_run(tmp_path / "run", THREE)
    for until in (2, 4, 6):
        train(run, until)
    return tmp_path / "run"


def truncate(path: Path, share: float) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def flip(path: Path) -> None:
    """Change one byte of a weight."""
    data = bytearray(path.read_bytes())
    weight = saved(path.parent, path.name)["network"]["network.weight"].numpy().tobytes()
    data[data.index(weight) + 5] ^= 1
    path.write_bytes(data)


def steps_of(folder: Path) -> list[int]:
    return [row["step"] for row in read_rows(folder / "losses.jsonl")]


@pytest.mark.parametrize("keep", [1, 2, 3, 20])
def test_the_last_states_are_kept(tmp_path, keep):
    train(make_run(tmp_path, replace(SETTINGS, save_seconds=0.0, keep=keep)))
    earlier = [f"state-{step}.pt" for step in range(7, max(0, 8 - keep), -1)]
    assert [path.name for path in saved_states(tmp_path)] == ["state.pt", *earlier]
    assert [saved(tmp_path, path.name)["step"] for path in saved_states(tmp_path)] == list(
        range(8, max(0, 8 - keep), -1)
    )


DAMAGES = {
    "empty": lambda path: truncate(path, 0),
    "half": lambda path: truncate(path, 0.5),
    "without its end": lambda path: truncate(path, 0.99),
    "a byte flipped": flip,
    "something else": lambda path: torch.save([1, 2], path),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_after_a_broken_state_the_run_goes_on_from_the_one_before(folder, straight, caplog, damage):
    damage(folder / "state.pt")
    run = make_run(folder, THREE)
    assert run.resume() and run.step == 4
    (message,) = caplog.messages
    assert str(folder) in message and "state.pt (" in message and "goes on from state-4.pt, after step 4" in message
    assert steps_of(folder) == list(range(4))
    assert_same(train(run), straight)
    assert steps_of(folder) == list(range(8))
    assert [path.name for path in saved_states(folder)] == ["state.pt", "state-4.pt", "state-2.pt"]


def test_two_broken_states_are_passed_over_and_then_dropped(folder, straight):
    truncate(folder / "state.pt", 0.3)
    truncate(folder / "state-4.pt", 0.3)
    run = make_run(folder, THREE)
    assert run.resume() and run.step == 2
    train(run, until=3)
    assert [path.name for path in saved_states(folder)] == ["state.pt", "state-2.pt"]
    assert_same(train(run), straight)


def test_a_folder_of_broken_states_teaches(folder):
    for path in saved_states(folder):
        truncate(path, 0.3)
    with pytest.raises(ValueError, match=r"no state of the run .* state\.pt \(.*state-4\.pt \(.*Put back a copy"):
        make_run(folder, THREE).resume()
    assert run_exists(folder)


def test_without_its_newest_state_a_run_goes_back_in_silence(folder, straight, caplog):
    """Somebody wants to go back, or a kill fell between the two renamings of a save."""
    (folder / "state.pt").unlink()
    run = make_run(folder, THREE)
    assert run_exists(folder) and run.resume() and run.step == 4 and not caplog.messages
    assert_same(train(run), straight)


class FullDisk(io.FileIO):
    """A file on a disk with room for a few bytes more."""

    room = 0

    def write(self, data):
        if len(data) > self.room:
            super().write(bytes(data)[: self.room])
            raise OSError(errno.ENOSPC, "No space left on device")
        self.room -= len(data)
        return super().write(data)


@pytest.mark.parametrize("room", [0, 100, 1500])
@pytest.mark.parametrize("module", [run_state, loss_log])
def test_a_full_disk_leaves_the_last_state_and_teaches(folder, straight, monkeypatch, module, room):
    run = make_run(folder, THREE)
    run.resume()

    def open_full(path, mode):
        file = FullDisk(path, mode)
        file.room = room if module is run_state else min(room, 20)
        return file

    before = {path.name: path.read_bytes() for path in saved_states(folder)}
    monkeypatch.setattr(module, "open", open_full, raising=False)
    with pytest.raises(
        OSError, match=r"after 8 steps could not be saved in .*run: No space left .* needs about 0\.\d MB"
    ):
        train(run)
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in saved_states(folder)} == before
    assert not list(folder.glob(".*"))
    again = make_run(folder, THREE)
    assert again.resume() and again.step == 6
    assert_same(train(again), straight)
    assert steps_of(folder) == list(range(8))


def test_a_run_that_got_room_again_writes_every_step_once(folder, straight, monkeypatch):
    """In a long-lived process the same run may be told to go on."""
    run = make_run(folder, replace(THREE, save_seconds=0.0))
    run.resume()
    monkeypatch.setattr(loss_log, "open", FullDisk, raising=False)
    with pytest.raises(OSError, match="after 7 steps"):
        train(run)
    monkeypatch.undo()
    assert_same(train(run), straight)
    assert steps_of(folder) == list(range(8))


def test_a_device_that_fails_is_the_error_and_not_that_its_tensors_cannot_be_saved(
    folder, straight, monkeypatch, caplog
):
    def fail(*_):
        raise RuntimeError("CUDA error: unspecified launch failure")

    run = make_run(folder, THREE)
    run.resume()
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", fail)
        with pytest.raises(RuntimeError, match="^CUDA error") as stopped:
            train(run, on_step=fail)
    assert not isinstance(stopped.value, OSError) and "after 7 steps could not be saved" in caplog.text
    again = make_run(folder, THREE)
    assert again.resume() and again.step == 6
    assert_same(train(again), straight)


@pytest.mark.parametrize("stop", [RuntimeError("a bug"), ValueError("a bug"), KeyboardInterrupt()])
def test_a_disk_that_is_full_when_a_run_ends_by_an_error_is_told(folder, monkeypatch, stop):
    def stopping(*_):
        raise stop

    run = make_run(folder, THREE)
    run.resume()
    monkeypatch.setattr(run_state, "open", FullDisk, raising=False)
    with pytest.raises(OSError, match="after 7 steps could not be saved"):
        train(run, on_step=stopping)


def test_an_old_state_that_is_in_use_stays_until_a_later_save(folder, straight, monkeypatch):
    """Windows removes no file that somebody reads."""

    def refuse(path, missing_ok=False):
        if path.name == "state-2.pt":
            raise PermissionError(13, "The process cannot access the file")
        really(path, missing_ok)

    really = Path.unlink
    run = make_run(folder, THREE)
    run.resume()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        train(run, until=7)
    assert [path.name for path in saved_states(folder)] == ["state.pt", "state-6.pt", "state-4.pt", "state-2.pt"]
    assert_same(train(run), straight)
    assert [path.name for path in saved_states(folder)] == ["state.pt", "state-7.pt", "state-6.pt"]


def test_lines_that_were_torn_or_lost_are_written_anew(folder, straight):
    log = folder / "losses.jsonl"
    whole = log.read_bytes()
    log.write_bytes(whole + b'{"step": 6, "loss": 0.5}\n{"step": 7, "lo')
    run = make_run(folder, THREE)
    assert run.resume() and log.read_bytes() == whole
    assert_same(train(run), straight)
    assert log.read_bytes() == (straight.folder / "losses.jsonl").read_bytes()


def test_a_log_keeps_the_last_of_what_it_has_twice(tmp_path):
    """As runs of older versions left it."""
    text = "".join(f'{{"step": {step}, "loss": {value}}}\n' for step, value in ((0, 9.0), (1, 8.0), (1, 7.0), (2, 6.0)))
    (tmp_path / "losses.jsonl").write_text(text)
    log = LossLog(tmp_path)
    log.rewind(2)
    log.add(2, {"loss": 5.0})
    log.write()
    assert [(row["step"], row["loss"]) for row in read_rows(log.path)] == [(0, 9.0), (1, 7.0), (2, 5.0)]


def test_a_new_log_replaces_what_is_left_of_a_run_without_states(tmp_path):
    (tmp_path / "losses.jsonl").write_text('{"step": 0, "loss": 1.0}\n' * 50)
    run = make_run(tmp_path)
    assert not run.resume()
    train(run)
    assert steps_of(tmp_path) == list(range(8))


def run_of_two(folder, optimizer):
    modules = {name: nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2)) for name in ("one", "two")}
    for number, parameter in enumerate(nn.ModuleDict(modules).parameters()):
        nn.init.normal_(parameter, generator=torch.Generator().manual_seed(number))
    return TrainingRun(modules, replace(SETTINGS, optimizer=optimizer), folder)


def train_two(run, until=None):
    def step(_, generator):
        x = torch.randn(16, 4, generator=generator)
        return {"loss": sum((module(x) - x[:, :2]).square().mean() for module in run.modules.values())}

    return run.train(step, until=until)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_states_of_versions_with_other_groups_go_on(tmp_path, optimizer):
    """Their groups held the parameters of all modules: those for Muon, other matrices, and the rest."""
    straight = train_two(run_of_two(tmp_path / "straight", optimizer))
    train_two(run_of_two(tmp_path / "run", optimizer), until=5)
    parameters = [parameter for module in straight.modules.values() for parameter in module.parameters()]
    inner = {id(weight) for weight in inner_matrices(straight._network)} if optimizer == "muon" else set()
    kinds = [0 if id(weight) in inner else 1 if weight.ndim == 2 else 2 for weight in parameters]
    groups = [[weight for weight, own in zip(parameters, kinds, strict=True) if own == kind] for kind in range(3)]
    numbers = iter(range(len(parameters)))
    old = [{"lr": 1.0, "params": [next(numbers) for _ in group]} for group in groups]
    state = saved(tmp_path / "run")
    for number, weight in enumerate(sum(groups, [])):
        assert all(value.shape in ((), weight.shape) for value in state["optimizer"]["state"][number].values())
    state["optimizer"]["param_groups"] = old
    torch.save(state, tmp_path / "run" / "state.pt")
    run = run_of_two(tmp_path / "run", optimizer)
    assert run.resume()
    torch.testing.assert_close(train_two(run).averaged(), straight.averaged(), rtol=0, atol=0)


@pytest.mark.parametrize("optimizers", [("adamw", "muon"), ("muon", "adamw")])
def test_a_state_of_another_optimizer_is_refused(tmp_path, optimizers):
    first, second = optimizers
    train_two(run_of_two(tmp_path, first), until=2)
    with pytest.raises(ValueError, match="trained other tensors of this model"):
        run_of_two(tmp_path, second).resume()


def test_rates_of_modules_that_are_not_there_are_refused(tmp_path):
    with pytest.raises(ValueError, match="module_rates has 'discriminator'; the modules of this run are network"):
        make_run(tmp_path, replace(SETTINGS, module_rates={"discriminator": ModuleRate(times=4.0)}))
    with pytest.raises(ValueError, match="times is 0"):
        ModuleRate(times=0)


def test_settings_of_versions_without_rates_of_modules_are_compared(tmp_path, caplog):
    train(make_run(tmp_path), until=2)
    settings = tmp_path / "settings.json"
    values = json.loads(settings.read_text())
    del values["module_rates"]
    settings.write_text(json.dumps(values))
    assert make_run(tmp_path).resume() and not caplog.messages
    assert make_run(tmp_path, replace(SETTINGS, module_rates={"network": ModuleRate(times=2.0)})).resume()
    assert "module_rates {} -> {'network': {'times': 2.0, 'waits': 0}}" in caplog.text
