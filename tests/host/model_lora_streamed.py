"""Checks of `model_lora.py` for hosts that stream weights: a whole copy learns, which is like the model."""

from __future__ import annotations

import inspect
import types
from contextlib import contextmanager
from unittest import mock

from door_tools import refused
from model_lora_lesson import NotInThisHost


def skip_unless_host_streams():
    import comfy.model_patcher as patchers

    if "disable_dynamic" not in inspect.signature(patchers.ModelPatcher.clone).parameters:
        raise NotInThisHost


def streamed(lesson, again):
    """A model whose patcher says that it streams, and that `again` reads it once more."""
    import comfy.model_patcher as patchers

    class Dynamic(patchers.ModelPatcher):
        def is_dynamic(self):
            return True

    model = lesson.model.clone()
    model.__class__ = Dynamic
    model.cached_patcher_init = (again, ())
    return model


def reached(lesson) -> tuple[list[str], list[str]]:
    """The layers that learn, and those of the blocks."""
    from pyramid_video.models.repeated_blocks import block_layers
    from pyramid_video.training.trainers.model_lora import learning_layers

    found = []

    def learn(model):
        model.network.requires_grad_(False)
        found.extend((list(learning_layers(model, "all", lesson.clips)), list(block_layers(model.network, "all"))))

    lesson.open(learn)
    return found[0], found[1]


def check_weights_of_a_streamed_model_have_the_types_it_was_loaded_for(lesson):
    """Its linears keep those of the file until they are streamed, and what learns does not stream them."""
    skip_unless_host_streams()
    import comfy.memory_management
    import comfy.model_patcher
    import comfy.ops

    torch, base = lesson.torch, lesson.model.model
    file = {key: each.detach().to(torch.bfloat16) for key, each in base.diffusion_model.state_dict().items()}

    def again(disable_dynamic=False):
        with mock.patch.object(comfy.memory_management, "aimdo_enabled", True):
            config = base.model_config
            config.unet_config = {**config.unet_config, "dtype": torch.float16}
            config.manual_cast_dtype, config.custom_operations = None, comfy.ops.disable_weight_init
            model = config.get_model(dict(file), "")
            model.load_model_weights(dict(file), "", assign=False)
        return comfy.model_patcher.ModelPatcher(model, torch.device("cpu"), torch.device("cpu"))

    with torch.inference_mode(False):
        before = again().model.diffusion_model.blocks[0].self_attn.q.weight.dtype
    assert before == torch.bfloat16, "this host takes the types by itself now"
    lesson.model = streamed(lesson, again)
    whole = lesson.host.whole(lesson.model)
    types_there = {parameter.dtype for parameter in whole.model.diffusion_model.blocks.parameters()}
    assert types_there == {torch.float16}
    assert whole.model_size() == sum(each.nbytes for each in whole.model.state_dict().values())
    layers, of_blocks = reached(lesson)
    assert layers == of_blocks


def check_methods_that_other_packs_give_a_streamed_model_are_those_of_the_copy(lesson):
    """They bind a forward to the block that they find, and the copy that learns has other blocks."""
    skip_unless_host_streams()
    models, kind = lesson.case.inside.models, lesson.kind
    model, called = streamed(lesson, lambda disable_dynamic=False: models.make_model(kind)), []

    def forward(self, *args, **kw):
        called.append(self)
        return type(self).forward(self, *args, **kw)

    for number, block in enumerate(model.model.diffusion_model.blocks):
        place = f"diffusion_model.blocks.{number}.self_attn.forward"
        model.add_object_patch(place, types.MethodType(forward, block.self_attn))
    lesson.model = model
    layers, of_blocks = reached(lesson)
    old = set(map(id, model.model.modules()))
    assert layers == of_blocks and called and not any(id(each) in old for each in called)


def check_modules_of_a_streamed_model_in_a_patch_get_a_sentence(lesson):
    skip_unless_host_streams()
    models, kind = lesson.case.inside.models, lesson.kind
    model = streamed(lesson, lambda disable_dynamic=False: models.make_model(kind))

    class Compiled(lesson.torch.nn.Module):
        def __init__(self, block):
            super().__init__()
            self.block = block

    class Holder:
        def __init__(self, block):
            self.block = block

    block = model.model.diffusion_model.blocks[0]
    for patch in (Compiled(block), Holder(block)):
        lesson.model = model.clone()
        lesson.model.__class__ = type(model)
        lesson.model.add_object_patch("diffusion_model.blocks.0", patch)
        refused(lambda: lesson.host.whole(lesson.model), "holds the weights that ComfyUI streams", "take it off")


@contextmanager
def chosen_attention(attention):
    """What a flag of the host chooses, in all modules that took it over when they were read."""
    import sys

    import comfy.ldm.modules.attention as attentions

    usual, wrapped = attentions.optimized_attention, attentions.wrap_attn(attention)
    modules = [module for name, module in sys.modules.items() if name.startswith("comfy.ldm.")]
    with mock.patch.object(attentions, "optimized_attention", wrapped):
        changed = [module for module in modules if getattr(module, "optimized_attention", None) is usual]
        for module in changed:
            module.optimized_attention = wrapped
        try:
            yield
        finally:
            assert all(module.optimized_attention is wrapped for module in changed), "it was not given back"
            for module in changed:
                module.optimized_attention = usual


def check_an_attention_without_gradients_keeps_no_layer_from_learning(lesson):
    """Some networks hand no options to their attention, so that no override of a model reaches it."""
    import comfy.ldm.modules.attention as attentions

    def detached(*args, **kw):
        return attentions.attention_pytorch(*args, **kw).detach()

    with chosen_attention(detached):
        layers, of_blocks = reached(lesson)
    assert layers == of_blocks, set(of_blocks) - set(layers)


STREAMED = {
    check_weights_of_a_streamed_model_have_the_types_it_was_loaded_for: ("wan2.1 t2v",),
    check_methods_that_other_packs_give_a_streamed_model_are_those_of_the_copy: ("wan2.1 t2v",),
    check_modules_of_a_streamed_model_in_a_patch_get_a_sentence: ("wan2.1 t2v",),
    check_an_attention_without_gradients_keeps_no_layer_from_learning: ("ernie", "wan2.1 t2v"),
}
