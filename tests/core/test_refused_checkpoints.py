"""Files that are not the checkpoint that belongs here are refused in one sentence, and nothing in them runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from official_folders import CONFIGS, WEIGHTS, network, state_of, write_component
from pyramid_video.models import checkpoints
from pyramid_video.models.checkpoint_kinds import KINDS as ALL_KINDS
from pyramid_video.models.checkpoints import CheckpointError, inspect, load, save
from safetensors.torch import save_file

STRANGERS = {
    "a LoRA": "transformer_blocks.0.attn.to_q.lora_A.weight",
    "a ControlNet": "controlnet_blocks.0.weight",
    "an AnimateDiff motion module": "down_blocks.0.motion_modules.0.norm.weight",
    "a FLUX.1 transformer": "time_text_embed.guidance_embedder.linear_1.weight",
    "a FLUX.1 transformer in its original layout": "double_blocks.0.img_attn.qkv.weight",
    "a HunyuanVideo transformer": "double_blocks.0.img_attn_qkv.weight",
    "a Stable Diffusion 3 checkpoint": "model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight",
    "a Wan transformer": "blocks.0.self_attn.norm_q.weight",
    "an LTX-Video": "model.diffusion_model.patchify_proj.weight",
    "a Stable Diffusion checkpoint": "model.diffusion_model.input_blocks.0.0.weight",
    "a Stable Diffusion UNet": "down_blocks.0.resnets.0.conv1.weight",
    "a Wan VAE": "decoder.middle.0.residual.0.gamma",
    "a CogVideoX VAE": "decoder.up_blocks.0.resnets.0.norm1.conv_y.conv.weight",
    "an image VAE": "encoder.down_blocks.0.resnets.0.conv1.weight",
    "a T5 text encoder alone": "encoder.block.0.layer.0.SelfAttention.q.weight",
    "a CLIP text encoder alone": "text_model.encoder.layers.0.self_attn.q_proj.weight",
    "a language model": "model.layers.0.self_attn.q_proj.weight",
    "an unknown model (its 1 tensors begin with something)": "something",
}


@pytest.mark.parametrize("meaning", STRANGERS)
def test_strangers_are_called_by_their_name(meaning, tmp_path):
    save_file({STRANGERS[meaning]: torch.ones(2)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError) as caught:
        inspect(tmp_path / "other.safetensors", ["miniflux", "mmdit"])
    assert f"looks like {meaning}" in str(caught.value)
    assert "takes a Pyramid Flow transformer" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "place", "said"),
    [
        ("causal_vae", ["miniflux", "mmdit"], r"a causal video VAE; this place takes a Pyramid Flow transformer"),
        ("miniflux", ["causal_vae"], r"a Pyramid Flow transformer \(miniFLUX\); this place takes a causal video"),
        ("mmdit", ["text_encoder"], r"a Pyramid Flow transformer \(SD3 MMDiT\); this place takes a text encoder"),
    ],
)
def test_our_own_kinds_in_the_wrong_place_are_named(kind, place, said, tmp_path):
    with pytest.raises(CheckpointError, match=f"looks like {said}"):
        inspect(write_component(tmp_path / "component", kind), place)


def test_a_whole_official_model_says_which_folders_to_choose(tmp_path):
    write_component(tmp_path / "diffusion_transformer_384p", "miniflux")
    write_component(tmp_path / "causal_video_vae", "causal_vae")
    (tmp_path / "text_encoder_2").mkdir()
    with pytest.raises(CheckpointError, match=r"a folder inside it \(causal_video_vae, diffusion_transformer_384p\)"):
        inspect(tmp_path, ["miniflux", "mmdit"])
    with pytest.raises(CheckpointError, match="lacks tokenizer, text_encoder, tokenizer_2"):
        inspect(tmp_path, ["text_encoder", "official_text_miniflux", "official_text_sd3"])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>Log in</html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "is a Git LFS pointer"),
        (b'{"error": "not found"}', "is a JSON file"),
        (b"GGUF\x03\x00\x00\x00", "is a GGUF file"),
        (b"PK\x03\x04rest", "is a zip archive"),
        (b"\x80\x04rest of a pickle", "is a Python pickle"),
        (b"\x00" * 100, "is not a safetensors file"),
        (b"\x40\x00\x00\x00\x00\x00\x00\x00{}", "cut off inside its header"),
        (b"\x02\x00\x00\x00\x00\x00\x00\x00{}", "holds no tensors"),
        (b"\x02\x00\x00\x00\x00\x00\x00\x00[]", "damaged safetensors header"),
    ],
)
def test_files_that_are_no_weights_are_named(content, said, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=said):
        inspect(tmp_path / "model.safetensors")


def test_a_scrambled_header_is_refused_or_harmless(tmp_path):
    made = network("miniflux")
    path = tmp_path / "own.safetensors"
    save_file(made.state_dict(), path)
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    generator = torch.Generator().manual_seed(0)
    refused = 0
    for _ in range(150):
        damaged = bytearray(whole)
        place = 8 + int(torch.randint(length, (), generator=generator))
        damaged[place] = int(torch.randint(32, 127, (), generator=generator))
        path.write_bytes(damaged)
        try:
            load(path, ["miniflux"])
        except CheckpointError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 100


def test_a_file_cut_off_anywhere_is_refused(tmp_path):
    made = network("miniflux")
    path = save(tmp_path / "own.safetensors", made, "miniflux", made.config)
    whole = path.read_bytes()
    for kept in (4, 12, 3000, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:kept])
        with pytest.raises(CheckpointError):
            inspect(path)
    torch.save(state_of("miniflux"), tmp_path / "own.bin")
    (tmp_path / "own.bin").write_bytes((tmp_path / "own.bin").read_bytes()[:-500])
    with pytest.raises(CheckpointError, match="damaged, cut off"):
        inspect(tmp_path / "own.bin")


def refusal(path: Path) -> str:
    """The sentence that a file is refused with."""
    with pytest.raises(CheckpointError) as caught:
        inspect(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_whatever_bytes_a_pickle_has_it_is_refused_in_one_sentence(tmp_path):
    path = tmp_path / "model.bin"
    generator = torch.Generator().manual_seed(0)
    noise = bytes(torch.randint(256, (60,), generator=generator).tolist())
    for first in range(256):
        for rest in (b"", b"nother line of text\nand one more\n", noise):
            path.write_bytes(bytes([first]) + rest)
            assert "run code" not in refusal(path)
    torch.save(state_of("miniflux"), path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    for kept in [*range(1, 500, 7), *range(500, len(whole), 9973)]:
        path.write_bytes(whole[:kept])
        refusal(path)
    path.write_bytes(whole[:-1])
    assert "damaged, cut off" in refusal(path)


def test_a_header_with_a_metadata_entry_of_the_wrong_type_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    tensor = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    for header, said in (
        ({"__metadata__": ["pyramid_video"], "a": tensor}, "damaged safetensors header"),
        ({"__metadata__": "pyramid_video", "a": tensor}, "damaged safetensors header"),
        ({"__metadata__": {checkpoints.METADATA_KEY: 5}, "a": tensor}, "damaged description"),
        ({"__metadata__": {checkpoints.METADATA_KEY: "[" * 100_000}, "a": tensor}, "damaged description"),
        ({"a": tensor | {"shape": [float("inf")]}}, "damaged safetensors header"),
    ):
        text = json.dumps(header).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(4))
        assert said in refusal(path)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e5m2, torch.int64, torch.bool, torch.uint8])
def test_a_description_tensor_of_any_type_is_refused_when_it_holds_no_description(dtype, tmp_path):
    for shape in ((), (3,), (0,), (2, 2)):
        save_file({checkpoints.METADATA_KEY: torch.ones(shape).to(dtype)}, tmp_path / "model.safetensors")
        assert "damaged description" in refusal(tmp_path / "model.safetensors")


@pytest.mark.parametrize("kind", ("miniflux", "mmdit", "causal_vae"))
def test_shapes_that_no_network_has_are_refused(kind, tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(state_of(kind), path)
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    for key in ALL_KINDS[kind].signature_keys:
        for shape in ([], [2, 3], [-1] * 5, [10**30], [1, 2, 3, 4, 5, 6]):
            text = json.dumps(header | {key: header[key] | {"shape": shape}}).encode()
            path.write_bytes(len(text).to_bytes(8, "little") + text + whole[8 + length :])
            refusal(path)


class Payload:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return (Path.touch, (self.trace,))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", ["model.pth", "component/diffusion_pytorch_model.bin"])
def test_a_pickle_with_code_never_runs(name, zipped, tmp_path):
    trace, path = tmp_path / "it ran", tmp_path / name
    path.parent.mkdir(exist_ok=True)
    torch.save({**state_of("miniflux"), "payload": Payload(trace)}, path, _use_new_zipfile_serialization=zipped)
    place = path if path.parent == tmp_path else path.parent
    with pytest.raises(CheckpointError, match="would run code when opened; it was not run"):
        inspect(place)
    assert not trace.exists()
    path.rename(disguised := tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError):
        inspect(disguised)
    assert not trace.exists()


def test_pickles_are_not_read_by_a_torch_that_cannot_do_it_safely(tmp_path, monkeypatch):
    torch.save(state_of("miniflux"), tmp_path / "model.bin")
    monkeypatch.setattr(torch, "__version__", "2.5.1+cpu")
    with pytest.raises(CheckpointError, match="update torch to 2.6"):
        inspect(tmp_path / "model.bin")


def test_missing_and_surplus_tensors_are_named(tmp_path):
    state = state_of("miniflux")
    lacking = {key: value for key, value in state.items() if key not in ("proj_out.bias", "norm_out.linear.weight")}
    save_file(lacking, tmp_path / "lacking.safetensors")
    with pytest.raises(CheckpointError, match=r"lacks 2 of 76 tensors: norm_out\.linear\.weight, proj_out\.bias$"):
        inspect(tmp_path / "lacking.safetensors")
    save_file(state | {f"odd.{number}": torch.ones(1) for number in range(5)}, tmp_path / "more.safetensors")
    with pytest.raises(CheckpointError, match=r"has 5 tensors too many: odd\.0, odd\.1, odd\.2, \.\.\.$"):
        inspect(tmp_path / "more.safetensors")


def test_a_file_whose_description_is_gone_is_named_with_the_cause(tmp_path):
    """Converters keep tensors and drop metadata; the sizes of a small model do not show in its tensors."""
    state = {key: value for key, value in state_of("miniflux").items() if "norm_q" not in key}
    save_file(state, tmp_path / "bare.safetensors")
    with pytest.raises(CheckpointError, match=r"bare\.safetensors carries no description.*converter.*norm_q"):
        inspect(tmp_path / "bare.safetensors", ["miniflux"])


def test_a_config_of_another_size_or_class_is_named(tmp_path):
    folder = write_component(tmp_path / "component", "miniflux")
    config = CONFIGS["miniflux"]
    for change, said in (
        ({"pooled_projection_dim": 99}, r"text_embedder.linear_1.weight has the shape \[32, 24\].*asks for \[32, 99\]"),
        ({"num_layers": 2}, r"lacks \d+ of \d+ tensors: transformer_blocks\.1\."),
        ({"_class_name": "FluxTransformer2DModel"}, "is of a FluxTransformer2DModel"),
        ({"guidance_embeds": True}, "guidance_embeds"),
        ({"num_layers": 10**6}, "num_layers is 1000000, but there are only 76 tensors"),
        *(
            ({key: value}, "fits no Pyramid Flow transformer|looks like a Pyramid Flow transformer")
            for key in ("in_channels", "num_attention_heads", "num_layers", "axes_dims_rope", "joint_attention_dim")
            for value in (None, -1, 0, "many", [], 10**15)
        ),
    ):
        (folder / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(CheckpointError, match=said):
            inspect(folder)
    for text in ("{", "[" * 100_000):
        (folder / "config.json").write_text(text)
        with pytest.raises(CheckpointError, match="config.json cannot be read: it (stops being|.*nested too)"):
            inspect(folder)


def test_a_folder_without_all_its_weights_is_named(tmp_path):
    folder = write_component(tmp_path / "component", "miniflux", form="safetensors shards")
    (folder / f"{WEIGHTS}-00002-of-00003.safetensors").unlink()
    with pytest.raises(CheckpointError, match="lacks diffusion_pytorch_model-00002-of-00003.safetensors"):
        inspect(folder)
    index = folder / f"{WEIGHTS}.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"x": "../../secret.safetensors"}}))
    with pytest.raises(CheckpointError, match="outside its own folder"):
        inspect(folder)
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="holds no weights"):
        inspect(tmp_path / "bare")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        inspect(tmp_path / "nothing")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(CheckpointError, match="not a weight file"):
        inspect(tmp_path / "notes.txt")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_found_when_loading(value, tmp_path):
    state = state_of("miniflux")
    state["proj_out.bias"][3] = value
    with pytest.raises(CheckpointError, match=r"NaN or infinite numbers in proj_out\.bias$"):
        load(write_component(tmp_path / "component", "miniflux", state), ["miniflux"])


def test_numbers_too_large_for_the_type_asked_for_are_found(tmp_path):
    state = state_of("causal_vae")
    state["quant_conv.conv.bias"][0] = 1e6
    with pytest.raises(CheckpointError, match="in quant_conv.conv.bias when cast from torch.float32 to torch.float16"):
        load(write_component(tmp_path / "component", "causal_vae", state), ["causal_vae"], dtype=torch.float16)


def test_a_description_that_lies_is_refused(tmp_path):
    made = network("miniflux")
    path = save(tmp_path / "own.safetensors", made, "causal_vae", made.config)
    with pytest.raises(CheckpointError, match="calls itself 'causal_vae' but looks like a Pyramid Flow transformer"):
        inspect(path)
    for broken in ("{", "[]", '{"kind": "miniflux"}'):
        save_file(state_of("miniflux"), path, metadata={checkpoints.METADATA_KEY: broken})
        with pytest.raises(CheckpointError, match="damaged description"):
            inspect(path)
    save(path, made, "miniflux", made.config, {"name": "half"})
    with pytest.raises(CheckpointError, match="damaged latent format"):
        inspect(path)
