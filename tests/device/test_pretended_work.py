"""Every kind of work on a device that is not the CPU: the same numbers, and no wait or copy that has no reason."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from allowed import EVERYWHERE, FIRST_STEP, OUTSIDE_STEPS, strangers

SCRIPT = Path(__file__).parent / "pretended_work.py"
TRAININGS = [
    f"train {what}" for what in ("pyramid", "flow", "diffusion", "gan", "lora", "some tokens", "vae", "stopped")
]
WORK = ["prompts", "vae", "any model", "sd3", "helios", *TRAININGS]


@pytest.fixture(scope="module")
def report():
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def found(report):
    return report["work"]


def test_the_pretended_device_refuses_and_notes_what_a_card_would(report):
    mixed, generator = report["faults"]["raised"]
    assert "on the device and on the CPU" in mixed and "generator on cpu" in generator
    assert report["faults"]["noted"] == ["float64", "to device", "to host", "wait"]


def test_weights_that_did_not_change_are_not_copied_back(report):
    assert report["stay"] == {"inside": ["simu:0"], "the same": True, "noted": ["to device"]}


def test_all_work_is_named_here(found):
    assert sorted(found) == sorted(WORK)


@pytest.mark.parametrize("work", WORK)
def test_the_numbers_are_those_of_the_cpu(found, work):
    """A mixed device or a generator of another device would have raised, with the line."""
    assert found[work]["failed"] is None, found[work]["failed"]
    assert found[work]["differences"] and max(found[work]["differences"].values()) < 1e-3


@pytest.mark.parametrize("work", WORK)
def test_every_wait_and_copy_has_its_reason(found, work):
    allowed = EVERYWHERE if work in TRAININGS else FIRST_STEP | OUTSIDE_STEPS
    assert strangers(found[work]["notes"], allowed) == []


@pytest.mark.parametrize("work", WORK)
def test_no_float64_on_the_device(found, work):
    assert not [note for note in found[work]["notes"] if note.startswith("float64")]


@pytest.mark.parametrize("work", WORK)
def test_nothing_is_copied_or_waited_for_from_step_to_step(found, work):
    assert found[work]["inside"] == []


@pytest.mark.parametrize("work", TRAININGS)
def test_a_run_that_is_finished_or_stopped_leaves_nothing_on_the_device(found, work):
    """Hosts keep what a block gives on, or the error that ended it, while others want the memory."""
    assert found[work]["differences"]["left on the device"] == 0


@pytest.mark.parametrize("work", TRAININGS)
def test_a_step_of_training_waits_once(found, work):
    """For its losses and the norm of its gradients, which are read together; the trainings here take one step."""
    waits = {where: count for where, count in found[work]["waits"].items() if where.startswith("training/")}
    assert list(waits.values()) == [1], waits
