"""Helios' files: official folders and single copies, which variant they are, and their weights bit for bit."""

from __future__ import annotations

import gc
import json
from pathlib import Path

import pytest
import torch
from official_helios import TRANSFORMER, transformer, write_descriptions, write_transformer
from pyramid_video.host.standalone import layers as standalone_layers
from pyramid_video.models import checkpoints
from pyramid_video.models.checkpoint_kinds import recognize
from pyramid_video.models.checkpoints import CheckpointError, inspect, load
from pyramid_video.models.config_from_shapes import config_from_shapes
from pyramid_video.models.families import ModelFamily
from pyramid_video.models.helios import HeliosConfig, HeliosTransformer
from pyramid_video.models.latent_format import WAN
from pyramid_video.models.lora import load_lora, merge_lora
from safetensors.torch import save_file


def assert_same_weights(module, state):
    loaded = module.state_dict()
    assert loaded.keys() == state.keys()
    for key, expected in state.items():
        assert torch.equal(loaded[key], expected), key


@pytest.mark.parametrize("switches", [{}, {"is_amplify_history": True}, {"guidance_cross_attn": False}], ids=str)
def test_an_official_folder_in_shards_loads_bit_for_bit(tmp_path, switches):
    folder = write_transformer(tmp_path / "Helios-Mid" / "transformer", **switches)
    assert len(list(folder.glob("*.safetensors"))) > 2
    network, info = load(folder, ["helios"], dtype=torch.float32)
    assert_same_weights(network, transformer(**switches).state_dict())
    assert info.config == HeliosConfig.from_dict(TRANSFORMER | switches)
    assert (info.kind, info.latent_format, info.family.variant) == ("helios", WAN, "mid")
    assert checkpoints.compute_dtype(info) == torch.float32


@pytest.mark.parametrize("variant", ["base", "mid", "distilled"])
@pytest.mark.parametrize("missing", [None, "model_index.json", "scheduler/scheduler_config.json"])
def test_the_pipeline_around_it_tells_the_variant(tmp_path, variant, missing):
    top = write_descriptions(tmp_path / "my helios", variant)
    folder = write_transformer(top / "transformer")
    if missing:
        (top / missing).unlink()
    assert inspect(folder).family == ModelFamily("pyramid", variant=variant)
    assert inspect(next(folder.glob("*00001*"))).family.variant == variant


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("Helios-Base.safetensors", "base"),
        ("helios_mid_fp8_e4m3fn.safetensors", "mid"),
        ("Helios-Distilled_bf16.safetensors", "distilled"),
        ("helios database.safetensors", "distilled"),
    ],
)
def test_else_its_name_does(tmp_path, name, variant):
    save_file(transformer().state_dict(), tmp_path / name)
    assert inspect(tmp_path / name).family.variant == variant


def test_a_guess_is_logged(tmp_path, caplog):
    save_file(transformer().state_dict(), tmp_path / "video.safetensors")
    assert inspect(tmp_path / "video.safetensors").family.variant == "distilled" and "does not say" in caplog.text


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model.", "diffusion_model.", "transformer."])
@pytest.mark.parametrize("switches", [{}, {"is_amplify_history": True}], ids=str)
def test_single_files_need_no_config_and_may_have_a_prefix(tmp_path, prefix, switches):
    state = transformer(**switches).state_dict()
    save_file({prefix + key: value for key, value in state.items()}, tmp_path / "base.safetensors")
    network, info = load(tmp_path / "base.safetensors", ["helios"], dtype=torch.float32)
    assert_same_weights(network, state)
    assert info.prefix == prefix and info.config == HeliosConfig.from_dict(TRANSFORMER | switches)


def test_full_size_config_follows_from_shapes():
    for config in (HeliosConfig(), HeliosConfig(is_amplify_history=True, history_scale_mode="scalar")):
        state = HeliosTransformer(config, device="meta").state_dict()
        shapes = {key: tuple(value.shape) for key, value in state.items()}
        assert recognize(shapes) == {"helios": ""}
        assert HeliosConfig.from_dict(config_from_shapes("helios", "Helios", shapes)) == config


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_fp8_keeps_matrices_small_and_the_rest_exact(tmp_path, dtype):
    """A file in fp8, as people share them, and fp8 asked of a file in float32: computed in bfloat16 both."""
    state = transformer().state_dict()
    coarse = {key: value.to(dtype if value.ndim == 2 else torch.bfloat16) for key, value in state.items()}
    save_file(coarse, tmp_path / "distilled_fp8.safetensors")
    save_file(state, tmp_path / "distilled.safetensors")
    shared, _ = load(tmp_path / "distilled_fp8.safetensors", ["helios"], standalone_layers, dtype=dtype)
    cast, _ = load(tmp_path / "distilled.safetensors", ["helios"], standalone_layers, dtype=dtype)
    for network in (shared, cast):
        for name, value in network.state_dict().items():
            exact = any(part in name for part in HeliosTransformer.KEEPS_FLOAT32)
            matrix = value.ndim == 2 and name.endswith(".weight")
            assert value.dtype == (torch.float32 if exact else dtype if matrix else torch.bfloat16), name
    draw = lambda *shape: torch.randn(*shape, generator=torch.Generator().manual_seed(0)).bfloat16()  # noqa: E731
    given = draw(1, 16, 9, 4, 4), torch.tensor([500.0]), draw(1, 5, TRANSFORMER["text_dim"])
    with torch.no_grad():
        answers = [network(*given).float() for network in (shared, cast)]
        exact = load(tmp_path / "distilled.safetensors", ["helios"])[0](given[0].float(), given[1], given[2].float())
    for answer in answers:
        assert (answer - exact).norm() < 0.2 * exact.norm()


