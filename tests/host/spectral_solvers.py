"""Checks of `spectral.py` for solvers of the host that do nothing where a stage leaves them one step."""

from __future__ import annotations

SOLVERS = ("uni_pc", "uni_pc_bh2", "dpm_fast", "dpm_adaptive")
DRAWN = 0.3


def check_a_last_stage_of_one_step_is_walked(case):
    """The clip is what the network says of it, and no noise is left in it."""
    model = case.model.clone()
    model.set_model_unet_function_wrapper(lambda call, args: case.torch.full_like(args["input"], DRAWN))
    wanted = case.torch.full_like(case.inside.models.empty(case.kind), DRAWN)
    wanted = case.model.model.process_latent_out(wanted)
    for name in SOLVERS:
        steps = []
        made = case.sample(
            case.pyramid(case.share(4), inner=case.core(name)),
            guider=case.guider(model),
            callback=lambda step, *rest: steps.append(step),  # noqa: B023
        )
        case.torch.testing.assert_close(made, wanted, rtol=0, atol=1e-4, msg=lambda text: f"{name}: {text}")  # noqa: B023
        assert steps[-1] == 4, (name, steps)


def check_stages_of_one_step_each_are_those_of_euler(case):
    """Which the first order of each of these solvers is."""
    sigmas, levels = case.sigmas[[0, 1, 3, 5]], (case.share(1), case.share(3))
    wanted = case.sample(case.pyramid(*levels), sigmas=sigmas)
    for name in ("uni_pc", "uni_pc_bh2", "dpm_fast"):
        case.same(case.sample(case.pyramid(*levels, inner=case.core(name)), sigmas=sigmas), wanted)


def check_a_stage_of_more_steps_is_walked_by_the_solver_itself(case):
    """Also where the stages before and after it have one."""
    sampler, sizes = case.pyramid(case.share(1), case.share(4), inner=case.core("uni_pc")), []
    inner = sampler.inner.sampler_function

    def sample_unipc(model, x, sigmas, **arguments):
        sizes.append((tuple(x.shape[-2:]), len(sigmas) - 1))
        return inner(model, x, sigmas, **arguments)

    sampler.inner.sampler_function = sample_unipc
    case.sample(sampler)
    assert [steps for _, steps in sizes] == [3], sizes


SOLVED = {
    check_a_last_stage_of_one_step_is_walked: ("wan2.1 t2v", "flux", "sdxl"),
    check_stages_of_one_step_each_are_those_of_euler: ("wan2.1 t2v", "flux", "sdxl"),
    check_a_stage_of_more_steps_is_walked_by_the_solver_itself: ("wan2.1 t2v",),
}
