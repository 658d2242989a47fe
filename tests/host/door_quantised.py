"""Checks of quantised transformers in ComfyUI's own layers, run by `door.py`: core's classes write each form."""

from __future__ import annotations

import json

from door_helios import answer, question
from door_tools import differs, refused, same

FORMS = ("float8_e4m3fn", "float8_e5m2", "int8_tensorwise", "mxfp8", "nvfp4")  # what core is asked for
ALLOWED = 0.03  # of `apart`; in int8 core rounds what goes in, too, which makes 0.015
OFFICIAL = {"miniflux": "diffusion_transformer_384p", "sd3": "diffusion_transformer_768p"}


def known(door) -> list[str]:
    from pyramid_video.host.comfyui.quantised import known_formats

    return known_formats()


def is_matrix(key: str, tensor) -> bool:
    return key.endswith(".weight") and tensor.ndim == 2 and "blocks." in key


def written_by_core(door, source, target, form: str):
    """`source` with its matrices as core's classes store them, and the same with what those stand for."""
    import comfy.quant_ops as quant_ops
    from pyramid_video.models import checkpoints

    torch, info = door.torch, checkpoints.inspect(source)
    full, stored = {}, {}
    settings = torch.tensor(list(json.dumps({"format": form}).encode()), dtype=torch.uint8)
    for key, weight in checkpoints.load_state_dict(info, dtype=torch.float32).items():
        full[key] = stored[key] = weight
        if not is_matrix(key, weight):
            continue
        layout = quant_ops.QUANT_ALGOS[form]["comfy_tensor_layout"]
        held = quant_ops.QuantizedTensor.from_float(weight, layout, scale="recalculate")
        parts = parts_of(held, key, form)
        stored |= parts | {key.removesuffix("weight") + "comfy_quant": settings.clone()}
        full[key] = held.dequantize()
    for tensors, name in ((stored, f"{form}"), (full, f"{form}_full")):
        checkpoints.save(target / f"{name}.safetensors", tensors, info.kind, info.config, info.latent_format)
    return target / f"{form}.safetensors", target / f"{form}_full.safetensors"


def parts_of(held, key: str, form: str) -> dict:
    """What core's layers write of a weight; older ones do it themselves."""
    if hasattr(held, "state_dict"):
        return held.state_dict(key)
    parts = {key: held._qdata, f"{key}_scale": held._params.scale}
    if form == "nvfp4":
        parts = {key: held._qdata, f"{key}_scale": held._params.block_scale, f"{key}_scale_2": held._params.scale}
    return parts


def check_what_core_quantises_runs_in_cores_layers(door):
    """The clip of a quantised file is that of the numbers which it stands for."""
    from pyramid_video.host.comfyui.quantised import has_mixed_layers

    folder = door.path["diffusion_models"].parent
    for form in FORMS:
        if not has_mixed_layers() or form not in known(door):
            continue
        quantised, full = written_by_core(door, door.path["diffusion_models"], folder, form)
        model = door.host.load_model(quantised)
        layer = model.model.diffusion_model.transformer_blocks[0].attn.to_q
        assert layer.quant_format == form and type(layer.weight.data).__name__ == "QuantizedTensor", form
        made, expected = door.sample(model), door.sample(door.host.load_model(full))
        assert differs(made, door.usual), form
        assert apart(made, expected) < ALLOWED, (form, apart(made, expected))


def apart(made, expected) -> float:
    """How far a clip is from another, root mean square as a share of the other's."""
    return ((made - expected).square().mean() / expected.square().mean()).sqrt().item()


def check_a_file_quantised_to_a_newer_form_is_refused_in_a_sentence(door):
    from pyramid_video.host.comfyui import quantised

    file = ours(door, door.path["diffusion_models"], "int8", "for_old.safetensors")
    known_here = quantised.known_formats
    quantised.known_formats = lambda: ["float8_e4m3fn"]
    try:
        refused(lambda: door.host.load_model(file), "int8_tensorwise", "knows only float8_e4m3fn", "update ComfyUI")
        quantised.known_formats = list
        refused(lambda: door.host.load_model(file), "int8_tensorwise", "knows none", "bf16")
    finally:
        quantised.known_formats = known_here


def ours(door, source, form: str, name: str):
    from pyramid_video.models.quantising import quantise

    return quantise(source, door.path["diffusion_models"].parent / name, form)


def our_forms(door) -> list[str]:
    return [form for form, name in (("fp8", "float8_e4m3fn"), ("int8", "int8_tensorwise")) if name in known(door)]


def check_what_we_quantise_gives_in_the_host_what_it_gives_without(door):
    """Both Pyramid Flow transformers and Helios; the other way works the weights out and computes in float32."""
    torch = door.torch
    for form in our_forms(door):
        for kind, part in OFFICIAL.items():
            file = ours(door, door.official / f"pyramid-flow-{kind}" / part, form, f"{kind}_{form}.safetensors")
            there, here = (door.host.load_model(file, dtype) for dtype in ("default", "fp32"))
            plain = door.host.load_model(door.official / f"pyramid-flow-{kind}" / part, "fp32")
            one, other, exact = (velocity(door, model) for model in (there, here, plain))
            assert (one - other).norm() < 0.02 * other.norm(), (kind, form)
            assert differs(one, exact) and (one - exact).norm() < 0.1 * exact.norm(), (kind, form)
        file = ours(door, door.official / "Helios-Mid" / "transformer", form, f"helios_{form}.safetensors")
        patcher = door.host.load_model(file)
        one = answer(door, patcher, question(door))
        other = answer(door, door.host.load_model(file, "fp32"), question(door))
        assert (one - other).norm() < 0.02 * other.norm(), form
        network = patcher.model.diffusion_model
        exact = [network.condition_embedder.time_embedder.linear_1.weight, network.blocks[0].scale_shift_table]
        assert all(weight.dtype == torch.float32 for weight in exact)


