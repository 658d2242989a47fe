"""What the door to ComfyUI promises of flows, diffusion models and GANs; run by `door.py`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from door_tools import differs, refused, same

SEED, STEPS, SCALE = 5, 4, 3.0
FAMILIES = {
    "flow": {"name": "flow", "shift": 2.0},
    "v": {"name": "diffusion", "schedule": "cosine", "prediction": "v", "zero_terminal_snr": True},
    "epsilon": {"name": "diffusion", "schedule": "linear", "prediction": "epsilon", "zero_terminal_snr": False},
    "gan": {"name": "gan"},
}


def write_families(pyramid: Path) -> None:
    """Write the weights of the tiny pyramid again beside it, as a model of every other family."""
    from pyramid_video.models import checkpoints

    info = checkpoints.inspect(pyramid)
    config = {**info.config.to_dict(), "use_temporal_causal": False}
    state = checkpoints.load_state_dict(info)
    for name, family in FAMILIES.items():
        path, extra = pyramid.with_name(f"tiny_{name}.safetensors"), {"family": family}
        checkpoints.save(path, state, info.kind, config, latent_format=info.latent_format, extra=extra)


def load(door, name):
    """The tiny model as one of another family, in the host and without it."""
    from pyramid_video.host.standalone import wires as standalone_wires
    from pyramid_video.models import checkpoints

    path = door.path["diffusion_models"].with_name(f"tiny_{name}.safetensors")
    network, info = checkpoints.load(path, ("miniflux",), dtype=door.torch.float32)
    alone = standalone_wires.Model(network, info, door.torch.device("cpu"), door.torch.float32)
    return door.host.load_model(path), alone


def sampler_of(model, steps=STEPS, **settings):
    from pyramid_video.samplers.full_sequence import DDIMSampler, FlowSampler, GANSampler
    from pyramid_video.samplers.noise_schedule import schedule_of

    family = model.info.family
    if family.name == "diffusion":
        return DDIMSampler(schedule_of(family), steps, **settings)
    return FlowSampler(steps, shift=family.shift, **settings) if family.name == "flow" else GANSampler()


def made(door, model, sampler, negative=True, latent=None, seed=SEED):
    prompts = door.positive, door.negative if negative else None
    return door.host.sample_full_sequence(model, sampler, *prompts, SCALE, latent or door.latent(), seed)["samples"]


def made_alone(door, model, sampler):
    from pyramid_video.host.standalone import sampling as standalone_sampling

    prompts = door.positive, door.negative, SCALE
    done = standalone_sampling.sample_full_sequence(model, sampler, prompts, door.latent(), SEED, lambda *_: None)
    return done["samples"]


def check_every_family_gives_what_it_gives_without_the_host(door):
    from pyramid_video.samplers.guidance import ClipGuidance

    for name in FAMILIES:
        model, alone = load(door, name)
        settings = [{}]
        if name == "flow":
            settings = [{}, {"solver": "heun"}, {"solver": "midpoint"}]
            settings += [{"guidance": ClipGuidance(zero_star=True), "zero_steps": 1}]
            settings += [{"guidance": ClipGuidance(zero_star, 0.3)} for zero_star in (False, True)]
        elif name != "gan":
            settings = [{}, {"eta": 1.0}]
        for chosen in settings:
            sampler = sampler_of(alone, **chosen)
            ours = made_alone(door, alone, sampler)
            same(door, made(door, model, sampler), ours, 2e-4 * float(ours.abs().max()))


class Silent:
    """A bar that shows nothing."""

    def update(self, *_):
        pass

    def close(self):
        pass


def check_the_pyramid_for_any_model_gives_what_it_gives_without_the_host(door):
    from pyramid_video.host.standalone.any_model import AnyModel
    from pyramid_video.samplers.spectral_stages import SpectralStages

    outside, prompts = AnyModel(lambda total: Silent()), (door.positive, door.negative, SCALE)
    for name in ("flow", "v", "epsilon"):
        model, alone = load(door, name)
        for stages in (SpectralStages(levels=(1.0,)), SpectralStages(levels=(0.8,))):
            for solver in ("euler", "heun"):
                there = outside.sigmas(alone, 6, "simple")
                here = door.host.any_model.sigmas(model, 6, "simple")
                door.torch.testing.assert_close(here, there, rtol=1e-4, atol=1e-5)
                ours = outside.sample(alone, prompts, solver, stages, there, door.latent(), SEED)["samples"]
                theirs = door.host.any_model.sample(model, prompts, solver, stages, here, door.latent(), SEED)
                same(door, theirs["samples"], ours, 1e-3 * float(ours.abs().max()))


def check_a_clip_that_is_changed_begins_as_it_does_without_the_host(door):
    from pyramid_video.host.standalone.any_model import AnyModel
    from pyramid_video.samplers.spectral_stages import SpectralStages

    prompts, stages = (door.positive, door.negative, SCALE), SpectralStages(levels=(0.95,))
    for name in ("flow", "v", "epsilon"):
        model, alone = load(door, name)
        for there, network in ((AnyModel(lambda total: Silent()), alone), (door.host.any_model, model)):
            sigmas = there.sigmas(network, 6, "simple", 0.5)
            run = partial(there.sample, network, prompts, "euler", stages, sigmas, seed=SEED)
            refused(partial(run, latent=door.latent()), "begins at", "the latent is empty")
            clip = run(latent={"samples": door.usual})["samples"]
            if network is alone:
                ours = clip
        same(door, clip, ours, 1e-3 * float(ours.abs().max()))


def check_the_hosts_own_samplers_run_flows_and_diffusion(door):
    for name in ("flow", "v", "epsilon"):
        model, alone = load(door, name)
        ours = made(door, model, sampler_of(alone))
        (theirs,) = door.core.common_ksampler(
            model, SEED, STEPS, SCALE, "euler", "simple", door.positive, door.negative, door.latent()
        )
        same(door, theirs["samples"], ours, 2e-3 * float(ours.abs().max()))


def check_a_flow_runs_in_sampler_custom_advanced(door):
    import comfy.samplers
    from comfy_extras import nodes_custom_sampler as custom

    model, alone = load(door, "flow")
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(door.positive, door.negative)
    guider.set_cfg(SCALE)
    sampler = comfy.samplers.sampler_object("euler")
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", STEPS)
    noise = custom.Noise_RandomNoise(SEED)
    node = custom.SamplerCustomAdvanced
    run = getattr(node, "execute", None) or node().sample  # newer hosts, older hosts
    theirs = run(noise, guider, sampler, sigmas, door.latent())[0]["samples"]
    ours = made(door, model, sampler_of(alone))
    same(door, theirs, ours, 2e-3 * float(ours.abs().max()))


def check_a_generator_runs_in_one_step_of_the_host_and_not_in_more(door):
    model, alone = load(door, "gan")
    ours = made(door, model, sampler_of(alone), negative=False)
    prompts = door.positive, door.negative
    (theirs,) = door.core.common_ksampler(model, SEED, 1, 1.0, "euler", "simple", *prompts, door.latent())
    same(door, theirs["samples"], ours, 1e-4 * float(ours.abs().max()))
    refused(
        lambda: door.core.common_ksampler(model, SEED, 4, 1.0, "euler", "simple", *prompts, door.latent()),
        "'Sample GAN'",
    )


def check_the_pyramid_sampler_refuses_other_families(door):
    model, _ = load(door, "flow")
    refused(lambda: door.sample(model=model), "'Sample flow'")


def check_rows_of_a_whole_batch_equal_their_runs_alone(door):
    model, alone = load(door, "v")
    sampler = sampler_of(alone, eta=0.5)
    both = made(door, model, sampler, latent=door.latent(batch=2))
    same(door, both[:1], made(door, model, sampler), 1e-3)
    assert differs(both[:1], both[1:])


def check_rows_that_core_cuts_out_of_a_batch_are_what_they_were_in_it(door):
    """`LatentFromBatch` and `RebatchLatents` leave the number of a row beside it, and core's KSampler heeds it."""
    from pyramid_video.samplers.spectral_stages import SpectralStages

    (second,) = door.core.LatentFromBatch().frombatch(door.latent(batch=3), 1, 1)
    assert second["batch_index"] == [1]
    same(door, door.sample(latent=second), door.sample(seed=SEED + 1), 1e-4)
    prompts, stages = (door.positive, door.negative, SCALE), SpectralStages(levels=(0.8,))
    for name, settings in (("flow", {}), ("v", {"eta": 0.5}), ("gan", {})):
        model, alone = load(door, name)
        sampler = sampler_of(alone, **settings)
        same(door, made(door, model, sampler, latent=second), made(door, model, sampler, seed=SEED + 1), 1e-3)
        if name == "flow":
            host = door.host.any_model
            run = partial(host.sample, model, prompts, "euler", stages, host.sigmas(model, 6, "simple"))
            same(door, run(second, SEED)["samples"], run(door.latent(), SEED + 1)["samples"], 1e-3)


