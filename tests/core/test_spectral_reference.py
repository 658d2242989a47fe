"""Starts, jumps, levels and whole runs of the spectral pyramid, driven by the JSON of a folder alone.

The folder is `tests/reference/spectral`, or the one named by PYRAMID_VIDEO_SPECTRAL_REFERENCE. Whole runs go by Euler
over a Gaussian field, whose exact velocity is known.
"""

from __future__ import annotations

import json
import os
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from pyramid_video.samplers.solvers import euler_step
from pyramid_video.samplers.spectral import (
    FLOW,
    Segment,
    dct,
    dct_matrix,
    jump_up,
    plan_segments,
    play,
    ratio_of,
    resample,
    stage_sizes,
)
from pyramid_video.samplers.spectrum import Spectrum, jump_levels
from safetensors.torch import load_file
from torch import Tensor

FOLDER = Path(
    os.environ.get("PYRAMID_VIDEO_SPECTRAL_REFERENCE") or Path(__file__).parents[1] / "reference" / "spectral"
)


def read_cases() -> list[tuple[str, dict, dict[str, Tensor]]]:
    """Every JSON of the folder with its tensors."""
    paths = sorted(FOLDER.glob("*.json"))
    return [(p.stem, json.loads(p.read_text("utf-8")), load_file(p.with_suffix(".safetensors"))) for p in paths]


CASES = read_cases()


def entries(kind: str) -> list:
    """Every entry of one kind of all files, as parameters of a test."""
    return [
        pytest.param(facts, tensors, entry, id=f"{name}-{index}")
        for name, facts, tensors in CASES
        for index, entry in enumerate(facts.get(kind, []))
    ]


def same(made: Tensor, wanted: Tensor, facts: dict) -> None:
    torch.testing.assert_close(made, wanted.to(made.dtype), rtol=0, atol=facts["tolerance"])


def power_of(facts: dict, size: tuple[int, int]) -> Tensor:
    """Variance of the coefficients of the Gaussian field at a size: those of the full one, times the share of cells."""
    rows, columns = facts["full_size"]
    down, across = (
        torch.arange(n, dtype=torch.float64) / (2 * full) for n, full in zip(size, (rows, columns), strict=True)
    )
    w = min(rows, columns) * (down[:, None].square() + across.square()).sqrt()
    return facts["A"] * w.clamp_min(0.5) ** -facts["beta"] * size[0] * size[1] / (rows * columns)


def exact_velocity(x: Tensor, t: float, power: Tensor) -> Tensor:
    """`(t - (1 - t) p) / ((1 - t)^2 p + t^2) x` of every coefficient."""
    coefficients = dct(x) * ((t - (1 - t) * power) / ((1 - t) ** 2 * power + t**2)).to(x)
    rows, columns = (dct_matrix(n).to(x) for n in x.shape[-2:])
    return rows.T @ coefficients @ columns


def test_there_are_cases():
    assert all(entries(kind) for kind in ("starts", "jumps", "levels", "runs"))


@pytest.mark.parametrize(("facts", "tensors", "case"), entries("starts"))
def test_starts(facts, tensors, case):
    rows, columns = facts["full_size"]
    size, _ = stage_sizes(rows, columns, (case["scale"], 1.0), facts["patch"])
    assert list(size) == case["size"]
    same(resample(tensors[case["noise"]], size), tensors[case["result"]], facts)


@pytest.mark.parametrize(("facts", "tensors", "case"), entries("jumps"))
def test_jumps(facts, tensors, case):
    state, size = tensors[case["state"]], tuple(case["to_size"])
    after = FLOW.level_after(case["sigma"], ratio_of(tuple(state.shape[-2:]), size))
    assert after == pytest.approx(case["sigma_after"], abs=1e-12)
    same(jump_up(state, tensors[case["noise"]], case["sigma"], size), tensors[case["result"]], facts)


@pytest.mark.parametrize(("facts", "tensors", "case"), entries("levels"))
def test_levels(facts, tensors, case):
    spectrum = Spectrum("the case's", facts["A"], facts["beta"])
    levels = jump_levels(spectrum, case["scales"], *facts["full_size"], case["delta"])
    assert levels == pytest.approx(case["jump_levels"], abs=1e-12)


@pytest.mark.parametrize(("facts", "tensors", "case"), entries("runs"))
def test_runs(facts, tensors, case):
    sizes = stage_sizes(*facts["full_size"], case["scales"], facts["patch"])
    segments = plan_segments(sizes, case["sigmas"], case["jump_levels"], FLOW)
    noise = tensors[case["noise"]]

    def walk(x: Tensor, segment: Segment) -> Tensor:
        power = power_of(facts, segment.size)
        for sigma, after in pairwise(segment.sigmas):
            x = euler_step(x, exact_velocity(x, sigma, power), sigma, after)
        return x

    def jump(x: Tensor, segment: Segment) -> Tensor:
        return jump_up(x, noise, segment.level_before, segment.size)

    first = segments[0]
    result = play(walk, jump, first.sigmas[0] * resample(noise, first.size), segments)
    # The last of several at one step; one before the first step changes nothing, and is not made.
    landings = {entry["step"]: entry for entry in case["jumps"] if entry["step"] > 0}
    assert [s.first_step for s in segments[1:]] == sorted(landings)
    for segment in segments[1:]:
        landing = landings[segment.first_step]
        assert list(segment.size) == landing["to_size"]
        assert segment.sigmas[0] == pytest.approx(landing["sigma_after"], abs=1e-12)
    same(result, tensors[case["result"]], facts)
