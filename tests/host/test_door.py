"""The checks of `door.py`, run together inside a real ComfyUI and reported one by one."""

from __future__ import annotations

import json

import pytest
from door import CHECKS


@pytest.fixture(scope="module")
def results(run_inside):
    return json.loads(run_inside("door.py").splitlines()[-1])


@pytest.mark.parametrize("check", CHECKS)
def test_door(results, check):
    assert results[check] is None, results[check]
