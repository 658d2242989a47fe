"""What ComfyUI calls differently from one generation to the next, with fakes in the place of its classes.

The real ones are asked in `tests/host`, which runs with whatever ComfyUI is there: tried with 0.3.64, 0.8.0, 0.33.0.
"""

from __future__ import annotations

import importlib
import json
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from pyramid_video.models.checkpoints import METADATA_KEY
from pyramid_video.models.latent_format import MINIFLUX
from pyramid_video.models.miniflux import MiniFluxConfig
from torch import nn

HOST_MODULES = """comfy comfy.conds comfy.latent_formats comfy.ldm comfy.ldm.modules comfy.ldm.modules.attention
comfy.model_base comfy.model_management comfy.model_patcher comfy.ops comfy.patcher_extension comfy.samplers comfy.sd
comfy.sd1_clip comfy.supported_models_base comfy.text_encoders comfy.text_encoders.t5 comfy.text_encoders.wan
comfy.utils comfy_execution comfy_execution.utils folder_paths latent_preview""".split()


class FakeModule(ModuleType):
    """A module of the host in which every name is an empty class, until a test says otherwise."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        setattr(self, name, type(name, (), {}))
        return getattr(self, name)


class OldModel:
    """The host's BaseModel up to 0.10: it finds the weights itself when it saves."""

    def apply_model(self, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options=None, **extra):
        return transformer_options, extra

    def state_dict_for_saving(self, clip_state_dict=None, vae_state_dict=None, clip_vision_state_dict=None):
        return {"model.diffusion_model.weight": torch.ones(1), **(vae_state_dict or {})}


class NewModel(OldModel):
    """That of 0.33, which is given them."""

    def state_dict_for_saving(self, unet_state_dict, clip_state_dict=None, vae_state_dict=None, clip_vision=None):
        return {f"model.{key}": value for key, value in unet_state_dict.items()} | (vae_state_dict or {})


def old_cache(executor, x, *args, **kw):
    """EasyCache of 0.3.64: what it kept of every prompt goes onto all rows, in place."""
    for uuid in kw["transformer_options"]["uuids"]:
        x += KEPT[uuid]
    return x


def new_cache(executor, x, *args, **kw):
    """That of 0.33: each prompt's own rows, still in place."""
    uuids = kw["transformer_options"]["uuids"]
    for rows, uuid in zip(x.chunk(len(uuids)), uuids, strict=True):
        rows += KEPT[uuid]
    return x


KEPT = {"positive": 2.0, "negative": 5.0}
GENERATIONS = {
    "0.3.64": (OldModel, old_cache, {"layer": None, "projected_pooled": True}),
    "0.33.0": (NewModel, new_cache, {"layer": None, "execution_device": torch.device("cpu")}),
}


@pytest.fixture(params=GENERATIONS)
def host(request, monkeypatch):
    """`comfy_model` and `comfy_text` of the door over a fake of one generation."""
    ours = [name for name in sys.modules if name.startswith("pyramid_video.host.comfyui.")]
    for name in ours:
        monkeypatch.delitem(sys.modules, name)
    fakes = {name: FakeModule(name) for name in HOST_MODULES}
    for name, fake in fakes.items():
        monkeypatch.setitem(sys.modules, name, fake)
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(fakes[parent], child, fake)
    base, cache, clip_options = GENERATIONS[request.param]
    fakes["comfy.model_base"].BaseModel = base
    fakes["comfy.model_management"].intermediate_device = lambda: torch.device("cpu")
    patching = fakes["comfy.patcher_extension"]
    patching.WrappersMP = SimpleNamespace(
        DIFFUSION_MODEL="diffusion_model", APPLY_MODEL="apply_model", OUTER_SAMPLE="outer_sample"
    )
    patching.get_all_wrappers = lambda kind, options: [cache] if "easycache" in options else []
    patching.WrapperExecutor = SimpleNamespace(new_class_executor=Executor)
    yield SimpleNamespace(
        model=importlib.import_module("pyramid_video.host.comfyui.model"),
        text=importlib.import_module("pyramid_video.host.comfyui.text"),
        saves_what_it_is_given=base is NewModel,
        clip_options=clip_options,
    )
    for name in [name for name in sys.modules if name.startswith("pyramid_video.host.comfyui.")]:
        del sys.modules[name]


