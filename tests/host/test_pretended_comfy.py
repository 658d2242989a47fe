"""ComfyUI on a device that is not the CPU: the same numbers, and no wait or copy that has no reason."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "device"))

from allowed import COMFYUI, EVERYWHERE, FIRST_STEP, OUTSIDE_STEPS, strangers  # noqa: E402

SMALL_CARD = "train lora (any model), small card"  # layers wherever they are called fetch their weights
CALLS_THE_HOST = ["train lora (any model)", SMALL_CARD]  # for each clip of each step, which is copied
TRAININGS = [
    f"train {what}" for what in ("pyramid", "flow", "diffusion", "gan", "lora", "some tokens", "vae", "stopped")
]
TRAININGS += CALLS_THE_HOST
WORK = ["prompts", "vae", "any model", "sd3", "helios", "core's sampler", "core's KSampler", *TRAININGS]


@pytest.fixture(scope="module")
def found(run_inside):
    return json.loads(run_inside("pretended_comfy.py").splitlines()[-1])


def test_all_work_is_named_here(found):
    assert sorted(found) == sorted(WORK)


@pytest.mark.parametrize("work", WORK)
def test_the_numbers_are_those_of_the_cpu(found, work):
    """A mixed device or a generator of another device would have raised, with the line."""
    assert found[work]["failed"] is None, found[work]["failed"]
    assert found[work]["differences"] and max(found[work]["differences"].values()) < 1e-3


@pytest.mark.parametrize("work", WORK)
def test_every_wait_and_copy_has_its_reason(found, work):
    allowed = (EVERYWHERE if work in TRAININGS else FIRST_STEP | OUTSIDE_STEPS) | COMFYUI
    fetched = "to device models/" if work == SMALL_CARD else "nothing"
    assert [note for note in strangers(found[work]["notes"], allowed) if not note.startswith(fetched)] == []


@pytest.mark.parametrize("work", WORK)
def test_no_float64_on_the_device(found, work):
    assert not [note for note in found[work]["notes"] if note.startswith("float64")]


@pytest.mark.parametrize("work", [work for work in WORK if work not in CALLS_THE_HOST])
def test_nothing_is_copied_or_waited_for_from_step_to_step(found, work):
    assert found[work]["inside"] == []


@pytest.mark.parametrize("work", CALLS_THE_HOST)
def test_a_step_of_a_training_by_the_host_waits_for_nothing(found, work):
    assert not [note for note in found[work]["inside"] if not note.startswith("to device ")]
