"""Core's blocks that change guidance or save steps, on our models: APG, CFG-Zero*, EasyCache, LazyCache, compilation.

Each is held against the same rule written out by hand over a pyramid that knows nothing of the host. Run by `door.py`.
"""

from __future__ import annotations

from door_families import load, made, sampler_of
from door_levels import patched
from door_tools import differs, refused, same

SCALE, SEED = 7.0, 5
CLOSE = 1e-3  # of the largest value; a tiny random network under strong guidance blows rounding up
ALWAYS = 1e9  # a threshold under which every step that may be skipped is skipped
MEASURED = 2  # steps of a stage that a cache needs to learn how fast the answer changes


def by_hand(door, rule):
    """The pyramid of `door.sample` where `rule(x, v_negative, v_positive, call)` makes one velocity of two."""
    from pyramid_video.host.standalone import sampling as standalone_sampling
    from pyramid_video.host.standalone import wires as standalone_wires
    from pyramid_video.models import checkpoints
    from pyramid_video.samplers.noise import draw_noise, row_generators
    from pyramid_video.samplers.pyramid import sample_pyramid

    torch = door.torch
    network, info = checkpoints.load(door.path["diffusion_models"], ("miniflux",), dtype=torch.float32)
    model = standalone_wires.Model(network, info, torch.device("cpu"), torch.float32)
    prompts = [standalone_sampling.rows_of(prompt, 1, model) for prompt in (door.negative, door.positive)]
    text = standalone_sampling.join_texts(prompts, model)

    def velocity(x, call):
        clips = [clip.repeat(2, 1, 1, 1, 1) for clip in (*call.history, x)]
        timestep = torch.full((2,), call.timestep)
        return rule(x, *network(clips, timestep, text.tokens, text.mask, text.pooled).chunk(2), call)

    noise = draw_noise(door.latent()["samples"].shape, SEED)
    clip = sample_pyramid(velocity, noise, door.sampler.stages, generators=row_generators(SEED, 1))
    return model.latent_format.denormalize(clip)


def cfg(negative, positive):
    return negative + SCALE * (positive - negative)


def node(module: str, name: str, *values):
    """The MODEL that a core block gives."""
    import importlib

    block = getattr(importlib.import_module(f"comfy_extras.{module}"), name)
    return block.execute(*values).result[0]


def with_cores_guider(door, model):
    import comfy.samplers

    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(door.positive, door.negative)
    guider.set_cfg(SCALE)
    return door.host.sample(guider, door.sampler, door.latent(), SEED)["samples"]


def held(door, model, expected):
    """Both core's guider and ours give `expected` with this model, and something else than without its patch."""
    atol = CLOSE * expected.abs().max().item()
    same(door, with_cores_guider(door, model), expected, atol)
    same(door, door.sample(model), expected, atol)
    assert differs(expected, door.usual)


def check_plain_guidance_by_hand_is_the_usual_result(door):
    expected = by_hand(door, lambda x, negative, positive, call: cfg(negative, positive))
    same(door, door.usual, expected, CLOSE * expected.abs().max().item())


def check_apg_projects_the_guidance_and_forgets_it_at_every_stage(door):
    """Sadat et al. 2024 on clean estimates: momentum, a largest norm, less of what goes along with the positive."""
    eta, norm, momentum = 0.3, 2.0, 0.5
    axes, kept = [-1, -2, -3], {}

    def rule(x, negative, positive, call):
        clean = x - call.sigma * positive
        pull = call.sigma * (negative - positive)
        kept["pull"] = pull = pull + (momentum * kept["pull"] if call.step else 0)
        pull = pull * (norm / pull.square().sum(axes, keepdim=True).sqrt()).clamp(max=1)
        along = clean / clean.square().sum(axes, keepdim=True).sqrt()
        pull = pull - (1 - eta) * (pull * along).sum(axes, keepdim=True) * along
        return positive - SCALE * pull / call.sigma  # on top of the positive, as core has it

    held(door, node("nodes_apg", "APG", door.model, eta, norm, momentum), by_hand(door, rule))


