"""The ladder: windows that join, steps that end at 0, jumps that leave white noise, and refusals that help."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from pyramid_video.samplers.stages import PyramidStages, make_stages

SHIFTS = (0.5, 1.0, 3.0)
GAMMAS = (0.0, 0.01, 0.2, 1 / 3)


@pytest.mark.parametrize("count", (1, 2, 3, 5))
@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("gamma", GAMMAS)
def test_ladder_climbs_from_all_noise_to_none(count, shift, gamma):
    stages = make_stages(count, shift, gamma)
    assert stages.stages[0].sigma_start == 1.0 and stages.stages[-1].sigma_end == 0.0
    assert [stage.downscale for stage in stages.stages] == [2**n for n in reversed(range(count))]
    assert stages.stages[0].timestep_start == 1000.0
    for below, above in pairwise(stages.stages):
        assert above.sigma_start >= below.sigma_end  # a jump adds noise
        assert above.timestep_start == below.timestep_end
    for stage in stages.stages:
        assert stage.timestep_start > stage.timestep_end


@pytest.mark.parametrize("count", (2, 3, 4))
@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("gamma", GAMMAS)
def test_noise_is_white_after_the_jump(count, shift, gamma):
    """A doubled pixel fills its block (covariance q^2 J); with block noise the sum is start^2 I."""
    stages = make_stages(count, shift, gamma)
    ones, eye = torch.ones(4, 4, dtype=torch.float64), torch.eye(4, dtype=torch.float64)
    for index in range(1, count):
        q, start = stages.stages[index - 1].sigma_end, stages.stages[index].sigma_start
        alpha, beta = stages.jump(index)
        covariance = (alpha * q) ** 2 * ones + beta**2 * ((1 + gamma) * eye - gamma * ones)
        torch.testing.assert_close(covariance, start**2 * eye, rtol=0, atol=1e-12)
        assert alpha * (1 - q) == pytest.approx(1 - start, abs=1e-12)


def test_jump_at_one_third_is_the_formula_of_the_paper():
    stages = make_stages()
    q = stages.stages[0].sigma_end
    assert stages.jump(1) == pytest.approx((1 / (1 + q), math.sqrt(3) * q / (1 + q)))
    assert stages.stages[1].sigma_start == pytest.approx(2 * q / (1 + q))


def test_gamma_zero_forgets_the_picture():
    assert make_stages(gamma=0.0).jump(1) == (0.0, 1.0)


@pytest.mark.parametrize("steps", (1, 2, 7, 1000))
def test_steps_start_at_one_and_end_at_zero(steps):
    stages = make_stages()
    sigmas, timesteps = stages.sigmas(1, steps), stages.timesteps(1, steps)
    assert len(sigmas) == steps + 1 and len(timesteps) == steps
    assert sigmas[0] == 1.0 and sigmas[-1] == 0.0
    assert all(high > low for high, low in pairwise(sigmas))
    assert timesteps[0] == stages.stages[1].timestep_start


def test_a_thousand_steps_are_the_training_table():
    stages = make_stages(shift=2.0)
    index = torch.arange(1000)
    for stage in range(3):
        expected = torch.tensor(stages.timesteps(stage, 1000))
        torch.testing.assert_close(stages.training_timestep(stage, index), expected, rtol=0, atol=1e-4)
        sigmas = torch.tensor(stages.sigmas(stage, 1000)[:-1])
        torch.testing.assert_close(stages.training_sigma(stage, index), sigmas, rtol=0, atol=1e-6)


def test_clean_estimate_is_exact_when_a_stage_adds_no_detail():
    """With one flat picture at all sizes the velocity is `noise - data` times the noise travelled."""
    stage = make_stages().stages[1]
    noise, flat = torch.randn(4, 4, dtype=torch.float64), torch.full((4, 4), 0.7, dtype=torch.float64)
    start = stage.sigma_start * noise + (1 - stage.sigma_start) * flat
    end = stage.sigma_end * noise + (1 - stage.sigma_end) * flat
    for sigma in (1.0, 0.4, 0.0):
        x = sigma * start + (1 - sigma) * end
        torch.testing.assert_close(stage.clean_estimate(x, start - end, sigma), flat)


def test_one_number_of_steps_serves_all_stages():
    stages = make_stages(first_steps=4, video_steps=(1, 2, 3))
    assert stages.steps_for(0) == (4, 4, 4)
    assert stages.steps_for(1) == stages.steps_for(9) == (1, 2, 3)


def test_own_ranges_move_the_borders():
    stages = make_stages(2, ranges=(0, 0.25, 1))
    assert stages.stages[0].sigma_end == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(count=0), "at least 1 stage"),
        (dict(gamma=0.4), "0 to 1/3"),
        (dict(gamma=-0.1), "0 to 1/3"),
        (dict(gamma=math.nan), "0 to 1/3"),
        (dict(shift=0.0), "above 0"),
        (dict(shift=math.inf), "above 0"),
        (dict(first_steps=0), "first_steps .* at least 1"),
        (dict(video_steps=(1, 2)), "video_steps .* 3 of them"),
        (dict(video_steps=(1, 2, 2.5)), "whole number"),
        (dict(ranges=(0, 0.6, 0.5, 1)), "rising from 0 to 1"),
        (dict(ranges=(0, 0.5, 1)), "4 numbers"),
        (dict(ranges=(0.1, 0.4, 0.7, 1)), "rising from 0 to 1"),
        (dict(ranges=(0, 0.5, math.nan, 1)), "rising from 0 to 1"),
    ],
)
def test_a_bad_ladder_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        make_stages(**arguments)


def test_steps_stay_checked_when_a_ladder_is_changed():
    with pytest.raises(ValueError, match="at least 1"):
        replace(make_stages(), video_steps=(1, 0, 1))


def test_stage_names_its_ends_when_they_are_swapped():
    stage = make_stages().stages[1]
    with pytest.raises(ValueError, match="1 >= start > end >= 0"):
        replace(stage, sigma_start=stage.sigma_end, sigma_end=stage.sigma_start)


def test_official_sizes_divide_by_64():
    stages = make_stages()
    assert stages.size_multiple(8) == 64
    for width, height in ((1280, 768), (640, 384)):
        stages.check_latent_size(height // 8, width // 8)


@pytest.mark.parametrize(
    ("size", "nearest", "stages"),
    [
        ((12, 16), "16 x 16", 2),
        ((12, 12), "16 x 16", 2),
        ((8, 10), "8 x 8", 1),
        ((4, 4), "8 x 8", 2),
        ((7, 7), "8 x 8", None),
    ],
)
def test_a_size_off_the_grid_names_the_nearest_and_the_stages_it_allows(size, nearest, stages):
    with pytest.raises(ValueError, match=nearest) as caught:
        make_stages().check_latent_size(*size)
    assert ("at most" in str(caught.value)) == (stages is not None)
    if stages is not None:
        assert f"allows {stages} at most" in str(caught.value)
        make_stages(stages).check_latent_size(*size)


def test_stages_compare_by_value():
    assert make_stages() == make_stages() and isinstance(hash(make_stages()), int)
    assert isinstance(make_stages(), PyramidStages) and make_stages(2) != make_stages(3)
