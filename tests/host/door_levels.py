"""Core's ModelSampling blocks on our models: refused where they were made for other kinds; run by `door.py`."""

from __future__ import annotations

from functools import partial

from door_families import SCALE, SEED, STEPS, load, made, sampler_of
from door_tools import differs, refused, same

FOREIGN = {  # block -> what its widgets say
    "ModelSamplingFlux": {"max_shift": 1.15, "base_shift": 0.5, "width": 64, "height": 64},
    "ModelSamplingAuraFlow": {"shift": 1.73},
    "ModelSamplingLTXV": {"max_shift": 2.05, "base_shift": 0.95},
    "ModelSamplingStableCascade": {"shift": 2.0},
    "ModelSamplingContinuousV": {"sampling": "v_prediction", "sigma_max": 500.0, "sigma_min": 0.03},
    **{
        f"ModelSamplingDiscrete {each}": {"sampling": each, "zsnr": False}
        for each in ("eps", "v_prediction", "lcm", "x0")
    },
    **{
        f"ModelSamplingContinuousEDM {each}": {"sampling": each, "sigma_max": 120.0, "sigma_min": 0.002}
        for each in ("v_prediction", "edm_playground_v2.5", "eps")
    },
}


def patched(model, block: str, **widgets):
    from comfy_extras import nodes_lt, nodes_model_advanced

    name = block.split()[0]
    node = getattr(nodes_model_advanced, name, None) or getattr(nodes_lt, name)
    run = getattr(node, "execute", None) or getattr(node(), node.FUNCTION)  # newer hosts, older hosts
    return run(model, **widgets)[0]


def check_levels_of_other_kinds_of_model_are_refused(door):
    for block, widgets in FOREIGN.items():
        for name in ("flow", "v", "epsilon"):
            model, alone = load(door, name)
            other = patched(model, block, **widgets)
            refused(partial(made, door, other, sampler_of(alone)), "a ModelSampling block (", "take that block away")
        refused(partial(door.sample, model=patched(door.model, block, **widgets)), "'Pyramid stages'")


def check_the_hosts_own_samplers_refuse_them_too(door):
    other = patched(load(door, "flow")[0], "ModelSamplingFlux", **FOREIGN["ModelSamplingFlux"])
    prompts = door.positive, door.negative
    run = partial(door.core.common_ksampler, other, SEED, STEPS, SCALE, "euler", "simple", *prompts, door.latent())
    refused(run, "take that block away")


def check_a_refused_block_leaves_the_model_as_it_was(door):
    refused(lambda: door.sample(model=patched(door.model, "ModelSamplingSD3", shift=3.0)), "'Pyramid stages'")
    same(door, door.sample(), door.usual)


def check_a_flow_takes_the_shift_of_a_block_behind_it(door):
    from pyramid_video.nodes import NODE_CLASS_MAPPINGS as ours

    model, alone = load(door, "flow")
    shifted = patched(model, "ModelSamplingSD3", shift=5.0)
    block = ours["PyramidVideoFlowSampler"]()

    def sample(model, shift=0.0):
        made = block.sample(
            model, door.positive, door.latent(), SEED, negative=door.negative, cfg=SCALE, steps=STEPS, shift=shift
        )
        return made[0]["samples"]

    same(door, sample(shifted), sample(model, 5.0), 1e-4)
    same(door, sample(shifted, 2.0), sample(model), 1e-4)
    assert differs(sample(shifted), sample(model))
