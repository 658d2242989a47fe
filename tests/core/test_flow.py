"""Flow matching: exact where the truth is known, and the numbers of diffusers' schedulers everywhere."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FlowMatchHeunDiscreteScheduler
from pyramid_video.models.text_features import TextFeatures
from pyramid_video.samplers.flow import flow_sigmas, sample_flow, shift_sigma
from pyramid_video.samplers.solvers import SOLVERS
from pyramid_video.training.batch import Batch
from pyramid_video.training.objectives.draw import GeneratorDraw, TimestepSampling
from pyramid_video.training.objectives.flow import FlowObjective


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def bent(x, call):
    """A field without symmetries, so that every mistake in x or sigma shows."""
    return torch.sin(3 * x) + call.sigma**2 * x


NOISE = torch.randn(2, 3, 2, 4, 4, generator=seeded())


@pytest.mark.parametrize("shift", (1.0, 3.0))
@pytest.mark.parametrize("steps", (1, 5, 20))
def test_euler_gives_the_numbers_of_diffusers(steps, shift):
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(sigmas=numpy.linspace(1, 1 / steps, steps))
    x = NOISE
    for index, timestep in enumerate(scheduler.timesteps):
        velocity = torch.sin(3 * x) + scheduler.sigmas[index] ** 2 * x
        x = scheduler.step(velocity, timestep, x).prev_sample
    torch.testing.assert_close(sample_flow(bent, NOISE, flow_sigmas(steps, shift)), x, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("steps", (2, 7))
def test_heun_gives_the_numbers_of_diffusers(steps):
    scheduler = FlowMatchHeunDiscreteScheduler()
    scheduler.set_timesteps(steps)
    levels = [*dict.fromkeys(scheduler.sigmas.tolist())]
    x, asked = NOISE, iter([levels[0], *(level for level in levels[1:-1] for _ in range(2))])
    for timestep in scheduler.timesteps:
        x = scheduler.step(torch.sin(3 * x) + next(asked) ** 2 * x, timestep, x).prev_sample
    torch.testing.assert_close(sample_flow(bent, NOISE, levels, "heun"), x, rtol=0, atol=1e-4)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("steps", (1, 3))
def test_a_straight_path_is_followed_exactly_in_any_number_of_steps(solver, steps):
    data = torch.randn(NOISE.shape, generator=seeded(1))
    made = sample_flow(lambda x, call: NOISE - data, NOISE, flow_sigmas(steps, 2.0), solver)
    torch.testing.assert_close(made, data, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("solver", "order"), (("euler", 1), ("midpoint", 2), ("heun", 2)))
def test_errors_fall_as_the_order_of_the_solver_says(solver, order):
    """On dx/dsigma = x the truth is x(0.2) = x(1) e^-0.8; halving the steps divides the error by 2^order."""
    truth = NOISE.double() * math.exp(-0.8)

    def error(steps):
        levels = [1 - 0.8 * step / steps for step in range(steps + 1)]
        return (sample_flow(lambda x, call: x, NOISE.double(), levels, solver) - truth).abs().max()

    assert math.log2(error(20) / error(40)) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize(("solver", "last"), [(s, e) for s in SOLVERS for e in (0.0, 0.3)])
def test_calls_are_counted_and_carry_the_clean_estimate(solver, last):
    data, seen = torch.ones(1, 2), []
    levels = [1.0, 0.6, last]
    sample_flow(
        lambda x, call: (x - data) / call.sigma,
        torch.randn(1, 2, generator=seeded()),
        levels,
        solver,
        callback=lambda call, clean: seen.append((call, clean)),
    )
    assert [call.index for call, _ in seen] == list(range(len(seen)))
    assert {call.total for call, _ in seen} == {len(seen)}
    for _, clean in seen:
        torch.testing.assert_close(clean, data)


def test_shifting_twice_is_shifting_by_the_product():
    assert shift_sigma(shift_sigma(0.3, 2.0), 1.5) == pytest.approx(shift_sigma(0.3, 3.0))
    assert (shift_sigma(0.0, 3.0), shift_sigma(1.0, 3.0)) == (0.0, 1.0)


def test_levels_fall_from_1_to_0_at_every_shift_of_the_block():
    for tenths in range(1, 201):
        sigmas = flow_sigmas(7, tenths / 10)
        assert (sigmas[0], sigmas[-1]) == (1.0, 0.0)
        assert all(high > low for high, low in pairwise(sigmas))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: flow_sigmas(0), "0 steps; expected 1 to 1000"),
        (lambda: flow_sigmas(5, 0.0), "shift is 0.0"),
        (lambda: sample_flow(bent, NOISE, (0.5, 0.5)), "expected them to fall"),
        (lambda: sample_flow(bent, NOISE, (1.0,)), "expected them to fall"),
        (lambda: sample_flow(bent, NOISE, (1.0, 0.0), "rk4"), "expected one of euler, heun, midpoint"),
        (lambda: sample_flow(lambda x, call: x / 0, NOISE, (1.0, 0.0)), "NaN or infinity"),
        (lambda: TimestepSampling("normal"), "expected one of logit_normal, uniform"),
        (lambda: TimestepSampling(deviation=0.0), "above 0"),
        (lambda: TimestepSampling(least=0.5, most=0.5), "noise levels from 0.5 to 0.5; expected two numbers that rise"),
        (lambda: TimestepSampling(most=1.5), "noise levels from 0.0 to 1.5"),
    ],
)
def test_what_cannot_be_sampled_or_learned_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_the_velocity_that_is_learned_leads_back_to_the_clip():
    """A network that answers with the truth has no loss, and one step from what it is shown ends on the data."""
    latent, text = torch.randn(4, 2, 3, 4, 4, generator=seeded(1)), torch.zeros(4, 1, 2)
    shown = {}

    def network(clips, timestep, *_):
        sigma = (timestep / 1000).view(-1, 1, 1, 1, 1)
        shown["velocity"] = (clips[0] - latent) / sigma
        return shown["velocity"]

    losses = FlowObjective()({"transformer": network}, Batch(latent, TextFeatures(text, None, text[:, 0])), seeded(2))
    assert losses["loss"] < 1e-6
    spread = (shown["velocity"] + latent).std()  # velocity + data is the noise
    assert spread == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("shift", (1.0, 3.0))
def test_noise_levels_are_distributed_as_asked(shift):
    draw = GeneratorDraw(seeded())
    uniform = FlowObjective(shift=shift).draw_sigmas(20000, draw).double()
    back = uniform / (shift - (shift - 1) * uniform)  # the inverse of the shift
    quantiles = torch.linspace(0.1, 0.9, 9, dtype=torch.float64)
    torch.testing.assert_close(back.quantile(quantiles), quantiles, rtol=0, atol=0.015)
    normal = FlowObjective(TimestepSampling("logit_normal", 0.5, 0.8)).draw_sigmas(20000, draw).logit()
    assert normal.mean() == pytest.approx(0.5, abs=0.02) and normal.std() == pytest.approx(0.8, abs=0.02)


@pytest.mark.parametrize("name", ("uniform", "logit_normal"))
@pytest.mark.parametrize("limits", ((0.0, 0.5), (0.3, 0.6), (0.9, 1.0)))
def test_levels_between_limits_are_distributed_as_those_of_all_that_lie_there(name, limits):
    everything = TimestepSampling(name, 0.2, 0.9).draw_sigmas(200_000, GeneratorDraw(seeded())).double()
    there = everything[(everything >= limits[0]) & (everything <= limits[1])]
    within = TimestepSampling(name, 0.2, 0.9, *limits).draw_sigmas(20_000, GeneratorDraw(seeded(1))).double()
    assert limits[0] <= within.min() and within.max() <= limits[1]
    quantiles = torch.linspace(0.1, 0.9, 9, dtype=torch.float64)
    allowed = 0.03 * (limits[1] - limits[0])
    torch.testing.assert_close(within.quantile(quantiles), there.quantile(quantiles), rtol=0, atol=allowed)
