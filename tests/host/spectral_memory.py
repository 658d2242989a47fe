"""Checks of `spectral.py` for patches that remember or count: caches, guidance by steps, samplers with latents.

The patches here do what those of widely used packs do, in a few lines of our own.
"""

from __future__ import annotations

from spectral_case import SEED

SIZES = [(6, 8)] * 2 + [(12, 16)] * 3


def check_patches_are_told_how_far_the_run_is(case):
    """Guidance sees each step at its place in the whole schedule, a network the levels from its stage to the end."""
    for sampler, firsts in (
        (case.pyramid(case.middle), [0, 0, 2, 2, 2]),
        (case.pyramid(case.share(1), case.share(3)), [0, 1, 1, 3, 3]),
    ):
        guided, shown = [], []

        def cfg(args, guided=guided):
            told = args["model_options"]["transformer_options"]["sample_sigmas"]
            guided.append((float(args["sigma"][0]), told.tolist()))
            return args["cond"]

        def network(call, args, shown=shown):
            shown.append((float(args["timestep"][0]), args["c"]["transformer_options"]["sample_sigmas"].tolist()))
            return call(args["input"], args["timestep"], **args["c"])

        model = case.model.clone()
        model.set_model_sampler_cfg_function(cfg)
        model.set_model_unet_function_wrapper(network)
        case.sample(sampler, guider=case.guider(model))
        assert [told.index(sigma) for sigma, told in guided] == list(range(len(case.sigmas) - 1))
        assert {len(told) for _, told in guided} == {len(case.sigmas)}
        assert [told[-1] for _, told in guided] == [0.0] * len(guided)
        for step, (first, (sigma, told), (_, whole)) in enumerate(zip(firsts, shown, guided, strict=True)):
            assert told == whole[first:] and told.index(sigma) == step - first


def check_the_schedule_that_guidance_sees_falls(case):
    """Also where a jump lifts a level to that of an earlier step: each level stands once in it, at its own step."""
    sampling = case.model.get_model_object("model_sampling")
    for count, jumps in ((20, (8,)), (20, (15,)), (40, (16,)), (20, (5, 12))):
        sigmas = case.inside.comfy.samplers.calculate_sigmas(sampling, "simple", count)
        levels = [
            1e-6 + float(sigmas[step]) / (1 if float(sigmas[0]) < 1.5 else 1 + float(sigmas[step])) for step in jumps
        ]
        found = []

        def cfg(args, found=found):
            told = args["model_options"]["transformer_options"]["sample_sigmas"]
            found.append((float(args["sigma"][0]), told.tolist()))
            return args["cond"]

        model = case.model.clone()
        model.set_model_sampler_cfg_function(cfg)
        case.sample(case.pyramid(*levels), guider=case.guider(model), sigmas=sigmas)
        assert len(found) == count
        for step, (sigma, told) in enumerate(found):
            assert all(one > other for one, other in zip(told, told[1:], strict=False)), (count, jumps, step)
            assert len(told) == count + 1 and told.index(sigma) == step


def check_masks_that_depend_on_levels_see_the_whole_schedule(case):
    """As differential diffusion does: what is kept becomes less from the first step to the last, not in each stage."""
    seen = []

    def by_level(sigma, mask, extra_options):
        told = extra_options["sigmas"]
        seen.append(float((sigma[0] - told[-1]) / (told[0] - told[-1])))
        return (mask >= seen[-1]).to(mask.dtype)

    latent = case.inside.models.noise(*case.inside.models.empty(case.kind).shape, seed=8)
    mask = case.torch.linspace(0, 1, 16).expand(1, 1, 12, 16).clone()
    model = case.model.clone()
    model.set_model_denoise_mask_function(by_level)
    rest = {"latent": latent, "denoise_mask": mask, "guider": case.guider(model)}
    plain = case.sample(case.core(), **rest)
    wanted, seen[:] = seen[:], []
    case.same(case.sample(case.pyramid(1.0), **rest), plain, 0)
    assert seen == wanted
    seen.clear()
    case.sample(case.pyramid(case.middle), **rest)
    jumped = 2  # a step that begins at the level after a jump, which is higher
    assert [level for step, level in enumerate(seen) if step != jumped] == [
        level for step, level in enumerate(wanted) if step != jumped
    ]
    assert wanted[jumped] < seen[jumped] < 1