def check_a_running_average_of_guidance_begins_anew_at_every_stage(door):
    """Of one step each, where no noise level rises and the average would be of another size."""
    from pyramid_video.samplers.stages import make_stages

    momentum, kept, average = 0.5, {}, None

    def remember(outputs):
        nonlocal average
        positive, negative = outputs["conds_out"]
        average = positive - negative + (0 if average is None else momentum * average)
        return [negative + average, negative]

    def rule(x, negative, positive, call):
        pull = call.sigma * (negative - positive)  # of clean estimates
        kept["pull"] = pull = pull + (momentum * kept["pull"] if call.step else 0)
        return negative - SCALE * pull / call.sigma

    model = door.model.clone()
    model.set_model_sampler_pre_cfg_function(remember)
    usual = door.sampler
    for steps in ({"first_steps": 1, "video_steps": 1}, {"first_steps": 4, "video_steps": 3}):
        door.sampler = door.host.make_sampler(make_stages(**steps), usual.history)
        try:
            expected = by_hand(door, rule)
            atol = CLOSE * expected.abs().max().item()
            same(door, with_cores_guider(door, model), expected, atol)
            same(door, door.sample(model), expected, atol)
            assert differs(expected, door.sample()) is (steps["first_steps"] > 1)
        finally:
            door.sampler = usual
    assert average is None  # the patch itself has seen nothing


def check_cores_zero_star_scales_the_clean_estimate_of_the_negative(door):
    """The factor is that of Fan et al. 2025, from the velocities; ours then scales the negative velocity with it."""

    def rule(x, negative, positive, call):
        share = (positive * negative).sum() / negative.square().sum()
        clean, other = x - call.sigma * positive, share * (x - call.sigma * negative)
        return (x - cfg(other, clean)) / call.sigma

    held(door, node("nodes_cfg", "CFGZeroStar", door.model), by_hand(door, rule))


def check_our_rules_take_no_other_rule_away(door):
    """RescaleCFG works with plain guidance; CFG-Zero* and coarse guidance say that they cannot have both."""
    from dataclasses import replace
    from functools import partial

    from pyramid_video.samplers.guidance import ClipGuidance

    rescaled = partial(patched, block="RescaleCFG", multiplier=0.7)
    assert differs(door.sample(rescaled(door.model)), door.usual)
    zero_star = replace(door.guidance, zero_star=True)
    refused(lambda: door.sample(rescaled(door.model), guidance=zero_star), "'RescaleCFG'", "'CFG-Zero* guidance'")
    door.sample(guidance=zero_star)
    detail = replace(door.guidance, coarse=0.0)
    refused(lambda: door.sample(rescaled(door.model), guidance=detail), "'RescaleCFG'", "set coarse_guidance")
    door.sample(guidance=detail)
    flow, alone = load(door, "flow")
    made(door, rescaled(flow), sampler_of(alone))
    for guidance, name in ((ClipGuidance(zero_star=True), "CFG-Zero"), (ClipGuidance(coarse=0.2), "coarse_guidance")):
        sampler = sampler_of(alone, guidance=guidance)
        refused(lambda sampler=sampler: made(door, rescaled(flow), sampler), "'RescaleCFG'", "'Sample flow'", name)
        made(door, flow, sampler)


def check_easy_cache_goes_on_from_its_last_answer_within_each_stage(door):
    """Where it may skip, an answer is x plus what the last real answer was beyond its x (Zhou et al. 2025)."""
    kept = {}

    def rule(x, negative, positive, call):
        answer = cfg(negative, positive)
        if call.step < MEASURED:
            kept["beyond"] = answer - x
        return x + kept["beyond"]

    model = node("nodes_easycache", "EasyCacheNode", door.model, ALWAYS, 0.0, 1.0, False)
    held(door, model, by_hand(door, rule))


