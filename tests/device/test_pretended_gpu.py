"""A clip on a device that is not the CPU: nothing mixed, nothing waited for or copied where a GPU would stand still."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from allowed import FIRST_STEP, OUTSIDE_STEPS, strangers

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def found():
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE / "run_pretended.py")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_a_clip_is_the_same_on_any_device(found):
    """Latents, pictures and encoded pictures; a mixed device or a wrong generator would have raised."""
    latents, pictures, encoded = found["differences"]
    assert latents < 1e-3 and pictures < 1e-3 and encoded < 1e-4


def test_nothing_is_copied_or_waited_for_inside_a_stage(found):
    assert found["notes"]["other steps"] == {}
    assert strangers(found["notes"]["first step"], FIRST_STEP) == []
    assert not any(note.startswith(("wait", "to host")) for note in found["notes"]["first step"])


def test_every_wait_and_copy_has_its_reason(found):
    assert strangers(found["notes"]["outside"], OUTSIDE_STEPS) == []


def test_no_float64_on_the_device(found):
    assert found["float64"] == []