def check_a_cache_on_the_network_begins_anew_with_a_stage(case):
    """One that always skips: the network is asked once a stage, and nothing is left; what was there before stays."""
    asked = []

    def always_skip(call, args):
        network = case.model.model.diffusion_model
        assert network.was_there == "before"
        if not hasattr(network, "kept_output"):
            asked.append(tuple(args["input"].shape[-2:]))
            network.kept_output = call(args["input"], args["timestep"], **args["c"])
        return network.kept_output + 0 * args["input"][:, : network.kept_output.shape[1]]

    network = case.model.model.diffusion_model
    network.was_there = "before"
    try:
        for model in (case.model.clone(), compiled_in_place(case)):
            asked.clear()
            model.set_model_unet_function_wrapper(always_skip)
            with case.torch._dynamo.config.patch(disable=True):  # what hangs where is asked, not graphs
                one = case.sample(case.pyramid(case.share(1), case.share(3)), guider=case.guider(model))
                again = case.sample(case.pyramid(case.share(1), case.share(3)), guider=case.guider(model))
            assert network.was_there == "before" and not hasattr(network, "kept_output")
            case.same(one, again, 0)
            assert asked == 2 * [(4, 4), (6, 8), (12, 16)], asked
    finally:
        del network.was_there


def compiled_in_place(case):
    """A model whose network is patched by its compiled self, as blocks of other packs do it."""
    model = case.model.clone()
    network = case.torch.compile(model.get_model_object("diffusion_model"), backend=lambda graph, inputs: graph)
    model.add_object_patch("diffusion_model", network)
    return model


def check_a_draft_of_a_compiled_model_is_finished(case):
    """Also by the same model as it was before, and the other way round."""
    from pyramid_video.host.comfyui.any_model import AnyModel

    host, prompts, stages = AnyModel(), (case.positive, case.negative, 2.0), case.pyramid(case.middle).stages
    latent, models = {"samples": case.inside.models.empty(case.kind)}, (case.model, compiled_in_place(case))
    with case.torch._dynamo.config.patch(disable=True):
        drafts = [host.draft(each, prompts, "euler", stages, case.sigmas, latent, [SEED], 1)[0] for each in models]
        for draft in drafts:
            one, other = (host.finish_draft(each, prompts, "euler", draft)["samples"] for each in models)
            case.same(one, other, 0)


def check_what_a_cache_left_of_another_run_comes_back(case):
    """A patch that goes on from what a plain run has left: each stage finds that, and so does whoever comes after."""
    found, network = [], case.model.model.diffusion_model

    def count(call, args):
        found.append(network.steps_done)
        network.steps_done = network.steps_done + 1
        return call(args["input"], args["timestep"], **args["c"])

    network.steps_done = 40
    model = case.model.clone()
    model.set_model_unet_function_wrapper(count)
    try:
        case.sample(case.pyramid(case.middle), guider=case.guider(model))
        assert network.steps_done == 40
    finally:
        del network.steps_done
    assert found == [40, 41, 40, 41, 42], found


def check_variables_that_patches_share_stay_shared(case):
    """What one patch leaves for another reaches it, and each stage begins without what the last one left."""
    remembered, found, handed_on = None, [], []

    def before(args):
        nonlocal remembered
        found.append(None if remembered is None else tuple(remembered.shape[-2:]))
        remembered = args["conds_out"][0].clone()
        return args["conds_out"]

    def after(args):
        handed_on.append(remembered is not None and case.torch.equal(remembered, args["cond_denoised"]))
        return args["denoised"]

    model = case.model.clone()
    model.set_model_sampler_pre_cfg_function(before)
    model.set_model_sampler_post_cfg_function(after)
    case.same(
        case.sample(case.pyramid(case.middle), guider=case.guider(model)), case.sample(case.pyramid(case.middle)), 0
    )
    assert found == [None, (6, 8), None, (12, 16), (12, 16)]
    assert all(handed_on) and len(handed_on) == 5 and remembered is None