def check_lazy_cache_goes_on_from_its_last_estimate_within_each_stage(door):
    kept = {}

    def rule(x, negative, positive, call):
        if call.step < MEASURED:
            kept["beyond"] = call.sigma * cfg(negative, positive)
        return kept["beyond"] / call.sigma

    model = node("nodes_easycache", "LazyCacheNode", door.model, ALWAYS, 0.0, 1.0, False)
    held(door, model, by_hand(door, rule))


def check_easy_cache_skips_as_many_steps_in_every_stage(door):
    calls = []
    model = node("nodes_easycache", "EasyCacheNode", door.model, ALWAYS, 0.0, 1.0, False)
    handle = model.model.diffusion_model.transformer_blocks[0].register_forward_pre_hook(
        lambda module, inputs: calls.append(len(inputs[0]))
    )
    door.sample()
    every = sum(calls)  # rows
    calls.clear()
    door.sample(model)
    handle.remove()
    steps = [door.sampler.stages.steps_for(unit) for unit in range(door.latent()["samples"].shape[2])]
    real = [min(MEASURED, count) for unit in steps for count in unit]
    assert sum(calls) / every == sum(real) / sum(map(sum, steps)), (calls, every, steps)


def check_easy_cache_on_a_flow_in_ksampler(door):
    """The host's Euler loop over our flow with a cache, against the same loop by hand."""
    import comfy.samplers

    steps = 5
    model, alone = load(door, "flow")
    cached = node("nodes_easycache", "EasyCacheNode", model, ALWAYS, 0.0, 1.0, False)
    prompts = door.positive, door.negative
    (theirs,) = door.core.common_ksampler(cached, SEED, steps, SCALE, "euler", "simple", *prompts, door.latent())
    (plain,) = door.core.common_ksampler(model, SEED, steps, SCALE, "euler", "simple", *prompts, door.latent())

    from pyramid_video.host.standalone.sampling import guided_model
    from pyramid_video.samplers.noise import draw_noise

    ask = guided_model(alone, door.positive, door.negative, SCALE, 1)
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", steps).tolist()
    x = draw_noise(door.latent()["samples"].shape, SEED)
    for step, (sigma, after) in enumerate(zip(sigmas, sigmas[1:], strict=False)):
        if step < MEASURED:
            beyond = ask(x, 1000 * sigma) - x
        x = x + (after - sigma) * (x + beyond)
    expected = alone.latent_format.denormalize(x)
    same(door, theirs["samples"], expected, 2e-3 * expected.abs().max().item())
    assert differs(plain["samples"], expected)


def check_compiled_models_give_what_they_give_uncompiled(door):
    """As traced, without a compiler behind it: the clip changes its size and its past from call to call."""
    model = node("nodes_torch_compile", "TorchCompileModel", door.model, "eager")
    same(door, door.sample(model), door.usual, CLOSE * door.usual.abs().max().item())


def check_a_compiled_model_keeps_keys_and_needs_no_graph_for_each_unit(door):
    """Sizes that grow are dynamic: a longer clip takes no more graphs than a shorter one, and none is broken."""
    from pyramid_video.models.kv_cache import KVCache
    from torch._dynamo import reset, utils

    taken, take = [], KVCache.take

    def watched(cache, *inputs):
        taken.append(take(cache, *inputs))
        return taken[-1]

    def graphs(frames):
        reset()
        utils.counters.clear()
        expected = door.sample(latent=door.latent(frames=frames))
        model = node("nodes_torch_compile", "TorchCompileModel", door.model, "eager")
        taken.clear()
        KVCache.take = watched
        try:
            made = door.sample(model, latent=door.latent(frames=frames))
        finally:
            KVCache.take = take
        same(door, made, expected, CLOSE * expected.abs().max().item())
        assert not utils.counters["graph_break"], dict(utils.counters["graph_break"])
        assert any(kept.tokens for kept in taken), "no keys of earlier units were taken over"
        return utils.counters["stats"]["unique_graphs"]

    shorter, longer = graphs(5), graphs(7)
    assert shorter == longer <= 4 * len(door.sampler.stages.stages), (shorter, longer)
