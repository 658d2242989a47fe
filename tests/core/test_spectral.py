"""The spectral pyramid against theory: what a jump keeps, what a ladder loses, and what changes nothing."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyramid_video.samplers.flow import flow_sigmas
from pyramid_video.samplers.solvers import euler_step
from pyramid_video.samplers.spectral import (
    FLOW,
    VARIANCE_EXPLODING,
    Segment,
    dct,
    dct_matrix,
    jump_up,
    plan_segments,
    play,
    ratio_of,
    resample,
    resample_picture,
    stage_sizes,
)
from pyramid_video.samplers.spectrum import FLUX, WAN, Spectrum, jump_levels
from pyramid_video.samplers.stages import jump_scales, start_after_jump
from torch import Tensor

SCALINGS = (FLOW, VARIANCE_EXPLODING)
BOTH = pytest.mark.parametrize("scaling", SCALINGS, ids=("flow", "EPS"))
axis = st.integers(1, 12)
quick = settings(max_examples=25, deadline=None)


def white(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("cells", (1, 2, 7, 30))
def test_the_transform_is_orthonormal_and_resampling_keeps_white_noise_white(cells):
    identity = torch.eye(cells, dtype=torch.float64)
    torch.testing.assert_close(dct_matrix(cells) @ dct_matrix(cells).T, identity)
    small = max(1, cells // 2)
    noise = resample(white(4000, 1, cells, cells), (small, small)).flatten(1)
    covariance = noise.T @ noise / len(noise)
    assert (covariance - torch.eye(small**2, dtype=torch.float64)).abs().max() < 0.15


@BOTH
@quick
@given(st.tuples(axis, axis), st.lists(st.tuples(axis, axis), min_size=1, max_size=3), st.floats(0.05, 0.95))
def test_a_state_stays_what_it_is_through_any_ladder(scaling, start, grown, level):
    """So the marginal of a Gaussian field stays exact: the picture of the small stage, and the run's own noise."""
    sizes = [start]
    for rows, columns in grown:
        sizes.append((sizes[-1][0] + rows, sizes[-1][1] + columns))
    data, noise = white(2, 3, *start, seed=1), white(2, 3, *sizes[-1], seed=2)
    state = scaling.mixed(data, resample(noise, start), level)
    for below, above in pairwise(sizes):
        state = jump_up(state, noise, level, above, scaling)
        level = scaling.level_after(level, ratio_of(below, above))
    wanted = scaling.mixed(resample_picture(data, sizes[-1]), noise, level)
    torch.testing.assert_close(state, wanted, rtol=1e-9, atol=1e-9)


