"""Two processes learn what one does with twice the batches."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from loop_toys import saved
from loop_worker import twins
from pyramid_video.training.loss_log import read_rows

WORKER = Path(__file__).with_name("loop_worker.py")
LAUNCH = "-m torch.distributed.run --standalone --nproc_per_node 2"  # `accelerate launch --cpu` would need MPI


def test_two_processes_equal_one_that_accumulates_two_batches(tmp_path):
    """Also over a resume, steps that are skipped, and modules that a batch or all batches leave out."""
    launch = [*LAUNCH.split(), str(WORKER), "twins", str(tmp_path / "two")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    told = subprocess.run([sys.executable, *launch], env=environment, capture_output=True, text=True, timeout=300)
    assert told.returncode == 0, told.stderr
    twins(tmp_path / "one", accumulate=2)
    assert json.loads((tmp_path / "two" / "settings.json").read_text())["processes"] == 2
    two, one = saved(tmp_path / "two"), saved(tmp_path / "one")
    assert two["step"] == one["step"] and two["skipped"] == one["skipped"]
    torch.testing.assert_close(two["network"], one["network"])
    torch.testing.assert_close(two["optimizer"]["state"], one["optimizer"]["state"])
    curves = [read_rows(tmp_path / name / "losses.jsonl") for name in ("two", "one")]
    torch.testing.assert_close(*curves)
    seen = [set(row) for row in curves[1]]
    assert {"step", "skipped"} in seen and {"step", "loss"} in seen and {"step", "loss", "other"} in seen
