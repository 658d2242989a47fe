"""Checks of `spectral.py` for what an artist hangs on a model: LoRAs, compiling, ControlNets, VACE."""

from __future__ import annotations

import math
from unittest import mock


def check_a_lora_counts_at_every_size(case):
    """The pyramid of a model with a LoRA is the pyramid of a model whose weights are those sums."""
    name = max(
        (key for key, value in case.model.model.diffusion_model.state_dict().items() if value.ndim == 2),
        key=lambda key: ("attn" in key, "weight" in key, -len(key)),
    )
    rows, columns = case.model.model.diffusion_model.state_dict()[name].shape
    up, down = (case.inside.models.noise(*shape, seed=7) for shape in ((rows, 3), (3, columns)))
    key = f"diffusion_model.{name.removesuffix('.weight')}"
    lora = {f"{key}.lora_B.weight": up, f"{key}.lora_A.weight": down}
    patched, _ = case.inside.comfy.sd.load_lora_for_models(case.model, None, lora, 0.5, 0)
    assert patched.patches, name
    merged = case.inside.models.make_model(case.kind)
    merged.model.diffusion_model.state_dict()[name].add_(0.5 * up @ down)
    plain = case.sample(case.pyramid(case.middle))
    made = case.sample(case.pyramid(case.middle), guider=case.guider(patched))
    case.same(made, case.sample(case.pyramid(case.middle), guider=case.guider(merged)))
    assert all(not case.torch.equal(*pair) for pair in zip(case.streams(plain), case.streams(made), strict=True))
    case.same(case.sample(case.pyramid(case.middle)), plain, 0)  # the model itself is as it was


def check_a_compiled_model_makes_the_same(case):
    """In as many graphs as there are sizes: the steps of a stage share one."""
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph

    case.torch._dynamo.reset()
    compiled = case.model.clone()
    set_torch_compile_wrapper(model=compiled, backend=backend, options=None)
    made = case.sample(case.pyramid(case.middle), guider=case.guider(compiled))
    first = len(graphs)
    case.same(made, case.sample(case.pyramid(case.middle)))
    again = case.sample(case.pyramid(case.middle), guider=case.guider(compiled))
    assert first and len(graphs) == first, (first, len(graphs))  # a second run meets no new shape
    case.same(again, made, 0)


def check_a_controlnet_sees_the_stage(case):
    """Its hint at every stage is the host's own resize, and what it adds is what a plain run of that size adds."""
    import comfy.cldm.cldm
    import comfy.controlnet

    network = {key: value for key, value in case.inside.models.SDXL.items() if not key.startswith(("out_", "legacy"))}
    network.pop("transformer_depth_output")
    network |= {"operations": case.inside.comfy.ops.disable_weight_init}
    control_model = comfy.cldm.cldm.ControlNet(hint_channels=3, **network)
    generator = case.torch.Generator().manual_seed(4)
    for parameter in control_model.parameters():
        parameter.data = 0.1 * case.torch.randn(parameter.shape, generator=generator)
    place = case.torch.device("cpu")
    base = comfy.controlnet.ControlNet(control_model, load_device=place)
    hint = case.inside.models.noise(1, 3, 8 * 12, 8 * 16, seed=6).sigmoid()
    control = base.copy().set_cond_hint(hint, 0.8, (0.0, 1.0))
    seen, forward = [], control_model.forward

    def keep(*inputs, **named):
        seen.append((tuple(named["x"].shape[-2:]), named["hint"].clone()))
        return forward(*inputs, **named)

    control_model.forward = keep

    def guider():
        guider = case.guider()
        given = [
            [[text, {**rest, "control": control, "control_apply_to_uncond": False}] for text, rest in prompt]
            for prompt in (case.positive, case.negative)
        ]
        guider.set_conds(*given)
        return guider

    plain = case.sample(case.pyramid(case.middle))
    made = case.sample(case.pyramid(case.middle), guider=guider())
    assert case.torch.isfinite(made).all() and not case.torch.equal(made, plain)
    assert [size for size, _ in seen] == [(8, 8)] * 2 + [(12, 16)] * 3  # SDXL takes multiples of four cells
    for size, shown in seen:
        wanted = case.inside.comfy.utils.common_upscale(hint, 8 * size[1], 8 * size[0], "nearest-exact", "center")
        case.torch.testing.assert_close(shown[:1], wanted)
    case.same(case.sample(case.pyramid(1.0), guider=guider()), case.sample(case.core(), guider=guider()))


