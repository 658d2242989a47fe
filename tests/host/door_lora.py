"""What the door promises of LoRAs: core's loader puts our files on our models. Run as part of `door.py`."""

from __future__ import annotations

import logging
from contextlib import contextmanager

from door_tools import differs, same

LORA = "tiny_lora.safetensors"
OFFICIAL = {"miniflux": "diffusion_transformer_384p", "sd3": "diffusion_transformer_768p"}


@contextmanager
def warnings():
    """Collects what is logged as a warning or worse; core says so of every key it does not use."""
    said = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())
    logging.getLogger().addHandler(handler)
    try:
        yield said
    finally:
        logging.getLogger().removeHandler(handler)


def load(door, model, name: str, strength: float):
    return door.core.LoraLoaderModelOnly().load_lora_model_only(model, name, strength)[0]


def check_cores_lora_loader_takes_our_files(door):
    with warnings() as said:
        patched = load(door, door.model, LORA, 1.0)
        made = door.sample(patched)
    assert not said, said
    assert differs(made, door.usual)
    same(door, door.sample(load(door, door.model, LORA, 0.0)), door.usual)
    same(door, door.sample(), door.usual)


def check_cores_lora_loader_gives_what_the_runner_gives(door):
    from pyramid_video.host.standalone.host import StandaloneHost
    from pyramid_video.host.standalone.wires import apply_lora

    alone = StandaloneHost(door.path["diffusion_models"].parents[1], silent=True, device="cpu")
    model = apply_lora(alone.load_model(door.path["diffusion_models"]), alone.find_model("loras", LORA), 0.7)
    guider = alone.make_guider(model, door.positive, door.negative, door.guidance)
    sampler = alone.make_sampler(door.sampler.stages, door.sampler.history)
    there = alone.sample(guider, sampler, door.latent(), 5)["samples"]
    same(door, door.sample(load(door, door.model, LORA, 0.7)), there, 1e-4 * there.abs().max().item())


def check_cores_lora_loader_patches_every_layer_of_both_transformers(door):
    import comfy.lora
    from pyramid_video.models import checkpoints
    from pyramid_video.models.lora import load_lora, merge_lora

    for kind, part in OFFICIAL.items():
        path = door.official / f"pyramid-flow-{kind}" / part
        model = door.host.load_model(path, "fp32")
        with warnings() as said:
            patched = load(door, model, f"{kind}.safetensors", 0.7)
        assert not said, said
        lora = load_lora(door.host.find_model("loras", f"{kind}.safetensors"))
        assert patched.patches.keys() == {f"diffusion_model.{layer}.weight" for layer in lora}
        network, _ = checkpoints.load(path, ("miniflux", "mmdit"), dtype=door.torch.float32)
        expected = merge_lora(network, lora, 0.7)
        before = model.model.diffusion_model.state_dict()
        for layer in lora:
            key = f"{layer}.weight"
            theirs = comfy.lora.calculate_weight(patched.patches[f"diffusion_model.{key}"], before[key].clone(), key)
            assert not door.torch.equal(theirs, before[key])
            same(door, theirs, expected.get_submodule(layer).weight, 1e-6)
