"""Checkpoints: ours and every official form load bit for bit; everything else is refused in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from official_folders import CONFIGS, WEIGHTS, network, state_of, write_component
from pyramid_video.models import checkpoints
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


@pytest.mark.parametrize("ending", [".SAFETENSORS", ".Sft"])
def test_an_ending_in_capitals_is_an_ending(ending, tmp_path):
    save_file(state_of("causal_vae"), tmp_path / f"A{ending}")
    assert_same_weights(load(tmp_path / f"A{ending}", ["causal_vae"])[0], state_of("causal_vae"))


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
