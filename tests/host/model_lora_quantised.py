"""What a LoRA learns through numbers of few bits: float16, and all forms of core's files, as its loaders leave them."""

from __future__ import annotations

from contextlib import contextmanager

from model_lora_lesson import (
    NotInThisHost,
    check_gradient_checkpoints_change_no_number,
    check_the_gradient_is_that_of_difference_quotients,
)

INPUTS, OUTPUTS = 512, 64
ON_CARDS_ONLY = ("nvfp4", "mxfp8")  # no processor multiplies in them; here their weights are multiplied in full


@contextmanager
def card_that_multiplies_in_float8(lesson):
    """Layers that are made here take the way that they take on newer cards."""
    management = lesson.case.inside.comfy.model_management
    usual = management.supports_fp8_compute
    management.supports_fp8_compute = lambda device=None: True
    try:
        yield
    finally:
        management.supports_fp8_compute = usual


def forms(lesson):
    if not hasattr(lesson.case.inside.comfy.utils, "detect_layer_quantization"):
        raise NotInThisHost
    import comfy.quant_ops

    return list(comfy.quant_ops.QUANT_ALGOS)


def learns_through(lesson, form):
    """A model of that form, and that a run learns; its layers are no linear layers of torch."""
    lesson.model = lesson.case.inside.models.make_quantised(lesson.kind, form)
    lesson.folder = lesson.folder / form
    layer = lesson.model.model.diffusion_model.blocks[0].self_attn.q
    assert not isinstance(layer, lesson.torch.nn.Linear) and layer.weight.is_inference() and layer.quant_format == form
    check_gradient_checkpoints_change_no_number(lesson)
    assert len(lesson.train("learned").parts()) == 20
    for name, (_, up, _) in lesson.train("in bf16", precision="bf16").parts().items():
        assert up.any() and lesson.torch.isfinite(up).all(), name
    return layer


def check_quantised_layers_learn(lesson):
    forms(lesson)
    assert learns_through(lesson, "float8_e4m3fn")._full_precision_mm is True
    check_the_gradient_is_that_of_difference_quotients(lesson)


def check_quantised_layers_learn_on_cards_that_multiply_in_few_bits(lesson):
    known = forms(lesson)
    with card_that_multiplies_in_float8(lesson):
        assert learns_through(lesson, "float8_e4m3fn")._full_precision_mm is False
        if "int8_tensorwise" in known:
            learns_through(lesson, "int8_tensorwise")


def check_every_form_lets_the_whole_gradient_through(lesson):
    import comfy.ops

    noise = lesson.case.inside.models.noise
    for form in forms(lesson):
        disabled = {form} if form in ON_CARDS_ONLY else set()
        operations = comfy.ops.mixed_precision_ops({}, lesson.torch.float32, disabled=disabled)
        layer = operations.Linear(INPUTS, OUTPUTS, bias=False, device="cpu", dtype=lesson.torch.float32)
        layer.load_state_dict(lesson.case.inside.models.quantised(weight(lesson), form), strict=False)
        wanted = layer.weight.dequantize()
        check_gradient(lesson, layer, wanted)
        assert "forward" not in vars(layer), form
        layer.weight_function = [lambda weight: weight + 0.5]  # as of a LoRA on the wire, where weights are streamed
        check_gradient(lesson, layer, wanted + 0.5)
        if hasattr(comfy.ops, "QuantLinearFunc"):  # hosts of about then smooth the input of some files
            smoothing = lesson.torch.nn.Parameter(noise(INPUTS, seed=6), requires_grad=False)
            layer.pre_quant_scale, shown = smoothing, []
            watch = layer.register_forward_hook(lambda _, inputs, output, shown=shown: shown.append(inputs[0]))
            check_gradient(lesson, layer, (wanted + 0.5) * smoothing)
            watch.remove()
            lesson.torch.testing.assert_close(shown[0], noise(2, 5, INPUTS, seed=4) * smoothing)  # so additions see it
            assert layer.pre_quant_scale is smoothing and not layer._forward_pre_hooks, form


def check_layers_that_make_float8_of_their_input_let_the_whole_gradient_through(lesson):
    """Those of `fp8_e4m3fn_fast`, and of scaled files in older hosts."""
    import comfy.ops

    kinds, product = [comfy.ops.fp8_ops], comfy.ops.fp8_linear
    if hasattr(comfy.ops, "scaled_fp8_ops"):
        kinds.append(comfy.ops.scaled_fp8_ops(fp8_matrix_mult=True, override_dtype=lesson.torch.float8_e4m3fn))
    for kind in kinds:
        layer = kind.Linear(INPUTS, OUTPUTS, bias=False, device="cpu", dtype=lesson.torch.float8_e4m3fn).eval()
        layer.weight = lesson.torch.nn.Parameter(weight(lesson).to(layer.weight.dtype), requires_grad=False)
        check_gradient(lesson, layer, layer.weight.float())
        assert comfy.ops.fp8_linear is product