def check_vace_frames_have_the_size_of_their_stage(case):
    """Control frames are resampled as the start picture is, masks keep their mean."""
    frames = [case.inside.models.noise(1, 32, 3, 12, 16, seed=seed) for seed in (11, 12)]
    masks = [case.torch.zeros(1, 64, 3, 12, 16) for _ in frames]
    masks[0][..., :5] = 1.0
    extras = {"vace_frames": frames, "vace_mask": masks, "vace_strength": [1.0, 0.5]}
    prompts = [case.inside.models.prompt(case.kind, seed, **extras) for seed in (2, 3)]

    def guider():
        guider = case.guider()
        guider.set_conds(*prompts)
        return guider

    calls = case.seen(lambda: case.sample(case.pyramid(case.middle), guider=guider()))
    contexts = [call["vace_context"] for call in calls]
    assert [tuple(each.shape[-2:]) for each in contexts] == [(6, 8)] * 2 + [(12, 16)] * 3
    small, large = contexts[0][0], contexts[-1][0]
    for one, other in zip(small, large, strict=True):
        for channels in (slice(0, 32), slice(32, None)):
            assert math.isclose(one[channels].mean(), other[channels].mean(), abs_tol=1e-5)
    assert float(small[0, 32:].min()) >= 0 and float(small[0, 32:].max()) <= 1
    case.same(case.sample(case.pyramid(1.0), guider=guider()), case.sample(case.core(), guider=guider()))


class LaysOver:
    """As the wrapper of InfiniteTalk does with the beginning of a clip."""

    def __init__(self, frames):
        self.frames = frames

    def __call__(self, executor, x, *args, **rest):
        x[:, :, : self.frames.shape[2]] = self.frames.to(x)
        return executor(x, *args, **rest)


def check_latents_that_a_wrapper_holds_have_the_size_of_their_stage(case):
    import comfy.patcher_extension
    from pyramid_video.samplers.spectral import resample_picture

    frames = case.inside.models.noise(1, 16, 1, 12, 16, seed=8)
    wrapper = LaysOver(frames)
    model = case.model.clone()
    model.add_wrapper(comfy.patcher_extension.WrappersMP.APPLY_MODEL, wrapper)
    calls = case.seen(lambda: case.sample(case.pyramid(case.middle), guider=case.guider(model)))
    begins = [call["input 0"][:, :, :1] for call in calls]
    assert [tuple(each.shape[-2:]) for each in begins] == [(6, 8)] * 2 + [(12, 16)] * 3
    for shown in begins:
        wanted = frames if shown.shape[-2:] == frames.shape[-2:] else resample_picture(frames, (6, 8))
        case.torch.testing.assert_close(shown, wanted.expand_as(shown))
    assert wrapper.frames is frames
    plain = case.sample(case.core(), guider=case.guider(model))
    case.same(case.sample(case.pyramid(1.0), guider=case.guider(model)), plain, 0)


def check_speakers_have_the_tokens_of_their_stage(case):
    """InfiniteTalk with two speakers: what a plain run of the size of a stage is told of each."""
    try:
        from comfy.ldm.wan import model_multitalk as host
    except ImportError:
        return  # an older host
    seen, usual = [], host.get_attn_map_with_target

    def watch(*args, ref_target_masks, **rest):
        seen.append(ref_target_masks)
        return usual(*args, ref_target_masks=ref_target_masks, **rest)

    speakers = case.torch.zeros(2, 12, 16)
    speakers[0, :6, :8], speakers[1, 4:, 8:] = 1, 1
    large, small = (speakers[:, ::by, ::by].flatten(1) > 0 for by in (2, 4))
    model = case.model.clone()
    model.set_model_patch(host.MultiTalkGetAttnMapPatch(large), "attn1_patch")
    guider = case.guider(model)
    guider.set_cfg(1.0)
    with mock.patch.object(host, "get_attn_map_with_target", watch):
        made = case.sample(case.pyramid(case.middle), guider=guider)
    assert case.torch.isfinite(made).all()
    blocks = len(seen) // 5
    assert blocks and len(seen) == 5 * blocks
    for masks, wanted in zip(seen, 2 * blocks * [small] + 3 * blocks * [large], strict=True):
        assert case.torch.equal(masks, wanted)
    assert model.model_options["transformer_options"]["patches"]["attn1_patch"][0].ref_target_masks is large


PATCHES = {
    check_speakers_have_the_tokens_of_their_stage: ("wan2.1 t2v", "wan2.1 i2v"),
    check_a_lora_counts_at_every_size: ("wan2.1 t2v", "ltx2", "flux", "sdxl", "qwen-image", "z-image", "chroma"),
    check_a_compiled_model_makes_the_same: ("wan2.1 t2v",),
    check_a_controlnet_sees_the_stage: ("sdxl",),
    check_vace_frames_have_the_size_of_their_stage: ("wan2.1 vace",),
    check_latents_that_a_wrapper_holds_have_the_size_of_their_stage: ("wan2.1 t2v",),
}
