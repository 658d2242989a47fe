"""Whole clips of Helios in ComfyUI, with what core's blocks put on model and prompts; run by `door.py`."""

from __future__ import annotations

from door_guides import node
from door_helios import TOP, load
from door_tools import differs, refused, same

SEED = 3
CLOSE = 1e-3  # of the largest value
WORDS = ("a tiger in the snow", "")


def prompts(door, host=None):
    """CONDITIONING of both texts."""
    host = host or door.host
    text = host.load_text_encoder(door.official / TOP)
    return [host.encode_prompt(text, words) for words in WORDS]


def latent(door, batch=1, units=2):
    return {"samples": door.torch.zeros(batch, 16, 9 * units, 8, 8)}


def ladder():
    """Few steps: three of each stage, of which caches may skip one."""
    from pyramid_video.samplers.presets import helios_stages_of

    return helios_stages_of(3, 3, 3, "unipc")


def clip(door, model, texts=None, empty=None, seed=SEED, host=None):
    """The clip that a MODEL makes of two prompts, guided."""
    from pyramid_video.samplers.guidance import PyramidGuidance

    host = host or door.host
    guider = host.make_guider(model, *(texts or prompts(door, host)), PyramidGuidance(5.0, 5.0))
    return host.sample(guider, host.make_sampler(ladder(), None), empty or latent(door), seed)["samples"]


def close(door, one, other):
    same(door, one, other, CLOSE * other.abs().max().item())


def without_host(door):
    from pyramid_video.host.standalone.host import StandaloneHost

    return StandaloneHost(models=door.official / TOP, device="cpu", silent=True)


def check_rows_of_a_helios_batch_equal_their_runs_alone(door):
    model, texts = load(door), prompts(door)
    both = clip(door, model, texts, latent(door, batch=2))
    for row in range(2):
        close(door, both[row : row + 1], clip(door, model, texts, seed=SEED + row))
    assert differs(both[:1], both[1:])


def check_easy_cache_that_may_skip_nothing_leaves_helios_as_it_is(door):
    model, texts = load(door), prompts(door)
    usual = clip(door, model, texts)
    cached = [node("nodes_easycache", "EasyCacheNode", model, limit, 0.0, 1.0, False) for limit in (1e-9, 1e9)]
    close(door, clip(door, cached[0], texts), usual)
    assert differs(clip(door, cached[1], texts), usual)


def check_a_compiled_helios_gives_what_it_gives_uncompiled(door):
    model, texts = load(door), prompts(door)
    compiled = node("nodes_torch_compile", "TorchCompileModel", model, "eager")
    close(door, clip(door, compiled, texts), clip(door, model, texts))


def check_masks_that_change_inside_a_chunk_give_each_frame_its_prompt(door):
    """Held against a pyramid without the host, whose velocity is put together frame by frame."""
    from pyramid_video.host.standalone.sampling import join_texts, rows_of
    from pyramid_video.samplers.guidance import PyramidGuidance
    from pyramid_video.samplers.helios_history import HELIOS_UNITS, HeliosHistory
    from pyramid_video.samplers.noise import draw_noise, row_generators
    from pyramid_video.samplers.pyramid import sample_pyramid

    torch, model, texts = door.torch, load(door), prompts(door)
    masks = torch.ones(18, 64, 64)  # of the first prompt
    masks[4:] = 0
    parts = [
        door.core.ConditioningSetMask().append(text, mask, "default", 1.0)[0]
        for text, mask in zip(texts, (masks, 1 - masks), strict=True)
    ]
    guider = door.host.make_guider(model, parts[0] + parts[1], None, PyramidGuidance(1.0, 1.0))
    made = door.host.sample(guider, door.host.make_sampler(ladder(), None), latent(door), SEED)["samples"]

    alone = without_host(door).load_model(door.official / TOP / "transformer", "fp32")
    text = join_texts([rows_of(prompt, 1, alone) for prompt in texts], alone)

    def velocity(x, call):
        timestep = torch.full((2,), call.timestep)
        first, second = alone.predict(x.repeat(2, 1, 1, 1, 1), timestep, call.history, text).chunk(2)
        share = masks[call.frames, :1, :1].view(1, 1, -1, 1, 1)
        return share * first + (1 - share) * second

    noise = draw_noise(latent(door)["samples"].shape, SEED)
    rules = {"generators": row_generators(SEED, 1), "history": HeliosHistory(), "units": HELIOS_UNITS}
    expected = alone.latent_format.denormalize(sample_pyramid(velocity, noise, ladder(), **rules))
    same(door, made, expected, 1e-4 * expected.abs().max().item())  # the small model listens little to its text


def check_cores_lora_on_helios_is_the_one_without_the_host(door):
    from pyramid_video.host.standalone.wires import apply_lora
    from pyramid_video.models.lora import save_lora

    torch, alone = door.torch, without_host(door)
    state = {}
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    for key, weight in load(door).model.diffusion_model.state_dict().items():
        if key.startswith("blocks") and key.endswith(("to_q.weight", "net.2.weight")):
            name = f"diffusion_model.{key.removesuffix('.weight')}"
            state[f"{name}.lora_down.weight"] = 0.1 * draw(2, weight.shape[1])
            state[f"{name}.lora_up.weight"] = draw(weight.shape[0], 2)
            state[f"{name}.alpha"] = torch.tensor(1.0)
    path = save_lora(door.path["diffusion_models"].parents[1] / "loras" / "helios.safetensors", state, {})
    patched = door.core.LoraLoaderModelOnly().load_lora_model_only(load(door), path.name, 0.7)[0]
    merged = apply_lora(alone.load_model(door.official / TOP / "transformer", "fp32"), path, 0.7)
    made = clip(door, patched)
    close(door, made, clip(door, merged, host=alone))
    assert differs(made, clip(door, load(door)))


def check_what_does_not_fit_helios_is_said(door):
    """In SamplerCustomAdvanced too, which asks none of our blocks; most of it before anything is loaded."""
    import comfy.model_management
    import comfy.samplers
    from pyramid_video.samplers.helios_history import HeliosHistory
    from pyramid_video.samplers.stages import make_stages

    model = load(door)
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(*prompts(door))

    def sample(frames, stages=None, history=None):
        empty = {"samples": door.torch.zeros(1, 16, frames, 8, 8)}
        return lambda: door.host.sample(guider, door.host.make_sampler(stages, history), empty, SEED)

    refused(sample(10), "10 latent frames", "a multiple of 9", "Empty video latent")
    refused(sample(9, make_stages()), "those of Pyramid Flow")
    assert not any(loaded.model is model for loaded in comfy.model_management.current_loaded_models)
    start = door.torch.zeros(1, 4, 1, 8, 8)
    refused(sample(9, None, HeliosHistory(start, start)), "4 channels", "'wan'")
