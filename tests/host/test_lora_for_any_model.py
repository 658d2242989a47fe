"""The checks of `model_lora.py`, run together inside a real ComfyUI and reported one by one."""

from __future__ import annotations

import json

import pytest
from model_lora import CHECKS, name_of

NAMES = [name_of(check, kind) for check, kind in CHECKS]


@pytest.fixture(scope="module")
def results(run_inside):
    return json.loads(run_inside("model_lora.py").splitlines()[-1])


@pytest.mark.parametrize("name", NAMES)
def test_a_lora_for_any_model(results, name):
    if results[name] == "not in this host":
        pytest.skip("this ComfyUI does not have the model")
    assert results[name] is None, results[name]