def test_what_is_saved_comes_back_with_its_variant(tmp_path):
    made = HeliosTransformer(HeliosConfig.from_dict(TRANSFORMER))
    made.load_state_dict(transformer().state_dict())
    extra = {"family": ModelFamily("pyramid", variant="mid").to_dict()}
    path = checkpoints.save(tmp_path / "own.safetensors", made, "helios", made.config, WAN, extra)
    again, info = load(path, ["helios"], dtype=torch.float32)
    assert_same_weights(again, made.state_dict())
    assert info.family.variant == "mid" and info.latent_format == WAN


def test_strangers_and_wrong_places_are_refused_in_one_sentence(tmp_path):
    path = write_transformer(tmp_path / "transformer")
    with pytest.raises(CheckpointError, match="looks like a Helios transformer; this place takes a Pyramid Flow"):
        inspect(path, checkpoints.TRAINABLE)
    state = transformer().state_dict()
    wan = {key: value for key, value in state.items() if not key.startswith(("patch_short", "patch_mid", "patch_long"))}
    save_file(wan, tmp_path / "wan.safetensors")
    with pytest.raises(CheckpointError, match="looks like a Wan transformer"):
        inspect(tmp_path / "wan.safetensors")
    save_file({key: value for key, value in state.items() if "blocks.1" not in key}, tmp_path / "short.safetensors")
    assert inspect(tmp_path / "short.safetensors").config.num_layers == 1
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"num_layers": 3}))
    with pytest.raises(CheckpointError, match="lacks"):
        inspect(path)


def mapped(path) -> list[tuple[int, int]]:
    """Where files below `path` lie in this process's memory, not copied."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    spans = (line.split()[0].split("-") for line in lines if str(path) in line)
    return [(int(start, 16), int(end, 16)) for start, end in spans]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="asks Linux what is in memory")
def test_weights_are_in_memory_once(tmp_path, monkeypatch):
    """As stored, matrices are the file itself; cast, nothing of the file is kept."""
    monkeypatch.setattr(checkpoints, "SMALL", 0)  # tiny files are copied out
    folder = write_transformer(tmp_path / "transformer", dtype=torch.bfloat16)
    kept, _ = load(folder, ["helios"], dtype=torch.bfloat16)
    spans = mapped(tmp_path)
    for name, weight in kept.named_parameters():
        inside = any(start <= weight.data_ptr() and weight.data_ptr() + weight.nbytes <= end for start, end in spans)
        assert inside == (weight.ndim == 2 and weight.dtype == torch.bfloat16), name
    del kept, weight
    gc.collect()
    assert not mapped(tmp_path)
    cast, _ = load(folder, ["helios"], standalone_layers, dtype=torch.float8_e4m3fn)
    assert not mapped(tmp_path) and sum(weight.nbytes for weight in cast.parameters())


def test_a_lora_as_diffusers_saves_it_goes_into_the_weights(tmp_path):
    """`transformer.<layer>.lora_A` and `lora_B`: the weights become W + strength * B A, and nothing else changes."""
    network, _ = load(write_transformer(tmp_path / "transformer"), ["helios"], dtype=torch.float32)
    layers = ("blocks.0.attn1.to_q", "blocks.1.attn2.to_out.0", "blocks.1.ffn.net.2")
    parts, weights = {}, network.state_dict()
    for number, layer in enumerate(layers):
        outputs, inputs = weights[f"{layer}.weight"].shape
        generator = torch.Generator().manual_seed(number)
        parts[layer] = torch.randn(3, inputs, generator=generator), torch.randn(outputs, 3, generator=generator)
    state = {
        f"transformer.{layer}.lora_{name}.weight": part
        for layer, pair in parts.items()
        for name, part in zip("AB", pair, strict=True)
    }
    save_file(state, tmp_path / "lora.safetensors")
    changed = merge_lora(network, load_lora(tmp_path / "lora.safetensors"), strength=0.5).state_dict()
    for key, weight in weights.items():
        down, up = parts.get(key.removesuffix(".weight"), (None, None))
        expected = weight if down is None else weight + 0.5 * up @ down
        torch.testing.assert_close(changed[key], expected, msg=key)