@quick
@given(st.tuples(axis, axis), st.tuples(axis, axis), st.floats(0.05, 0.95))
def test_both_families_jump_alike(small, more, t):
    """`data + sigma noise` is a flow's state times 1 + sigma."""
    large, sigma = (small[0] + more[0], small[1] + more[1]), t / (1 - t)
    x, noise = white(1, *small), white(1, *large, seed=3)
    after, ratio = FLOW.level_after(t, ratio_of(small, large)), ratio_of(small, large)
    assert VARIANCE_EXPLODING.level_after(sigma, ratio) == pytest.approx(after / (1 - after))
    exploding = jump_up(x * (1 + sigma), noise, sigma, large, VARIANCE_EXPLODING)
    torch.testing.assert_close(exploding * (1 - after), jump_up(x, noise, t, large), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("t", (0.1, 0.5, 0.9))
def test_the_jump_of_pyramid_flow_is_this_one_with_another_basis(t):
    alpha, beta = jump_scales(t, 1 / 3)
    assert FLOW.level_after(t, 2) == pytest.approx(start_after_jump(t, 1 / 3), abs=1e-15)
    assert FLOW.gain(t, 2) / 2 == pytest.approx(alpha)  # a doubled picture has twice the orthonormal coefficients
    # The fresh block noise has variance 4/3 on the three new coefficients of a block.
    assert FLOW.level_after(t, 2) == pytest.approx(beta * math.sqrt(4 / 3))


@BOTH
@pytest.mark.parametrize("level", (0.3, 0.8))
@pytest.mark.parametrize(
    ("small", "large"), [((28, 36), (22, 30)), ((12, 20), (24, 40)), ((15, 26), (45, 80)), ((2, 2), (7, 5))]
)
def test_brightness_is_kept_at_any_size_and_ratio(scaling, level, small, large):
    picture = torch.full((1, 2, 3, *small), 0.7)
    torch.testing.assert_close(resample_picture(picture, large), torch.full((1, 2, 3, *large), 0.7))
    state, silence = scaling.mixed(picture, torch.zeros_like(picture), level), torch.zeros(1, 2, 3, *large)
    if small < large:
        after = scaling.level_after(level, ratio_of(small, large))
        jumped = jump_up(state, silence, level, large, scaling)
        torch.testing.assert_close(jumped, scaling.mixed(torch.full_like(silence, 0.7), silence, after))


def gains(scales: tuple[float, ...], levels: tuple[float, ...], size: tuple[int, int], sigmas, spectrum, exact=False):
    """What a run over the Gaussian field multiplies each coefficient of the noise with, their variance, the segments.

    All is diagonal in the coefficients, so one run from the noise whose coefficients are all 1 tells. It goes by Euler
    or along the exact flow.
    """
    rows, columns = size
    sizes = stage_sizes(rows, columns, scales, 2)
    ones = dct_matrix(rows).T @ torch.ones(rows, columns, dtype=torch.float64) @ dct_matrix(columns)
    w = (
        min(size)
        / 2
        * (torch.arange(rows)[:, None] / rows).square().add((torch.arange(columns) / columns).square()).sqrt()
    )
    power = spectrum.amplitude * w.clamp_min(0.5).double() ** -spectrum.exponent

    def walk(x: Tensor, segment: Segment) -> Tensor:
        h, w = segment.size
        p = power[:h, :w] * h * w / (rows * columns)
        for t, after in pairwise(segment.sigmas):
            here, there = ((1 - level) ** 2 * p + level**2 for level in (t, after))
            if exact:
                x = dct_matrix(h).T @ (dct(x) * (there / here).sqrt()) @ dct_matrix(w)
            else:
                v = dct(x) * (t - (1 - t) * p) / here
                x = euler_step(x, dct_matrix(h).T @ v @ dct_matrix(w), t, after)
        return x

    segments = plan_segments(sizes, sigmas, levels, FLOW)
    start = segments[0].sigmas[0] * resample(ones, segments[0].size)
    made = play(walk, lambda x, s: jump_up(x, ones, s.level_before, s.size), start, segments)
    return dct(made), power, segments


def test_three_stages_lose_no_more_than_two_predict():
    """Frequencies that joined at `t'` keep `t'^2 / ((1 - t')^2 p + t'^2)` of their variance, the others all of it."""
    size, scales = (24, 40), (0.25, 0.5, 1.0)
    levels = jump_levels(WAN, scales, *size, 0.05)
    made, power, segments = gains(scales, levels, size, flow_sigmas(40, 5.0), WAN, exact=True)
    assert [segment.stage for segment in segments] == [0, 1, 2]
    predicted = torch.ones_like(power)
    for below, segment in pairwise(segments):
        t, new = segment.sigmas[0], torch.zeros(size, dtype=torch.bool)
        new[: segment.size[0], : segment.size[1]] = True
        new[: below.size[0], : below.size[1]] = False
        p = power[new] * math.prod(segment.size) / math.prod(size)
        predicted[new] = t**2 / ((1 - t) ** 2 * p + t**2)
    torch.testing.assert_close(made.square() / power, predicted)
    assert predicted.min() > 0.99


@pytest.mark.parametrize(("delta", "scales"), [(0.01, (0.5, 1.0)), (0.01, (0.25, 0.5, 1.0)), (0.05, (0.5, 1.0))])
def test_the_spectrum_comes_out_as_at_full_size(delta, scales):
    size, sigmas = (90, 160), flow_sigmas(50, 5.0)
    plain, power, _ = gains((1.0,), (), size, sigmas, WAN)
    made, _, segments = gains(scales, jump_levels(WAN, scales, *size, delta), size, sigmas, WAN)
    assert len(segments) == len(scales)

    def error(gain: Tensor) -> Tensor:
        return (gain.square() / power - 1).abs().mean()

    assert error(made) < error(plain) + 0.05


@BOTH
def test_a_jump_before_the_first_step_is_the_plain_sampler(scaling):
    sigmas = (1.0, 0.6, 0.3, 0.0) if scaling is FLOW else (14.0, 3.0, 0.5, 0.0)
    (only,) = plan_segments(((4, 4), (8, 8)), sigmas, (sigmas[0],), scaling)
    assert only == Segment(1, (8, 8), sigmas, 0)
    noise = white(1, 8, 8)  # and the jump itself, from pure noise
    torch.testing.assert_close(jump_up(resample(noise, (4, 4)), noise, 1.0, (8, 8)), noise)


def test_a_stage_ends_before_the_first_step_at_or_below_its_level():
    first, second = plan_segments(((4, 4), (8, 8)), (1.0, 0.9, 0.8, 0.4, 0.0), (0.8,), FLOW)
    assert first == Segment(0, (4, 4), (1.0, 0.9, 0.8), 0)
    assert (second.first_step, second.level_before, second.sigmas[1:]) == (2, 0.8, (0.4, 0.0))
    assert second.sigmas[0] == pytest.approx(2 * 0.8 / 1.8)


def test_a_run_that_begins_inside_leaves_out_the_stages_before():
    segments = plan_segments(((2, 2), (4, 4), (8, 8)), (0.7, 0.5, 0.2, 0.0), (0.9, 0.5), FLOW)
    assert [(s.stage, s.first_step) for s in segments] == [(1, 0), (2, 1)] and segments[0].level_before is None


def test_two_jumps_in_one_place_are_one():
    sizes, levels = ((2, 2), (4, 4), (8, 8)), (0.5, 0.95)
    segments = plan_segments(sizes, (1.0, 0.4, 0.2, 0.0), levels, FLOW)
    assert [s.stage for s in segments] == [0, 2]
    x, noise = white(1, 2, 2), white(1, 8, 8, seed=4)
    twice = jump_up(jump_up(x, noise, 0.4, (4, 4)), noise, FLOW.level_after(0.4, 2), (8, 8))
    torch.testing.assert_close(jump_up(x, noise, 0.4, (8, 8)), twice)


def test_a_run_that_ends_early_ends_where_its_last_level_is():
    (only,) = plan_segments(((4, 4), (8, 8)), (1.0, 0.9, 0.6), (0.7,), FLOW)
    assert only == Segment(0, (4, 4), (1.0, 0.9, 0.6), 0)


@pytest.mark.parametrize("stage", [None, 0])
@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=8, unique=True), st.data())
@quick
def test_levels_that_repeat_are_steps_that_do_nothing(stage, levels, data):
    once = (*sorted(levels, reverse=True), 0.0)
    repeats = data.draw(st.lists(st.integers(1, 3), min_size=len(once), max_size=len(once)))
    often = [level for level, times in zip(once, repeats, strict=True) for _ in range(times)]
    sizes, ends = ((2, 2), (4, 4), (8, 8)), (0.9, 0.5)
    assert plan_segments(sizes, often, ends, FLOW, stage) == plan_segments(sizes, once, ends, FLOW, stage)


