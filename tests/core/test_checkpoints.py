"""Checkpoints: ours and every official form load bit for bit; everything else is refused in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from official_folders import CONFIGS, WEIGHTS, network, state_of, write_component
from pyramid_video.models import checkpoints
from pyramid_video.models.checkpoint_kinds import KINDS as ALL_KINDS
from pyramid_video.models.checkpoint_kinds import network_classes, recognize
from pyramid_video.models.checkpoints import CheckpointError, inspect, load, load_state_dict, save
from pyramid_video.models.config_from_shapes import config_from_shapes
from pyramid_video.models.latent_format import MINIFLUX, SD3, LatentFormat
from pyramid_video.models.text_encoder import TextEncoder, TextEncoderConfig, Tokenizer, init_weights
from safetensors.torch import save_file

KINDS = ("miniflux", "mmdit", "causal_vae")
MANIFESTS = {"miniflux": "miniflux", "mmdit": "sd3_mmdit", "causal_vae": "causal_video_vae"}
FORMAT = LatentFormat("small", (0.1, -0.2, 0.0, 1.0), (1.0, 2.0, 1.0, 3.0), (0.0, 0.5, 0.0, 0.0), (0.5, 1.5, 1.0, 1.0))


def assert_same_weights(module: torch.nn.Module, state: dict[str, torch.Tensor]) -> None:
    loaded = module.state_dict()
    assert loaded.keys() == state.keys()
    for key, expected in state.items():
        assert torch.equal(loaded[key], expected), key


# What is read


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_comes_back_bit_for_bit(kind, tmp_path):
    made = network(kind)
    path = save(tmp_path / "new" / "own.safetensors", made, kind, made.config, FORMAT, {"steps": 7})
    again, info = load(path, [kind])
    assert_same_weights(again, made.state_dict())
    assert (info.kind, info.config, info.latent_format, info.metadata["steps"]) == (kind, made.config, FORMAT, 7)
    assert not again.training and info.name == "own"


def test_numbers_that_float16_cannot_hold_are_not_saved_as_infinity(tmp_path):
    made = network("miniflux")
    state = {key: value.clone() for key, value in made.state_dict().items()}
    name = next(iter(state))
    state[name].view(-1)[0] = 1e5
    with pytest.raises(ValueError, match=f"{name} has numbers up to 1e.05, too large for fp16"):
        save(tmp_path / "own.safetensors", state, "miniflux", made.config, FORMAT, dtype=torch.float16)
    assert not list(tmp_path.iterdir())
    save(tmp_path / "own.safetensors", state, "miniflux", made.config, FORMAT, dtype=torch.bfloat16)


def test_a_text_encoder_comes_back_with_its_tokenizer(tmp_path):
    tokenizer = Tokenizer.train(["a tiger on a red background"], vocab_size=300, max_tokens=12)
    made = TextEncoder(TextEncoderConfig(tokenizer.vocab_size, 16, 1, 2, 12))
    init_weights(made, torch.Generator().manual_seed(0))
    path = save(tmp_path / "t.safetensors", made, "text_encoder", made.config, extra={"tokenizer": tokenizer.to_json()})
    again, info = load(path, ["text_encoder"])
    assert_same_weights(again, made.state_dict())
    assert checkpoints.load_tokenizer(info).encode("Tiger 字") == tokenizer.encode("Tiger 字")


def test_a_text_encoder_without_a_tokenizer_is_refused(tmp_path):
    made = TextEncoder(TextEncoderConfig(300, 16, 1, 2, 12))
    path = save(tmp_path / "t.safetensors", made, "text_encoder", made.config)
    with pytest.raises(CheckpointError, match="no usable tokenizer"):
        checkpoints.load_tokenizer(inspect(path))
    other = Tokenizer.train(["a tiger"], vocab_size=260, max_tokens=13).to_json()
    save(path, made, "text_encoder", made.config, extra={"tokenizer": other})
    with pytest.raises(CheckpointError, match="tokenizer of another text encoder"):
        checkpoints.load_tokenizer(inspect(path))
    save_file(made.state_dict(), tmp_path / "bare.safetensors")
    with pytest.raises(CheckpointError, match="no tokenizer"):
        inspect(tmp_path / "bare.safetensors")


@pytest.mark.parametrize("form", ["safetensors", "safetensors shards", "bin", "bin shards"])
@pytest.mark.parametrize("kind", KINDS)
def test_official_folders_load_in_every_form(kind, form, tmp_path):
    folder = write_component(tmp_path / "component", kind, form=form)
    loaded, info = load(folder, [kind])
    assert_same_weights(loaded, state_of(kind))
    assert info.config == network(kind).config
    assert checkpoints.looks_like_component_folder(folder) and not checkpoints.looks_like_component_folder(tmp_path)
    from_inside = inspect(sorted(folder.glob(f"{WEIGHTS}*.{'bin' if 'bin' in form else 'safetensors'}"))[0])
    assert (from_inside.files, from_inside.config) == (info.files, info.config)


def test_shards_without_their_index_are_found_by_name(tmp_path):
    folder = write_component(tmp_path / "component", "miniflux", form="safetensors shards")
    (folder / f"{WEIGHTS}.safetensors.index.json").unlink()
    assert_same_weights(load(folder, KINDS)[0], state_of("miniflux"))


def test_official_numbers_come_with_the_kind(tmp_path):
    for kind, expected in (("miniflux", MINIFLUX), ("mmdit", SD3), ("causal_vae", None)):
        assert inspect(write_component(tmp_path / kind, kind)).latent_format == expected


def test_the_loaders_values_win_over_config_json(tmp_path):
    folder = write_component(tmp_path / "component", "miniflux")
    given = CONFIGS["miniflux"] | {"use_temporal_causal": False, "interp_condition_pos": False}
    (folder / "config.json").write_text(json.dumps(given))
    assert inspect(folder).config == network("miniflux").config
    folder = write_component(tmp_path / "mmdit", "mmdit")  # lacks the time rotation and the stretched positions
    assert inspect(folder).config.add_temp_pos_embed and inspect(folder).config.interp_condition_pos


@pytest.mark.parametrize("kind", KINDS)
def test_full_size_configs_follow_from_shapes(kind, reference):
    manifest = json.loads((reference / f"manifest_{MANIFESTS[kind]}.json").read_text())
    shapes = {key: tuple(shape) for key, shape in manifest["keys"].items()}
    config_class, network_class = network_classes(kind)
    config = config_class.from_dict(config_from_shapes(kind, kind, shapes))
    assert config == config_class.from_dict(manifest["config_on_disk"] | manifest["added_by_the_loader"])
    assert recognize(shapes) == {kind: ""}
    state = network_class(config, device="meta").state_dict()
    assert {key: tuple(value.shape) for key, value in state.items()} == shapes


@pytest.mark.parametrize("prefix", ["", "dit.", "module.", "module.dit.", "model.diffusion_model."])
@pytest.mark.parametrize("kind", ["miniflux", "mmdit"])
def test_single_files_need_no_config_and_may_have_a_prefix(kind, prefix, tmp_path):
    passengers = {"vae.encoder.conv_in.conv.weight": torch.ones(1), "text_encoder_2.shared.weight": torch.ones(1)}
    passengers["v_pred"] = torch.ones(0)  # a mark of the host
    state = {prefix + key: value for key, value in state_of(kind).items()} | passengers
    save_file(state, tmp_path / "single.safetensors")
    loaded, info = load(tmp_path / "single.safetensors", [kind])
    assert_same_weights(loaded, state_of(kind))
    assert (info.prefix, info.config) == (prefix, network(kind).config)


@pytest.mark.parametrize("prefix", ["", "vae.", "module."])
def test_a_single_vae_is_measured_and_its_norm_groups_are_a_logged_guess(prefix, tmp_path, caplog):
    save_file({prefix + key: value for key, value in state_of("causal_vae").items()}, tmp_path / "vae.safetensors")
    loaded, info = load(tmp_path / "vae.safetensors", ["causal_vae"])
    assert_same_weights(loaded, state_of("causal_vae"))
    expected = network("causal_vae").config.to_dict() | {"encoder_norm_num_groups": 8, "decoder_norm_num_groups": 8}
    assert info.config.to_dict() == expected
    assert "guess" in caplog.text


def test_one_file_with_everything_gives_each_place_its_part(tmp_path):
    state = {f"dit.{key}": value for key, value in state_of("miniflux").items()}
    state |= {f"vae.{key}": value for key, value in state_of("causal_vae").items()}
    save_file(state | {"text_encoder.shared.weight": torch.ones(2)}, tmp_path / "all.safetensors")
    assert_same_weights(load(tmp_path / "all.safetensors", ["miniflux", "mmdit"])[0], state_of("miniflux"))
    assert_same_weights(load(tmp_path / "all.safetensors", ["causal_vae"])[0], state_of("causal_vae"))


def test_a_vae_from_official_training_is_read(tmp_path):
    model = {f"vae.{key}": value for key, value in state_of("causal_vae").items()}
    model["loss.discriminator.main.0.weight"] = torch.ones(3)
    torch.save({"model": model, "optimizer": {"state": {}, "lr": 1e-4}, "epoch": 3}, tmp_path / "checkpoint.pth")
    assert_same_weights(load(tmp_path / "checkpoint.pth", ["causal_vae"])[0], state_of("causal_vae"))


def test_a_model_saved_by_the_host_carries_its_description_in_a_tensor(tmp_path):
    made = network("miniflux")
    about = {"kind": "miniflux", "config": made.config.to_dict(), "latent_format": FORMAT.to_dict()}
    state = {f"model.diffusion_model.{key}": value for key, value in made.state_dict().items()}
    state[checkpoints.METADATA_KEY] = torch.tensor(list(json.dumps(about).encode()), dtype=torch.uint8)
    save_file(state, tmp_path / "saved.safetensors", metadata={"workflow": "{}"})
    loaded, info = load(tmp_path / "saved.safetensors", ["miniflux"])
    assert_same_weights(loaded, made.state_dict())
    assert (info.config, info.latent_format) == (made.config, FORMAT)


# Types and memory


@pytest.mark.parametrize(
    ("kind", "stored", "expected"),
    [
        ("miniflux", torch.float32, torch.float32),
        ("miniflux", torch.bfloat16, torch.bfloat16),
        ("miniflux", torch.float16, torch.bfloat16),
        ("mmdit", torch.float8_e4m3fn, torch.bfloat16),
        ("causal_vae", torch.bfloat16, torch.bfloat16),
        ("causal_vae", torch.float16, torch.float32),
    ],
)
def test_storage_types_become_types_to_compute_in(kind, stored, expected, tmp_path):
    state = {key: value.to(stored) for key, value in state_of(kind).items()}
    folder = write_component(tmp_path / "component", kind, state)
    loaded, info = load(folder, [kind])
    assert info.dtype == stored
    assert_same_weights(loaded, {key: value.to(expected) for key, value in state.items()})
    asked = checkpoints.build(info, dtype=torch.float64)
    assert_same_weights(asked, {key: value.double() for key, value in state.items()})
    for key, value in load_state_dict(info).items():
        assert value.dtype == stored and torch.equal(value.float(), state[key].float())


def test_float8_is_for_matrices_under_layers_that_cast(tmp_path):
    info = inspect(write_component(tmp_path / "component", "miniflux"))
    for key, value in load_state_dict(info, dtype=torch.float8_e4m3fn).items():
        matrix = value.ndim == 2 and key.endswith(".weight")
        assert value.dtype == (torch.float8_e4m3fn if matrix else torch.bfloat16)
    with pytest.raises(ValueError, match="plain layers"):
        checkpoints.build(info, dtype=torch.float8_e4m3fn)


def test_the_tensors_read_are_the_parameters(tmp_path, monkeypatch):
    info = inspect(write_component(tmp_path / "component", "miniflux"))
    read = load_state_dict(info)
    monkeypatch.setattr(checkpoints, "load_state_dict", lambda *args: read)
    built = checkpoints.build(info)
    assert all(value.data_ptr() == read[key].data_ptr() for key, value in built.state_dict().items())


@pytest.mark.parametrize("small", [0, 10**9])
def test_a_loaded_network_can_be_trained_and_outlives_its_file(small, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "SMALL", small)
    path = save(tmp_path / "own.safetensors", made := network("miniflux"), "miniflux", made.config)
    loaded, _ = load(path, ["miniflux"])
    before = path.read_bytes()
    with torch.no_grad():
        for parameter in loaded.parameters():
            parameter.add_(1)
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    assert path.read_bytes() == before
    save(path, loaded, "miniflux", loaded.config)
    assert_same_weights(loaded, {key: value + 1 for key, value in made.state_dict().items()})


def test_loading_draws_no_random_numbers(tmp_path):
    folder = write_component(tmp_path / "component", "causal_vae")
    before = torch.get_rng_state()
    load(folder, KINDS)
    assert torch.equal(torch.get_rng_state(), before)


# Saving


def test_a_failed_save_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    made = network("miniflux")
    path = save(tmp_path / "own.safetensors", made, "miniflux", made.config)
    before = path.read_bytes()

    def fails(tensors, file, metadata):
        Path(file).write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", fails)
    with pytest.raises(OSError, match="No space left"):
        save(path, made, "miniflux", made.config)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_saving_under_a_wrong_name_or_kind_is_refused(tmp_path):
    with pytest.raises(ValueError, match="must end in .safetensors"):
        save(tmp_path / "own.bin", {}, "miniflux", {})
    with pytest.raises(ValueError, match="not a kind that is saved"):
        save(tmp_path / "own.safetensors", {}, "official_text_sd3", {})


# What is refused

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


@pytest.mark.parametrize("kind", KINDS)
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
