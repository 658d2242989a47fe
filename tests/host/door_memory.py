"""What the door promises where the host has little memory: weights that stay behind give the same numbers."""

from __future__ import annotations

from contextlib import contextmanager
from unittest import mock

from door_lora import LORA
from door_lora import load as with_lora
from door_tools import same

OFFICIAL = {"miniflux": "diffusion_transformer_384p", "sd3": "diffusion_transformer_768p"}


@contextmanager
def no_memory():
    """The host as it is on a card that holds no weights (`--novram`): none are loaded, each is fetched for its use."""
    import comfy.model_management as management

    management.unload_all_models()
    state = management.VRAMState.NO_VRAM
    with mock.patch.multiple(management, vram_state=state, is_device_cpu=lambda device: False):
        yield
    management.unload_all_models()


def stay_behind(network) -> int:
    """How many layers fetch their weights at use."""
    return sum(getattr(layer, "comfy_cast_weights", False) for layer in network.modules())


def networks(door):
    """Everything of ours that the host loads, by name: the network and what can be asked of it."""
    host = door.host
    yield "model", door.model.model.diffusion_model
    yield "vae", door.vae.first_stage_model
    yield "text", door.clip.cond_stage_model
    for kind, part in OFFICIAL.items():
        top = door.official / f"pyramid-flow-{kind}"
        yield kind, host.load_model(top / part).model.diffusion_model
        yield f"vae of {kind}", host.load_vae(top / "causal_video_vae").first_stage_model


def check_all_weights_sit_in_layers_that_can_be_loaded_in_part(door):
    """The host moves and patches nothing else when it loads in part; a bare parameter is cast where it is used."""
    for name, network in networks(door):
        for path, layer in network.named_modules():
            own = [key for key, _ in layer.named_parameters(recurse=False)]
            leaf = not any(True for _ in layer.children())
            assert not own or not leaf or hasattr(layer, "comfy_cast_weights"), (name, path, type(layer), own)


def check_weights_that_stay_behind_give_the_same_clip(door):
    patched = with_lora(door, door.model, LORA, 0.7)
    expected = door.sample(patched)
    pictures, text = door.host.decode(door.vae, expected), door.host.encode_prompt(door.clip, "a tiger")[0]
    latent = door.vae.encode(pictures)
    with no_memory():
        same(door, door.sample(patched), expected, 1e-5)
        assert stay_behind(door.model.model.diffusion_model) > 10
        same(door, door.host.decode(door.vae, expected), pictures, 1e-6)
        same(door, door.vae.encode(pictures), latent, 1e-6)
        assert stay_behind(door.vae.first_stage_model) > 10
        again = door.host.encode_prompt(door.clip, "a tiger")[0]
        same(door, again[0], text[0], 1e-6)
        same(door, again[1]["pooled_output"], text[1]["pooled_output"], 1e-6)
    same(door, door.sample(), door.usual)


def check_where_memory_runs_out_the_clip_is_made_with_less_that_is_kept(door):
    """What is kept of earlier units fills the card: the forward that fails is done again with less of it."""
    import gc

    from pyramid_video.models.kv_cache import KVCache

    network, refused, latent = door.model.model.diffusion_model, [], door.latent(frames=5)

    def on_a_full_card(module, inputs, answer):
        caches = [thing for thing in gc.get_objects() if type(thing) is KVCache]
        if not refused and sum(len(cache.entries) for cache in caches) > 3:
            refused.append(True)
            raise door.torch.cuda.OutOfMemoryError("the card is full")

    expected = door.sample(latent=latent)
    handle = network.register_forward_hook(on_a_full_card)
    try:
        same(door, door.sample(latent=latent), expected, 1e-6)
    finally:
        handle.remove()
    assert refused, "nothing was kept, so nothing was tried"


def check_official_weights_that_stay_behind_give_the_same(door):
    for kind, part in OFFICIAL.items():
        top = door.official / f"pyramid-flow-{kind}"

        def made(top=top, part=part):
            model, clip = door.host.load_model(top / part), door.host.load_text_encoder(top)
            prompt = door.host.encode_prompt(clip, "a tiger")
            latent = {"samples": door.torch.zeros(1, door.host.model_info(model).latent_channels, 2, 8, 8)}
            return door.sample(model, positive=prompt, negative=prompt, latent=latent)

        expected = made()
        with no_memory():
            same(door, made(), expected, 1e-4 * expected.abs().max().item())


def check_unloading_frees_what_no_wire_holds(door):
    import gc
    import weakref

    import comfy.model_management as management

    kept = door.sample()
    kinds = {
        "model": lambda: door.host.load_model(door.path["diffusion_models"]),
        "vae": lambda: door.host.load_vae(door.path["vae"]),
        "clip": lambda: door.host.load_text_encoder(door.path["text_encoders"]),
    }
    use = {
        "model": door.sample,
        "vae": lambda vae: door.host.decode(vae, kept),
        "clip": lambda clip: door.host.encode_prompt(clip, "a tiger"),
    }
    for kind, make in kinds.items():
        wire = make()
        use[kind](wire)
        network = weakref.ref(wire.patcher.model if hasattr(wire, "patcher") else wire.model)
        management.unload_all_models()
        assert not [loaded for loaded in management.loaded_models() if loaded.model is network()]
        del wire
        gc.collect()
        assert network() is None, kind