def weight(lesson):
    return lesson.case.inside.models.noise(OUTPUTS, INPUTS, seed=3)


def check_gradient(lesson, layer, wanted):
    """That of the input of a layer is the gradient of its output times the weights that the file says."""
    from pyramid_video.host.comfyui.open_network import in_training, open_to_gradients

    torch, noise = lesson.torch, lesson.case.inside.models.noise
    network = torch.nn.Sequential(layer)
    assert layer.weight.is_inference()
    with torch.inference_mode(False), torch.enable_grad(), in_training(), open_to_gradients(network):
        x, of_output = noise(2, 5, INPUTS, seed=4).requires_grad_(), noise(2, 5, OUTPUTS, seed=5)
        (found,) = torch.autograd.grad(network(x), x, of_output)
        torch.testing.assert_close(found, of_output @ wanted.clone(), rtol=1e-5, atol=1e-4)


def check_float16_networks_keep_the_gradients_of_large_clips(lesson):
    """Those of a clip of a thousand times as many cells; of the same network in float32 they are right."""
    from pyramid_video.models.gradient_scale import unscaled_gradients
    from pyramid_video.models.lora import LoRASettings
    from pyramid_video.training.trainers.model_lora import ModelLoRA, error, learning_layers

    torch, make = lesson.torch, lesson.case.inside.models.make_model

    def gradients(dtype, is_scaled=True):
        found = []

        def learn(model):
            model.numel = 1000 * model.numel if is_scaled else 1
            model.network.requires_grad_(False)
            layers = learning_layers(model, "all", lesson.clips)
            lora = ModelLoRA(model.network, LoRASettings(2, 2.0, "all"), torch.Generator().manual_seed(1), layers)
            for number, parameter in enumerate(lora.parameters()):
                parameter.data = 0.05 * lesson.case.inside.models.noise(*parameter.shape, seed=number)
            (clip,) = lesson.clips.draw(torch.Generator().manual_seed(3), 1, 0.0)
            with unscaled_gradients(lora.parameters(), model.gradient_scale):
                (1e-3 * error(model, clip, torch.Generator().manual_seed(4))).backward()
            found.extend(parameter.grad.flatten() for parameter in lora.parameters())
            lora.detach()

        lesson.model = make(lesson.kind, dtype=dtype)
        if dtype == torch.float32:  # of the same weights
            for parameter in lesson.model.model.diffusion_model.parameters():
                parameter.data = parameter.data.half().float()
        lesson.open(learn)
        return torch.cat(found)

    def lost(found):
        return float((found - right).norm() / right.norm())

    right = gradients(torch.float32)
    kept, unscaled = lost(gradients(torch.float16)), lost(gradients(torch.float16, is_scaled=False))
    assert kept < 0.03 and unscaled > 3 * kept, (kept, unscaled)


def check_networks_in_bf16_compute_as_in_sampling(lesson):
    """On cards autocast would let norms answer in float32, and weights be brought in it."""
    torch, seen = lesson.torch, []
    for dtype in (torch.float32, torch.bfloat16):
        lesson.model = lesson.case.inside.models.make_model(lesson.kind, dtype=dtype)
        network = lesson.model.model.diffusion_model
        handle = network.register_forward_pre_hook(lambda *_: seen.append(torch.is_autocast_enabled("cpu")))
        for _, up, _ in lesson.train(str(dtype), precision="bf16").parts().values():
            assert torch.isfinite(up).all() and up.any()
        handle.remove()
        assert set(seen) == {dtype == torch.float32}
        seen.clear()


def check_float16_networks_leave_out_no_step_of_small_clips(lesson):
    """Gradients of a mean over a few cells are large as they are: scaled as those of large clips they were inf."""
    from pyramid_video.training.run.loss_log import LOSSES

    lesson.model = lesson.case.inside.models.make_model(lesson.kind, dtype=lesson.torch.float16)
    lesson.train("small", steps=20)
    losses = (lesson.folder / "small" / LOSSES).read_text("utf-8").splitlines()
    assert len(losses) == 20 and not any("skipped" in each for each in losses), losses


KIND = ("wan2.1 t2v",)
QUANTISED = dict.fromkeys(
    (
        check_quantised_layers_learn,
        check_quantised_layers_learn_on_cards_that_multiply_in_few_bits,
        check_every_form_lets_the_whole_gradient_through,
        check_layers_that_make_float8_of_their_input_let_the_whole_gradient_through,
        check_float16_networks_keep_the_gradients_of_large_clips,
    ),
    KIND,
)
QUANTISED[check_networks_in_bf16_compute_as_in_sampling] = ("wan2.1 t2v", "ltx2", "flux")
QUANTISED[check_float16_networks_leave_out_no_step_of_small_clips] = ("ltx", "flux", "sd3")
