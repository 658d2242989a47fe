"""A run that is killed at any moment goes on as if nothing had been."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from loop_toys import saved
from pyramid_video.training.run.loss_log import read_rows

WORKER = Path(__file__).with_name("loop_worker.py")
STEPS = 6

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")


@pytest.fixture(scope="module")
def live():
    """Train in a process of its own, killed at a moment; gives its exit code."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
    with subprocess.Popen([sys.executable, "-W", "ignore", str(WORKER), "lives"], **pipes) as worker:

        def one(folder: Path, kill_at: int | None = None) -> int:
            print(json.dumps({"folder": str(folder), "kill_at": kill_at}), file=worker.stdin, flush=True)
            return int(worker.stdout.readline())

        yield one
        worker.kill()


@pytest.fixture(scope="module")
def straight(live, tmp_path_factory):
    """A run that nobody disturbed, with the moments it had."""
    folder = tmp_path_factory.mktemp("straight")
    assert live(folder) == 0
    return folder


def moments(straight: Path, draw: random.Random, where: str) -> list[int]:
    """Where to kill: anywhere twice, or in the middle of two saves."""
    known = json.loads((straight / "moments.json").read_text())
    if where == "anywhere":
        return [draw.randint(1, known["all"]) for _ in range(2)]
    return [draw.randint(*span) for span in draw.sample(known["saving"], 2)]


@pytest.mark.parametrize("where", ["anywhere", "saving"])
@pytest.mark.parametrize("seed", range(8))
def test_a_run_killed_at_any_moment_ends_as_if_it_had_not_been(live, straight, tmp_path, where, seed):
    first, second = moments(straight, random.Random(seed), where)
    assert live(tmp_path, first) == -signal.SIGKILL
    assert live(tmp_path, second) in (-signal.SIGKILL, 0)  # it may have had less left to do
    assert live(tmp_path) == 0
    torch.testing.assert_close(saved(tmp_path), saved(straight), rtol=0, atol=0)
    assert (tmp_path / "losses.jsonl").read_bytes() == (straight / "losses.jsonl").read_bytes()
    assert [row["step"] for row in read_rows(tmp_path / "losses.jsonl")] == list(range(STEPS))
    names = {path.name for path in tmp_path.iterdir()} - {"moments.json"}
    assert names == {"state.pt", f"state-{STEPS - 1}.pt", "settings.json", "losses.jsonl"}
