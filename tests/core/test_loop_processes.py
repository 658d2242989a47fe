"""Two processes learn what one does with twice the batches."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from loop_toys import saved
from loop_worker import twins
from pyramid_video.training.run.loss_log import read_rows
from pyramid_video.training.run.processes import start_accelerator

WORKER = Path(__file__).with_name("loop_worker.py")
LAUNCH = "-m torch.distributed.run --standalone --nproc_per_node 2"  # `accelerate launch --cpu` would need MPI


def launch(what: str, folder: Path) -> None:
    """Run two processes of the worker to their end."""
    words = [*LAUNCH.split(), str(WORKER), what, str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What two processes learned that were stopped once."""
    folder = tmp_path_factory.mktemp("runs") / "two"
    launch("twins", folder)
    return folder


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """What one process learned that took two batches a step."""
    folder = tmp_path_factory.mktemp("runs") / "one"
    twins(folder, accumulate=2)
    return folder


def assert_learned_the_same(folder, other):
    found, wanted = saved(folder), saved(other)
    assert all(found[name] == wanted[name] for name in ("step", "batches", "skipped"))
    torch.testing.assert_close(found["network"], wanted["network"])
    torch.testing.assert_close(found["optimizer"]["state"], wanted["optimizer"]["state"])
    torch.testing.assert_close(*(read_rows(each / "losses.jsonl") for each in (folder, other)))


def test_two_processes_equal_one_that_accumulates_two_batches(two, one):
    """Also over a resume, steps that are skipped, and modules that a batch or all batches leave out."""
    assert json.loads((two / "settings.json").read_text())["processes"] == 2
    assert_learned_the_same(two, one)
    seen = [set(row) for row in read_rows(one / "losses.jsonl")]
    assert {"step", "skipped"} in seen and {"step", "loss"} in seen and {"step", "loss", "other"} in seen


def test_a_run_of_two_processes_goes_on_in_one(two, one, tmp_path, caplog):
    """From the state in the middle, in the same batches; where they are fewer, it is said how to have as many."""
    for name in ("same", "fewer"):
        shutil.copytree(two, tmp_path / name)
        (tmp_path / name / "state.pt").unlink()
    twins(tmp_path / "same", accumulate=2)
    assert_learned_the_same(tmp_path / "same", one)
    assert "processes 2 -> 1" in caplog.text and "instead of" not in caplog.text
    twins(tmp_path / "fewer", accumulate=1)
    assert saved(tmp_path / "fewer")["batches"] == 2 * 5 + 7
    assert "takes 1 batches instead of 2; accumulate 2 keeps it as it was" in caplog.text


def test_processes_stop_at_the_same_step_and_keep_it(tmp_path):
    """Though only one of them was asked to: those that waited for it would end with an error, or never."""
    launch("stopped", tmp_path)
    for name in ("whole", "shared"):
        (first, kept), (other, _) = (json.loads((tmp_path / f"{name}-{rank}.json").read_text()) for rank in (0, 1))
        assert first == other == saved(tmp_path / name)["step"] == 4
        assert kept.endswith(f"{name} keeps the run after 4 steps; the same command goes on from there")
    first, other = (json.loads((tmp_path / f"timed-{rank}.json").read_text()) for rank in (0, 1))
    assert first == other and first[0] > 1  # the rate follows one clock, so the weights stay the same


@pytest.mark.parametrize(
    ("kind", "plugin", "words"),
    [
        ("FSDP", {"fsdp_version": 1}, "version 1 of FSDP.*fsdp_version: 2"),
        ("FSDP", {}, "version 1 of FSDP.*accelerate 1.6 or newer"),
        ("DEEPSPEED", {}, "DEEPSPEED.*MULTI_GPU.*FSDP version 2"),
    ],
)
def test_launches_that_cannot_be_followed_are_refused(monkeypatch, kind, plugin, words):
    from accelerate.utils import DistributedType

    state = SimpleNamespace(fsdp_plugin=SimpleNamespace(**plugin))
    launched = SimpleNamespace(distributed_type=DistributedType[kind], state=state)
    monkeypatch.setattr("accelerate.Accelerator", lambda **_: launched)
    with pytest.raises(ValueError, match=words):
        start_accelerator()
