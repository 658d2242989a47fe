"""Checks of the host's services reaching our models: its own patcher class, chosen attention, patched blocks."""

from __future__ import annotations

from unittest import mock

from door_guides import node
from door_helios import answer, load, question
from door_memory import OFFICIAL
from door_tools import differs, same


def check_host_services_patch_our_models_with_the_class_of_core(door):
    """A host that streams weights puts its own class in this place, and casts weights to the types that are noted."""
    import comfy.model_patcher as patching
    from pyramid_video.models.quantising import quantise

    if not hasattr(patching, "CoreModelPatcher"):
        return

    class Streaming(patching.ModelPatcher):
        pass

    plain = door.path["diffusion_models"]
    small = quantise(plain, plain.with_name("services.safetensors"))
    with mock.patch.object(patching, "CoreModelPatcher", Streaming):
        models = [door.host.load_model(file, dtype) for file, dtype in ((plain, "fp8_e4m3fn"), (small, "default"))]
        models += [load(door, "default"), load(door, "fp8_e4m3fn"), door.host.load_vae(door.path["vae"]).patcher]
    for model in models:
        assert isinstance(model, Streaming)
        network = getattr(model.model, "diffusion_model", model.model)
        for name, layer in network.named_modules():
            for key, parameter in layer.named_parameters(recurse=False):
                noted = getattr(layer, f"{key}_comfy_model_dtype", parameter.dtype)
                assert noted == parameter.dtype, (type(network).__name__, name, key, noted, parameter.dtype)


def check_host_services_find_what_another_pack_has_put_into_its_folder(door):
    """ComfyUI-PyramidFlowWrapper keeps the official folders as they are; with it or after it, in its usual place."""
    import shutil

    import folder_paths

    kinds = folder_paths.folder_names_and_paths
    usual = door.official.parent / "pyramidflow"
    moved = shutil.copytree(door.official / "pyramid-flow-sd3", usual / "their-sd3")
    name = f"their-sd3/{OFFICIAL['sd3']}"
    before = kinds.pop("pyramidflow", None)
    try:
        with mock.patch.object(folder_paths, "models_dir", str(usual.parent)):
            assert door.host.find_model("diffusion_models", name).samefile(moved / OFFICIAL["sd3"])
        kinds["pyramidflow"] = ([str(moved)], set())
        assert door.host.find_model("diffusion_models", name).samefile(moved / OFFICIAL["sd3"])
        kinds["pyramidflow"] = ([str(usual / "elsewhere")], set())
        assert name not in door.host.list_models("diffusion_models")
    finally:
        kinds.pop("pyramidflow", None)
        if before is not None:
            kinds["pyramidflow"] = before
        shutil.rmtree(usual)


def check_host_services_reach_every_attention_call(door):
    """What another pack or core's own block chooses for a model is asked for all of them, and for nothing else."""
    for name, _, ask in questions(door):
        chosen = Chosen(door)
        plain = ask({})
        with chosen:
            made = ask({"optimized_attention_override": chosen.override})
        assert chosen.calls and not chosen.others, (name, chosen.calls, chosen.others)
        same(door, made, plain, 1e-4 * plain.abs().max().item())


def check_host_services_of_half_types_are_not_asked_in_float32(door):
    """SageAttention and FlashAttention would say at every call that they cannot."""
    import comfy.ldm.modules.attention as attentions
    from pyramid_video.host.comfyui.forward import attention_for

    torch, card = door.torch, door.torch.device("cuda")
    own = torch.nn.functional.scaled_dot_product_attention
    for name in ("attention_sage", "attention_flash"):
        with mock.patch.object(attentions, "optimized_attention", getattr(attentions, name)):
            assert attention_for({}, card, torch.float32) is own
            assert attention_for({}, card, torch.bfloat16) is not own
            assert attention_for({"optimized_attention_override": print}, card, torch.float32) is not own
    with mock.patch.object(attentions, "optimized_attention", attentions.attention_split):
        assert attention_for({}, card, torch.float32) is not own