def check_drafts_are_not_finished_by_a_model_that_predicts_something_else(door):
    """The networks have the same class and shapes; a draft of an earlier version says no more than these."""
    from dataclasses import replace

    from pyramid_video.samplers.drafts import pack_draft, unpack_draft
    from pyramid_video.samplers.spectral_stages import SpectralStages

    host, prompts, stages = door.host.any_model, (door.positive, door.negative, SCALE), SpectralStages(levels=(0.8,))
    models = {name: load(door, name)[0] for name in ("flow", "v", "epsilon")}
    for name, model in models.items():
        sigmas = host.sigmas(model, 6, "simple")
        draft, _ = host.draft(model, prompts, "euler", stages, sigmas, door.latent(), [SEED], 1)
        for other in models.keys() - {name}:
            refused(partial(host.finish_draft, models[other], prompts, "euler", draft), "wire the model that made it")
        row = unpack_draft(draft["samples"])
        kind, _, digest = row.model.split()
        old = {"samples": pack_draft(replace(row, model=f"{kind} {digest}"))}
        whole = host.sample(model, prompts, "euler", stages, sigmas, door.latent(), SEED)["samples"]
        for each in (draft, old):
            same(door, host.finish_draft(model, prompts, "euler", each)["samples"], whole, 0)


def check_a_saved_model_keeps_its_family(door):
    import comfy_extras.nodes_model_merging as saving

    for name in FAMILIES:
        model, _ = load(door, name)
        saving.ModelSave().save(model, f"diffusion_models/{name}")
        again = door.host.load_model(door.host.find_model("diffusion_models", f"{name}_00001_.safetensors"))
        assert again.model.info.family == model.model.info.family