class Executor:
    """The host's chain of wrappers, of which there is one at most here."""

    def __init__(self, work, network, wrappers) -> None:
        self.work, self.wrappers = work, wrappers

    def execute(self, *args, **kw):
        return self.wrappers[0](self.work, *args, **kw) if self.wrappers else self.work(*args, **kw)


def video_model(host):
    model = object.__new__(host.model.VideoModel)
    family = SimpleNamespace(to_dict=lambda: {"name": "pyramid"})
    model.info = SimpleNamespace(kind="miniflux", latent_format=MINIFLUX, family=family)
    model.diffusion_model = SimpleNamespace(config=MiniFluxConfig())
    return model


def test_a_saved_model_has_its_weights_and_its_description(host):
    vae = {"first_stage_model.weight": torch.zeros(1)}
    given = ({"diffusion_model.weight": torch.ones(1)},) if host.saves_what_it_is_given else ()
    state = video_model(host).state_dict_for_saving(*given, None, vae, None)
    assert set(state) == {"model.diffusion_model.weight", *vae, METADATA_KEY}
    assert json.loads(bytes(state[METADATA_KEY].tolist()))["kind"] == "miniflux"


def test_the_past_reaches_the_network_as_an_input(host):
    """Newer hosts compile a network without a look at `transformer_options`, and change the type of bare tensors."""
    model, x = video_model(host), torch.zeros(2, 1, 1, 4, 4)
    sizes = dict(in_channels=4, num_layers=1, num_single_layers=1, num_attention_heads=2, attention_head_dim=8)
    config = MiniFluxConfig(**sizes, joint_attention_dim=6, pooled_projection_dim=5, axes_dims_rope=(4, 2, 2))
    model.diffusion_model = host.model.host_network("miniflux")(config, torch.float32, operations=nn)
    model.manual_cast_dtype, model.get_dtype = None, lambda: torch.float32
    text = {"text": torch.zeros(2, 3, 6), "text_lengths": (3, 2), "pooled": torch.zeros(2, 5)}
    beside = {"timestep": torch.ones(1), "history": (torch.ones(1, 1, 2, 2, 2), torch.ones(1, 1, 1, 4, 4))}
    given = {"pyramid": beside, "uuids": ["positive", "negative"]}
    options, extra = model.apply_model(x, torch.ones(2), transformer_options=given, **text)
    assert options == given and extra["pyramid"] == (beside["timestep"],)
    assert extra["past"].shape == (2, 2 + 4, 4), "patches of both clips, for both rows"
    alone = model.apply_model(x, torch.ones(2), **text)[1]
    assert alone["past"] is None and alone["pyramid"] == (None,)
    assert alone["plan"].rotation.shape[1] == 3 + 4 < extra["plan"].rotation.shape[1]


def test_each_prompt_gets_its_own_memory_of_easy_cache(host):
    class Plain(nn.Module):
        def __init__(self, config, ops=None, device=None, dtype=None) -> None:
            super().__init__()

    class Network(host.model.HostNetwork, Plain):
        pass

    x = torch.zeros(4, 1)
    before = x.clone()
    uuids = ["positive", "negative"]  # two clips each
    options = {"easycache": object(), "uuids": uuids, "cond_or_uncond": [0, 1]}
    words = {"text": x, "text_lengths": (1, 1, 1, 1), "pooled": x}
    answer = Network(None, torch.float32).forward(x, x[:, 0], None, options, control=None, **words)
    assert answer.flatten().tolist() == [2.0, 2.0, 5.0, 5.0] and torch.equal(x, before)


def test_a_text_is_encoded_with_whatever_options_the_host_sets(host):
    from pyramid_video.models.text_encoder import TextEncoderConfig, init_weights

    network = host.text.HostTextEncoder(TextEncoderConfig(20, 8, layers=1, heads=2, max_tokens=6))
    init_weights(network, torch.Generator().manual_seed(0))
    tokens = {host.text.OWN: [[(3, 1.0), (4, 1.0)]]}
    with torch.no_grad():
        expected = network(torch.tensor([[3, 4]]))
        network.set_clip_options(host.clip_options)
        features, pooled, _ = network.encode_token_weights(tokens)
        network.reset_clip_options()
        again = network.encode_token_weights(tokens)[0]
    assert torch.equal(features, expected[0]) and torch.equal(pooled, expected[1]) and torch.equal(again, features)