def check_host_services_bring_a_part_of_a_batch_to_another_card(door):
    """Core's MultiGPU CFG Split moves x and what it made itself, nothing that rides in options."""
    torch = door.torch
    network, far = door.model.model.diffusion_model, torch.device("meta")
    x, level = torch.zeros(2, 3, 1, 4, 4, device=far), torch.tensor([5.0])
    with mock.patch.object(type(network), "output", lambda self, x, timestep, inputs: timestep):
        timestep = network._forward(x, torch.zeros(2, device=far), pyramid=(level,))
    assert timestep.device == far and timestep.shape == (2,)


def check_host_services_take_the_place_of_blocks(door):
    """A block that is left out is as if the network did not have it; one that is run by a patch is the block."""
    for name, network, ask in questions(door):
        plain = ask({})
        for kind, blocks in blocks_of(network).items():
            for number in range(len(blocks)):
                rest = door.torch.nn.ModuleList(block for at, block in enumerate(blocks) if at != number)
                made = ask(with_patch((kind, number), lambda given, extra: given))
                assert differs(made, plain), (name, kind, number)
                if network.name == "SD3" and number == len(blocks) - 1:
                    continue  # it also ends the network, which none of its other blocks can
                with mock.patch.dict(network._modules, {blocks_name(network, kind): rest}):
                    expected = ask({})
                same(door, made, expected, 1e-4 * plain.abs().max().item())
            run = ask(with_patch((kind, 0), lambda given, extra: extra["original_block"](given)))
            same(door, run, plain, 1e-4 * plain.abs().max().item())


def blocks_name(network, kind):
    own = "transformer_blocks" if hasattr(network, "transformer_blocks") else "blocks"
    return own if kind == "double_block" else f"single_{own}"


def blocks_of(network):
    names = {kind: blocks_name(network, kind) for kind in ("double_block", "single_block")}
    return {kind: getattr(network, name) for kind, name in names.items() if hasattr(network, name)}


def with_patch(place, patch):
    return {"patches_replace": {"dit": {place: patch}}}


def check_host_services_of_skip_layer_guidance_change_a_clip(door):
    """Core's node asks a second time without a block; without one that is not there nothing changes."""

    def guided(double, single):
        return door.sample(node("nodes_slg", "SkipLayerGuidanceDiT", door.model, 3.0, 0.0, 1.0, double, single))

    assert differs(guided("0", ""), door.usual) or differs(guided("", "0"), door.usual)
    same(door, guided("99", "99"), door.usual, 1e-4 * door.usual.abs().max().item())


class Chosen:
    """An attention that asks the host's; while entered, counts calls of torch's own that did not come through it."""

    def __init__(self, door) -> None:
        import torch.nn.functional as functional
        from torch.overrides import TorchFunctionMode

        chosen = self

        class Watch(TorchFunctionMode):
            def __torch_function__(self, function, types, args=(), kwargs=None):
                if function is functional.scaled_dot_product_attention and not chosen.inside:
                    chosen.others += 1
                return function(*args, **(kwargs or {}))

        self.calls = self.others = 0
        self.inside, self.watch = False, Watch()

    def __enter__(self):
        return self.watch.__enter__()

    def __exit__(self, *error):
        return self.watch.__exit__(*error)

    def override(self, function, *args, **kwargs):
        self.calls += 1
        self.inside = True
        try:
            return function(*args, **kwargs)
        finally:
            self.inside = False


def questions(door):
    """Each network of ours, and something to ask it with other options of its transformer."""

    def pyramid(patcher, prompt):
        def ask(options):
            patched = patcher.clone()
            patched.model_options["transformer_options"] = {**patched.model_options["transformer_options"], **options}
            latent = {"samples": door.torch.zeros(1, door.host.model_info(patcher).latent_channels, 2, 8, 8)}
            return door.sample(patched, positive=prompt, negative=prompt, latent=latent)

        return ask

    yield "tiny", door.model.model.diffusion_model, pyramid(door.model, door.positive)
    for kind, part in OFFICIAL.items():
        top = door.official / f"pyramid-flow-{kind}"
        prompt = door.host.encode_prompt(door.host.load_text_encoder(top), "a tiger")
        patcher = door.host.load_model(top / part, "fp32")
        yield kind, patcher.model.diffusion_model, pyramid(patcher, prompt)
    helios = load(door)
    network = helios.model.diffusion_model
    yield "helios", network, lambda options: answer(door, helios, question(door), options)