@pytest.mark.parametrize(
    ("sigmas", "words"),
    [
        ((), "no noise levels"),
        ((1.0,), "1 noise level, which is no step"),
        ((0.5, 0.5, 0.5), "1 noise level, which is no step"),
        ((1.0, 0.5, 0.7, *flow_sigmas(400)), "step 2 of 403 leads .* 0.5 to 0.7; .* that fall"),
        ((1.0, 0.5, -0.25), "step 2 of 2 leads .* 0.5 to -0.25; .* to 0 at the lowest"),
        ((1.0, math.nan, 0.0), "step 1 of 2 leads .* 1 to nan"),
    ],
)
def test_levels_that_do_not_fall_are_refused(sigmas, words):
    with pytest.raises(ValueError, match=words) as refused:
        plan_segments(((4, 4), (8, 8)), sigmas, (0.7,), FLOW)
    assert len(str(refused.value)) < 250


@BOTH
def test_a_stream_without_a_size_stands_at_the_new_level(scaling):
    data, old, fresh = (torch.eye(3, dtype=torch.float64)[i] for i in range(3))  # three things that mix independently
    level, after = 0.5, scaling.level_after(0.5, 2)
    data_share, old_share, fresh_share = scaling.restarted(scaling.mixed(data, old, level), level, after, fresh)
    assert data_share == pytest.approx(1 - after if scaling is FLOW else 1)
    assert math.hypot(old_share, fresh_share) == pytest.approx(after)


@pytest.mark.parametrize(("rows", "careful", "fast"), [(60, 0.864, 0.737), (90, 0.782, 0.612), (135, 0.680, 0.482)])
def test_levels_of_wan_at_usual_sizes(rows, careful, fast):
    for delta, level in ((0.01, careful), (0.05, fast)):
        assert jump_levels(WAN, (0.5, 1.0), rows, 240, delta) == pytest.approx((level,), abs=5e-4)


def test_a_measured_table_goes_before_the_law_and_goes_on_as_it():
    table = tuple((w, 3 * FLUX.power(w)) for w in (1.0, 2.0, 8.0))
    measured = Spectrum("measured", FLUX.amplitude, FLUX.exponent, table)
    for w in (0.7, 1.0, 1.5, 5.0, 8.0, 30.0):
        assert measured.power(w) == pytest.approx(3 * FLUX.power(w))
    bent = Spectrum("bent", 1.0, 1.0, ((1.0, 4.0), (4.0, 1.0)))
    assert bent.power(2.0) == pytest.approx(2.0)


@pytest.mark.parametrize("numbers", [(0.0, 1.0, ()), (1.0, math.nan, ()), (1.0, 1.0, ((2.0, 1.0), (1.0, 1.0)))])
def test_a_spectrum_of_nonsense_is_refused(numbers):
    with pytest.raises(ValueError, match="spectrum"):
        Spectrum("odd", *numbers)
