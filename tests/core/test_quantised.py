"""Quantised files: every form that ComfyUI writes for float8 reads as what it means, and damaged ones say where."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from pyramid_video.models import checkpoints
from pyramid_video.models.checkpoint_files import CheckpointError
from pyramid_video.models.quantising import quantise
from pyramid_video.runner.cli import main
from safetensors import safe_open
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from official_folders import write_component

KINDS = ("miniflux", "mmdit", "helios")
LAYER = "transformer_blocks.0.attn.to_q"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    top = tmp_path_factory.mktemp("official")
    return {kind: write_source(top / kind, kind) for kind in KINDS}


def write_source(folder: Path, kind: str) -> Path:
    if kind != "helios":
        write_component(folder, kind)
        return folder
    from pyramid_video.models.helios import HeliosConfig, HeliosTransformer

    sizes = {"num_attention_heads": 1, "attention_head_dim": 128, "text_dim": 24, "ffn_dim": 64, "num_layers": 2}
    network = HeliosTransformer(HeliosConfig.from_dict(sizes))
    generator = torch.Generator().manual_seed(0)
    state = {key: torch.randn(value.shape, generator=generator) for key, value in network.state_dict().items()}
    return checkpoints.save(folder.with_suffix(".safetensors"), state, "helios", network.config)


@pytest.fixture(scope="module")
def written(folders, tmp_path_factory):
    """A miniFLUX in fp8: the file, and its tensors as they are stored."""
    file = quantise(folders["miniflux"], tmp_path_factory.mktemp("fp8") / "flux.safetensors")
    return file, load_file(file)


def weights(path: Path) -> dict[str, torch.Tensor]:
    return checkpoints.load(path, KINDS, dtype=torch.float32)[0].state_dict()


def described(file: Path) -> dict[str, str]:
    with safe_open(file, framework="pt") as opened:
        return opened.metadata()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("form", "error"), [("fp8", 2**-4), ("int8", 1 / 254)])
def test_quantised_weights_are_as_near_as_the_form_allows(folders, tmp_path, kind, form, error):
    """A number of fp8 is off by a sixteenth of itself at most (three bits), of int8 by half a step of its row."""
    file = quantise(folders[kind], tmp_path / "small.safetensors", form)
    info, exact, near = checkpoints.inspect(file), weights(folders[kind]), weights(file)
    assert info.kind == kind and info.quantised
    assert file.stat().st_size < sum(tensor.numel() * 2 for tensor in exact.values())
    for key, weight in exact.items():
        layer = key.removesuffix(".weight")
        if layer not in info.quantised:
            torch.testing.assert_close(near[key], weight, rtol=2**-8, atol=0)
            continue
        most = weight.abs().amax(1, keepdim=True)
        allowed = weight.abs() * error + weight.abs().max() * 2**-18 if form == "fp8" else most * error * 1.001
        assert ((near[key] - weight).abs() <= allowed).all(), key


def test_what_a_network_wants_in_float32_stays_in_it(folders, tmp_path):
    info = checkpoints.inspect(quantise(folders["helios"], tmp_path / "small.safetensors"))
    exact = checkpoints.network_classes("helios")[1].KEEPS_FLOAT32
    kept = [key for key in info.keys if any(part in key for part in exact)]
    assert kept and all(info.weights.tensors[info.keys[key]].dtype == torch.float32 for key in kept)


def test_every_way_of_writing_scales_means_the_same(written, tmp_path):
    """Settings beside the layers, a table in the header, scaled_fp8 with its mark, no word; with a prefix too."""
    file, stored = written
    plain = {key: value for key, value in stored.items() if not key.endswith("comfy_quant")}
    old = {
        key.replace("weight_scale", "scale_weight").replace("input_scale", "scale_input"): value
        for key, value in plain.items()
    }
    old |= {f"{LAYER}.scale_input": torch.ones(()), "scaled_fp8": torch.empty(2, dtype=torch.float8_e4m3fn)}
    layers = [key.removesuffix(".weight_scale") for key in stored if key.endswith(".weight_scale")]
    table = json.dumps({"format_version": "1.0", "layers": {layer: {"format": "float8_e4m3fn"} for layer in layers}})
    forms = {"plain": (plain, {}), "old": (old, {}), "table": (plain, {"_quantization_metadata": table})}
    inside = {f"model.diffusion_model.{key}": value for key, value in old.items()}
    forms["inside"] = (inside, {})
    expected = weights(file)
    for name, (tensors, header) in forms.items():
        save_file(tensors, tmp_path / f"{name}.safetensors", described(file) | header)
        for key, value in weights(tmp_path / f"{name}.safetensors").items():
            assert torch.equal(value, expected[key]), (name, key)
    marked = checkpoints.inspect(tmp_path / "old.safetensors").quantised[LAYER]
    assert marked.settings["full_precision_matrix_mult"] is True


def test_sizes_are_read_from_packed_weights_too(written, tmp_path):
    """Without a description; four bits are two numbers in a byte."""
    file, stored = written
    rows, columns = stored[f"{LAYER}.weight"].shape
    packed = stored | {
        f"{LAYER}.weight": torch.zeros(rows, columns // 2, dtype=torch.uint8),
        f"{LAYER}.weight_scale": torch.zeros(128, 4, dtype=torch.float8_e4m3fn),
        f"{LAYER}.weight_scale_2": torch.ones(()),
        f"{LAYER}.comfy_quant": settings({"format": "nvfp4"}),
    }
    save_file(packed, tmp_path / "packed.safetensors")
    info = checkpoints.inspect(tmp_path / "packed.safetensors")
    assert info.quantised[LAYER].format == "nvfp4" and info.shape(f"{LAYER}.weight") == (rows, columns)
    with pytest.raises(CheckpointError, match=f"{LAYER} in nvfp4, which only the layers of a newer ComfyUI"):
        checkpoints.build(info)


def settings(values) -> torch.Tensor:
    return torch.tensor(list(json.dumps(values).encode()), dtype=torch.uint8)


def without(stored, key):
    return {name: value for name, value in stored.items() if name != key}


DAMAGES = {
    "no scale": (lambda s: without(s, f"{LAYER}.weight_scale"), f"lacks {LAYER}.weight_scale"),
    "no weight": (lambda s: without(s, f"{LAYER}.weight"), f"has no {LAYER}.weight"),
    "too many scales": (lambda s: s | {f"{LAYER}.weight_scale": torch.ones(3)}, f"{LAYER}.weight_scale of the shape"),
    "NaN": (lambda s: s | {f"{LAYER}.weight_scale": torch.tensor(torch.nan)}, f"{LAYER}.weight_scale"),
    "unknown": (lambda s: s | {f"{LAYER}.comfy_quant": settings({"format": "fp3"})}, "'fp3', which is not known"),
    "no format": (lambda s: s | {f"{LAYER}.comfy_quant": settings({})}, f"{LAYER}.comfy_quant: no format"),
    "no JSON": (lambda s: s | {f"{LAYER}.comfy_quant": torch.zeros(9, dtype=torch.uint8)}, "no format is named"),
    "no text": (lambda s: s | {f"{LAYER}.comfy_quant": torch.zeros(9)}, f"damaged settings .* {LAYER}.comfy_quant"),
    "list": (lambda s: s | {f"{LAYER}.comfy_quant": settings([1])}, "no format is named"),
    "other type": (lambda s: s | {f"{LAYER}.weight": torch.zeros(s[f"{LAYER}.weight"].shape)}, "not as torch.float8"),
    "wrong shape": (
        lambda s: s | {f"{LAYER}.weight": torch.zeros(8, 8).to(torch.float8_e4m3fn)},
        f"{LAYER}.weight has the shape",
    ),
    "foreign part": (lambda s: s | {f"{LAYER}.weight_scale_2": torch.ones(())}, "not a part of the format"),
    "a bias": (lambda s: s | {"transformer_blocks.0.attn.to_q.bias.weight_scale": torch.ones(())}, "has no .*bias.w"),
    "turned": (
        lambda s: s | {f"{LAYER}.comfy_quant": settings({"format": "int8_tensorwise", "convrot": True})},
        f"rotates {LAYER} in groups of 256 columns",
    ),
    "not a layer": (lambda s: s | {"transformer_blocks.0.norm1.weight_scale": torch.ones(())}, "norm1.weight"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files_name_the_tensor(written, tmp_path, damage):
    change, words = DAMAGES[damage]
    file, stored = written
    save_file(change(stored), tmp_path / "bad.safetensors", described(file))
    with pytest.raises(CheckpointError, match=words):
        weights(tmp_path / "bad.safetensors")


def test_a_damaged_table_in_the_header_is_said(written, tmp_path):
    file, stored = written
    for table in ("[", '{"layers": 3}', "[" * 10**5, '{"layers": {"transformer_blocks.0.attn.to_q": 7}}'):
        save_file(stored, tmp_path / "bad.safetensors", described(file) | {"_quantization_metadata": table})
        with pytest.raises(CheckpointError, match="_quantization_metadata|transformer_blocks.0.attn.to_q: no format"):
            checkpoints.inspect(tmp_path / "bad.safetensors")


def test_a_convolution_cannot_be_quantised(folders, tmp_path):
    file = quantise(folders["mmdit"], tmp_path / "sd3.safetensors")
    stored = load_file(file) | {"pos_embed.proj.weight_scale": torch.ones(())}
    stored["pos_embed.proj.weight"] = stored["pos_embed.proj.weight"].to(torch.float8_e4m3fn)
    save_file(stored, tmp_path / "bad.safetensors", described(file))
    with pytest.raises(CheckpointError, match=r"pos_embed\.proj in float8_e4m3fn, which only linear layers can be"):
        checkpoints.inspect(tmp_path / "bad.safetensors")


def test_a_layer_of_zeros_stays_zero(tmp_path, folders):
    kind, sources = "miniflux", checkpoints.inspect(folders["miniflux"])
    state = weights(folders["miniflux"]) | {}
    state[f"{LAYER}.weight"] = torch.zeros_like(state[f"{LAYER}.weight"])
    file = checkpoints.save(tmp_path / "zero.safetensors", state, kind, sources.config, sources.latent_format)
    for form in ("fp8", "int8"):
        assert not weights(quantise(file, tmp_path / f"{form}.safetensors", form))[f"{LAYER}.weight"].any()


def test_the_command_writes_a_file_and_refuses_what_it_cannot(folders, written, tmp_path, capsys):
    target = tmp_path / "small.safetensors"
    assert main(["quantise", str(folders["mmdit"]), str(target), "--to", "int8"]) == 0
    assert checkpoints.inspect(target).quantised and str(target) in capsys.readouterr().out
    for words, said in (
        ([folders["mmdit"], target], "exists"),
        ([target, tmp_path / "again.safetensors"], "quantised already"),
        ([folders["mmdit"], tmp_path / "small.bin"], "must end in .safetensors"),
        ([tmp_path / "nothing", tmp_path / "x.safetensors"], "nothing"),
    ):
        assert main(["quantise", *map(str, words)]) == 1
        assert said in capsys.readouterr().err
