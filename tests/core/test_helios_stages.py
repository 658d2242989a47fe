"""The stages of Helios and the solvers that it was released with are those of diffusers' schedulers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pyramid_video.models.families import HELIOS, PYRAMID_FLOW
from pyramid_video.samplers.helios_stages import make_helios_stages
from pyramid_video.samplers.sigma_schedule import TokenShift
from pyramid_video.samplers.stage_solvers import STAGE_SOLVERS
from pyramid_video.samplers.stages import make_stages

diffusers = pytest.importorskip("diffusers")

TOKENS = (100, 540, 4000, 8640)
SHIFTS = (None, "exponential", "linear")
RELEASED_SOLVERS = ("euler", "unipc", "dmd")


def mu_of(tokens: int) -> float:
    return 0.5 + (1.15 - 0.5) / (4096 - 256) * (tokens - 256)


def scheduler_for(solver: str, shift: str | None, stages: int):
    options = dict(stages=stages, use_dynamic_shifting=shift is not None)
    if solver == "dmd":
        return diffusers.HeliosDMDScheduler(time_shift_type=shift or "linear", **options)
    return diffusers.HeliosScheduler(time_shift_type=shift or "exponential", scheduler_type=solver, **options)


@pytest.mark.parametrize("solver", RELEASED_SOLVERS)
@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("steps", (1, 2, 3, 10, 20))
@pytest.mark.parametrize("tokens", TOKENS)
def test_levels_timesteps_and_steps_are_those_of_diffusers(solver, shift, steps, tokens):
    scheduler = scheduler_for(solver, shift, 3)
    stages = make_helios_stages(video_steps=steps, solver=solver, shift=shift and TokenShift(shift))
    for stage in range(3):
        scheduler.set_timesteps(steps, stage, mu=mu_of(tokens))
        sigmas = stages.sigmas(stage, steps, tokens)
        assert sigmas == pytest.approx(scheduler.sigmas.tolist(), abs=1e-12)
        # Their pipeline cuts timesteps to whole numbers before it asks the network.
        assert list(stages.timesteps(stage, steps, tokens)) == scheduler.timesteps.long().tolist()

        start = torch.randn(1, 2, 3, 4, 4, generator=torch.Generator().manual_seed(steps))
        advance = STAGE_SOLVERS[solver](start, sigmas)
        ours = theirs = start
        for step, timestep in enumerate(scheduler.timesteps):
            ours = advance(step, ours, torch.sin(3 * ours) + step)
            theirs = scheduler.step(
                torch.sin(3 * theirs) + step,
                timestep,
                theirs,
                return_dict=False,
                **beside(solver, scheduler, start, step),
            )[0]
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=2e-5)


def beside(solver: str, scheduler, start, step: int) -> dict:
    """What the scheduler of the distilled model wants to know besides."""
    if solver != "dmd":
        return {}
    times = scheduler.timesteps
    tables = dict(dmd_sigmas=scheduler.sigmas, dmd_timesteps=times, all_timesteps=times)
    return dict(cur_sampling_step=step, dmd_noisy_tensor=start, **tables)


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("steps", (1, 2, 50))
@pytest.mark.parametrize("tokens", TOKENS)
def test_the_one_stage_of_base_is_that_of_diffusers(shift, steps, tokens):
    scheduler = scheduler_for("unipc", shift, 1)
    scheduler.set_timesteps(steps, sigmas=np.linspace(0.999, 0.0, steps + 1)[:-1], mu=mu_of(tokens))
    stages = make_helios_stages(1, video_steps=steps, shift=shift and TokenShift(shift))
    assert stages.sigmas(0, steps, tokens) == pytest.approx(scheduler.sigmas.tolist(), abs=1e-12)
    assert stages.timesteps(0, steps, tokens) == pytest.approx(scheduler.timesteps.tolist(), abs=1e-9)


def test_jumps_between_stages_are_those_of_diffusers():
    scheduler, stages = diffusers.HeliosScheduler(), make_helios_stages()
    for stage in (1, 2):
        signal = 1 - scheduler.ori_start_sigmas[stage]
        alpha = 1 / (math.sqrt(1 + 1 / scheduler.gamma) * (1 - signal) + signal)
        assert stages.jump(stage) == pytest.approx((alpha, alpha * (1 - signal) / math.sqrt(scheduler.gamma)))
        assert stages.stages[stage].sigma_start == pytest.approx(scheduler.start_sigmas[stage])


def test_stages_say_whose_they_are():
    assert (make_stages().made_for, make_helios_stages().made_for) == (PYRAMID_FLOW, HELIOS)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: make_helios_stages(0), "Helios Base has 1 stage"),
        (lambda: make_helios_stages(gamma=0.5), "0 to 1/3"),
        (lambda: make_helios_stages(solver="rk4"), "expected one of euler, unipc, dmd"),
        (lambda: make_helios_stages(first_steps=(1, 2)), "3 of them"),
        (lambda: TokenShift("quadratic"), "exponential, linear"),
    ],
)
def test_what_there_is_not_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
