"""Checks of `model_lora.py` for what is on the model wire or in the model: guidance, caches, changes in place."""

from __future__ import annotations

import weakref


def check_guidance_on_the_wire_teaches_nothing(lesson):
    plain = lesson.train("plain").parts()
    model = lesson.model.clone()
    model.set_model_sampler_post_cfg_function(lambda args: 1.5 * args["denoised"])
    lesson.model = model
    for name, (_, up, _) in lesson.train("guided").parts().items():
        assert lesson.torch.equal(up, plain[name][1]), name


def check_caches_on_the_wire_teach_what_the_model_teaches(lesson):
    """They keep work from step to step of a sampler, and steps of a training have nothing in common."""
    from comfy_extras import nodes_easycache

    asked = []

    def early_steps_count(call, args):
        """Skips what it has seen, as other packs do, save in the first tenth of the steps that it is told of."""
        network, told = lesson.model.model.diffusion_model, args["c"]["transformer_options"]["sample_sigmas"]
        step = int((told == args["timestep"][0]).nonzero()[0])
        asked.append((step, hasattr(network, "kept_output")))
        if step / (len(told) - 2) < 0.1:
            network.kept_output = call(args["input"], args["timestep"], **args["c"])
        return network.kept_output

    plain, usual = lesson.train("plain").parts(), lesson.model
    cached = usual.clone()
    cached.set_model_unet_function_wrapper(early_steps_count)
    makers = (nodes_easycache.EasyCacheNode, nodes_easycache.LazyCacheNode)
    models = [cached, *(each.execute(usual, 1e6, 0.0, 1.0, False).result[0] for each in makers)]
    for number, lesson.model in enumerate(models):
        for name, (_, up, _) in lesson.train(f"cached {number}").parts().items():
            assert lesson.torch.equal(up, plain[name][1]), (number, name)
    assert set(asked) == {(0, False)} and not hasattr(usual.model.diffusion_model, "kept_output")
    lesson.model = usual


def check_steps_keep_nothing_of_caches(lesson):
    """What a cache of the host's or a patch puts into the options holds the graph, which holds the options."""
    import gc

    from comfy_extras import nodes_easycache

    kept, usual = [], lesson.model

    class Holder:
        output = None

    def keeps_output(call, args):
        output = call(args["input"], args["timestep"], **args["c"])
        holder = Holder()
        holder.output = output
        kept.append(weakref.ref(holder))
        args["c"]["transformer_options"]["kept by a patch"] = holder
        return output

    patched = usual.clone()
    patched.set_model_unet_function_wrapper(keeps_output)
    makers = (nodes_easycache.EasyCacheNode, nodes_easycache.LazyCacheNode)
    models = [*(each.execute(usual, 0.2, 0.1, 0.9, False).result[0] for each in makers), patched]
    for number, lesson.model in enumerate(models):
        alive = []
        for steps in (2, 6):
            lesson.train(f"kept {number} {steps}", steps=steps, gradient_checkpointing=True)
            gc.collect()
            alive.append(sum(isinstance(each, lesson.torch.Tensor) for each in gc.get_objects()))
        assert alive[1] - alive[0] < 8, (number, alive)
    assert kept and not any(each() for each in kept)
    lesson.model = usual


def check_weights_of_patches_get_a_sentence(lesson):
    model, torch = lesson.model.clone(), lesson.torch
    layer = torch.nn.Linear(48, 48)  # made in inference mode, as blocks are that load something

    import comfy.patcher_extension as extension

    def spoil(executor, x, *args, **kw):
        return torch.nn.functional.linear(executor(x, *args, **kw).movedim(1, -1), layer.weight[:16, :16]).movedim(
            -1, 1
        )

    model.add_wrapper(extension.WrappersMP.DIFFUSION_MODEL, spoil)
    lesson.model = model
    try:
        lesson.train("spoiled")
        raise AssertionError("it learned")
    except ValueError as error:
        assert "take it off. LoRAs of 'Load LoRA' may stay" in str(error), error


def check_changes_in_place_spoil_no_gradient(lesson):
    """Of what a gradient needs: the network is watched from the second try on, and learns what it would have."""
    from pyramid_video.host.comfyui.open_network import CHANGED

    torch, network = lesson.torch, lesson.model.model.diffusion_model
    block = network.blocks[0]
    for saves in (False, True):
        plain = lesson.train(f"plain {saves}", gradient_checkpointing=saves).parts()
        assert network not in CHANGED
        usual = block.forward

        def forward(*args, usual=usual, **kw):
            output = usual(*args, **kw)
            ones = torch.exp(output * 0)
            product = output * ones
            ones.add_(1)
            return product

        block.forward = forward
        try:
            spoiled = lesson.train(f"in place {saves}", gradient_checkpointing=saves).parts()
            assert network in CHANGED
        finally:
            del block.forward
            CHANGED.discard(network)
        for name, (_, up, _) in spoiled.items():
            torch.testing.assert_close(up, plain[name][1], rtol=0, atol=1e-5)


PATCHED = {
    check_guidance_on_the_wire_teaches_nothing: ("wan2.1 t2v", "sdxl"),
    check_caches_on_the_wire_teach_what_the_model_teaches: ("wan2.1 t2v", "flux"),
    check_steps_keep_nothing_of_caches: ("wan2.1 t2v",),
    check_weights_of_patches_get_a_sentence: ("wan2.1 t2v",),
    check_changes_in_place_spoil_no_gradient: ("wan2.1 t2v",),
}