def check_latents_in_the_options_of_a_sampler_have_the_size_of_their_stage(case):
    from pyramid_video.samplers.spectral import resample_picture

    guide = case.inside.models.noise(*case.inside.models.empty(case.kind).shape, seed=8)
    notes, seen = {}, []

    def guided(model, x, sigmas, extra_args=None, callback=None, disable=None, towards=None, notes=None):
        for step in range(len(sigmas) - 1):
            wanted = guide if x.shape == guide.shape else resample_picture(guide, tuple(x.shape[-2:]))
            case.same(towards["samples"], wanted, 1e-6)
            seen.append(tuple(x.shape[-2:]))
            clean = model(x, sigmas[step] * x.new_ones(len(x)), **extra_args)
            clean = clean + 0.5 * (towards["samples"] - clean)
            x = clean + sigmas[step + 1] / sigmas[step] * (x - clean)
        notes["steps"] = notes.get("steps", 0) + len(sigmas) - 1
        return x

    options = {"towards": {"samples": guide}, "notes": notes}
    inner = case.inside.comfy.samplers.KSAMPLER(guided, options)
    sampler = case.pyramid(case.middle, inner=inner)
    assert sampler.extra_options is inner.extra_options  # where blocks of other packs look for theirs
    case.sample(sampler)
    assert seen == SIZES and notes == {"steps": 5} and options["towards"]["samples"] is guide
    case.same(case.sample(case.pyramid(1.0, inner=inner)), case.sample(inner))


def check_keys_of_references_are_those_of_their_stage(case):
    """Flux KV Cache: each stage computes them in its first step, and a draft and its end are one run."""
    from comfy_extras import nodes_flux as nodes

    if not hasattr(nodes, "FluxKVCache"):
        return  # an older host
    from pyramid_video.host.comfyui.any_model import AnyModel

    shape, host = case.inside.models.KINDS[case.kind].latent, AnyModel()
    for size, own in (((12, 16), [48, 192]), ((8, 10), [80, 80])):
        latents = [case.inside.models.noise(1, *shape, *size, seed=4)]
        prompts = [case.inside.models.prompt(case.kind, seed, reference_latents=latents) for seed in (2, 3)]
        model = nodes.FluxKVCache.execute(case.model).result[0]
        patches = model.model_options["transformer_options"]["patches"]["attn1_patch"]
        patches[0] = watch = Watch(patches[0])
        stages = case.pyramid(case.middle).stages
        sigmas, latent = case.sigmas, {"samples": case.inside.models.empty(case.kind)}
        one = host.sample(model, (*prompts, 1.0), "euler", stages, sigmas, latent, SEED)["samples"]
        first = [step for step in watch.seen if step["new"]]
        assert [each["references"] for each in first] == own and len(watch.seen) == len(SIZES), watch.seen
        draft, _ = host.draft(model, (*prompts, 1.0), "euler", stages, sigmas, latent, [SEED], 1)
        made = host.finish_draft(model, (*prompts, 1.0), "euler", draft)["samples"]
        assert case.torch.equal(made, one)


class Watch:
    """A patch of attention that keeps the keys of references, watched in the first block."""

    def __init__(self, patch):
        self.patch, self.seen = patch, []

    def __call__(self, q, k, v, extra_options, **rest):
        made = self.patch(q, k, v, extra_options, **rest)
        if (extra_options["block_type"], extra_options["block_index"]) == ("double", 0):
            new = made["k"].shape[2] == q.shape[2]
            self.seen.append({"new": new, "references": sum(extra_options["reference_image_num_tokens"])})
        return made

    def cleanup(self):
        self.patch.cleanup()


MEMORY = {
    check_keys_of_references_are_those_of_their_stage: ("flux.2",),
    check_a_draft_of_a_compiled_model_is_finished: ("wan2.1 t2v", "sdxl"),
    check_patches_are_told_how_far_the_run_is: ("wan2.1 t2v", "flux"),
    check_the_schedule_that_guidance_sees_falls: ("wan2.1 t2v", "flux", "sdxl"),
    check_what_a_cache_left_of_another_run_comes_back: ("wan2.1 t2v",),
    check_masks_that_depend_on_levels_see_the_whole_schedule: ("wan2.1 t2v",),
    check_a_cache_on_the_network_begins_anew_with_a_stage: ("wan2.1 t2v", "flux"),
    check_variables_that_patches_share_stay_shared: ("wan2.1 t2v",),
    check_latents_in_the_options_of_a_sampler_have_the_size_of_their_stage: ("wan2.1 t2v", "flux"),
}