def velocity(door, model):
    """One answer of a Pyramid Flow transformer through the host."""
    import comfy.model_management

    torch, info = door.torch, door.host.model_info(model)
    comfy.model_management.load_models_gpu([model])
    draw = lambda *shape: torch.randn(*shape, generator=torch.Generator().manual_seed(7))  # noqa: E731
    text = draw(1, 3, info.text_width)
    conds = model.model.extra_conds(cross_attn=text, pooled_output=draw(1, info.pooled_width))
    inputs = {name: cond.process_cond(batch_size=1).cond for name, cond in conds.items()}
    x, sigma = draw(1, info.latent_channels, 1, 8, 8), torch.full((1,), 0.5)
    options = {"pyramid": {"timestep": torch.tensor([700.0])}}
    return (x - model.model.apply_model(x, sigma, transformer_options=options, **inputs)) / 0.5


def check_a_lora_lies_on_quantised_weights(door):
    """The change is that which the same LoRA makes of the weights in full, but for what their rounding takes away."""
    import comfy.sd
    from pyramid_video.host.comfyui.quantised import has_mixed_layers

    for form in our_forms(door):
        file = ours(door, door.path["diffusion_models"], form, f"lora_{form}.safetensors")
        quantised, full = door.host.load_model(file), door.host.load_model(file, "fp32")
        lora = {}
        for key, weight in full.model.diffusion_model.state_dict().items():
            if key.endswith(("to_q.weight", "to_k.weight")):
                name = f"diffusion_model.{key.removesuffix('.weight')}"
                lora[f"{name}.lora_A.weight"] = door.torch.full((2, weight.shape[1]), 0.2)
                lora[f"{name}.lora_B.weight"] = door.torch.linspace(-1, 1, 2 * weight.shape[0]).view(-1, 2)
        made, expected, bare = (
            door.sample(comfy.sd.load_lora_for_models(model, None, lora, strength, 0.0)[0])
            for model, strength in ((quantised, 1.0), (full, 1.0), (full, 0.0))
        )
        # Hosts without mixed layers keep the old scale, beyond which the sum of both is cut off.
        allowed = 0.3 if has_mixed_layers() else 0.9
        assert (made - expected).norm() < allowed * (expected - bare).norm(), form
        assert (door.sample(quantised) - bare).norm() < 0.02 * bare.norm(), form  # int8 layers round their inputs too


def check_a_quantised_model_loaded_in_parts_gives_the_same(door):
    for form in our_forms(door):
        file = ours(door, door.path["diffusion_models"], form, f"parts_{form}.safetensors")
        whole, parts = door.host.load_model(file), door.host.load_model(file)
        parts.load(door.torch.device("cpu"), lowvram_model_memory=parts.model_size() // 3)
        same(door, door.sample(parts), door.sample(whole), 1e-3 * door.usual.abs().max().item())


def check_a_saved_quantised_model_loads_again(door):
    import comfy_extras.nodes_model_merging as saving

    for form in our_forms(door):
        model = door.host.load_model(ours(door, door.path["diffusion_models"], form, f"save_{form}.safetensors"))
        saving.ModelSave().save(model, f"diffusion_models/saved_{form}")
        saved = door.host.find_model("diffusion_models", f"saved_{form}_00001_.safetensors")
        assert saved.stat().st_size < 0.6 * door.path["diffusion_models"].stat().st_size
        same(door, door.sample(door.host.load_model(saved)), door.sample(model), 1e-5)


def check_products_in_float8_are_made_where_the_card_can(door):
    """With the host told that this is such a card; without it the clip is that of fp8 as storage, to the last bit."""
    import comfy.model_management as management
    from torch.utils._python_dispatch import TorchDispatchMode

    plain = door.path["diffusion_models"]
    stored = door.sample(door.host.load_model(plain, "fp8_e4m3fn"))
    same(door, door.sample(door.host.load_model(plain, "fp8_e4m3fn_fast")), stored)
    files = {plain: stored}
    if "float8_e4m3fn" in known(door):
        file = ours(door, plain, "fp8", "products.safetensors")
        files[file] = door.sample(door.host.load_model(file))
        same(door, door.sample(door.host.load_model(file, "fp8_e4m3fn_fast")), files[file])
    supports = management.supports_fp8_compute
    management.supports_fp8_compute = lambda device=None: True
    products = []

    class Watch(TorchDispatchMode):
        """Older hosts multiply by _scaled_mm; newer ones hand both factors in float8 to a linear layer's kernel."""

        def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
            in_float8 = bool(args) and type(args[0]).__name__ == "QuantizedTensor"
            if "_scaled_mm" in str(operation) or (in_float8 and "linear" in str(operation)):
                products.append(operation)
            return operation(*args, **(kwargs or {}))

    def sampled(model):
        products.clear()
        with Watch():
            return door.sample(model)

    try:
        for file, exact in files.items():
            if file is not plain:
                same(door, sampled(door.host.load_model(file)), exact)  # the file asks for products in full
                assert not products
            made = sampled(door.host.load_model(file, "fp8_e4m3fn_fast"))
            assert products, file
            assert differs(made, exact) and (made - exact).norm() < exact.norm(), file
    finally:
        management.supports_fp8_compute = supports
