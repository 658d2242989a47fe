"""Damaged weights, configs and run files: a sentence with the file's name, in little time, whatever lies in them."""

from __future__ import annotations

import json
import random
import shutil
import struct
import sys
from pathlib import Path

import official_folders
import pytest
import torch
from loop_toys import make_run, saved, train
from pyramid_video.drawings.curves import save_curves
from pyramid_video.models import checkpoints
from pyramid_video.models.causal_vae_config import CausalVAEConfig
from pyramid_video.models.latent_format import LatentFormat
from pyramid_video.models.lora import load_lora
from pyramid_video.models.network_config import LARGEST_SIZE
from pyramid_video.models.official_text import check_folders
from pyramid_video.models.text_encoder import TextEncoderConfig
from pyramid_video.models.wan_vae import WanVAEConfig
from pyramid_video.training.run.loss_log import read_losses
from pyramid_video.training.run.run_description import earlier_description, write_description
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "graph"))
from tiny_models import MODEL, TEXT, VAE, make_lora, make_models

STRANGE = [None, True, -1, 0, 10**9, 10**30, -5.5, 1e308, float("nan"), "", "x", "\ud800", [], ["x"], {}, [10**9] * 4]
RAW = ("' object", "argument", "attribute", "subscript", "codec", "Expecting", "must be real", "iterable", "NoneType")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = make_models(tmp_path_factory.mktemp("models"))
    make_lora(folder / "loras" / "lora.safetensors", folder / "diffusion_models" / MODEL)
    return folder


def open_any(path: Path) -> None:
    if path.parent.name == "loras":
        load_lora(path)
        return
    info = checkpoints.inspect(path)
    checkpoints.build(info)
    if info.kind == "text_encoder":
        checkpoints.load_tokenizer(info)


def say(path: Path, work=open_any) -> str:
    """What is said of a file; nothing where it is read all the same."""
    try:
        work(path)
    except ValueError as error:
        assert str(path.name) in str(error) and str(error).isprintable() and len(str(error)) < 900
        assert not any(word in str(error) for word in RAW), error
        return str(error)
    return ""


def places(value, path=()):
    """Every place in a JSON value."""
    yield path
    for key, part in (
        value.items() if isinstance(value, dict) else enumerate(value[:3] if isinstance(value, list) else ())
    ):
        yield from places(part, (*path, key))


def changed(value, draw: random.Random):
    """A JSON value with another one, or none, somewhere in it."""
    value = json.loads(json.dumps(value))
    *above, last = draw.choice([place for place in places(value) if place])
    part = value
    for key in above:
        part = part[key]
    if draw.random() < 0.2:
        del part[last]
    else:
        part[last] = draw.choice(STRANGE)
    return value


@pytest.mark.parametrize(
    "name", [f"diffusion_models/{MODEL}", f"vae/{VAE}", f"text_encoders/{TEXT}", "loras/lora.safetensors"]
)
def test_whatever_a_weight_file_says_of_itself_is_read_or_refused_in_words(models, tmp_path, name):
    data = (models / name).read_bytes()
    length = int.from_bytes(data[:8], "little")
    header, path, draw = json.loads(data[8 : 8 + length]), tmp_path / name, random.Random(name)
    path.parent.mkdir()
    said = 0
    for number in range(60):
        one = dict(header)
        if number % 3:
            (key,) = one["__metadata__"]
            described = json.dumps(changed(json.loads(one["__metadata__"][key]), draw))
            one["__metadata__"] = {key: described}
        else:
            one = changed(one, draw)
        text = json.dumps(one).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])
        said += bool(say(path))
    assert said > 10


@pytest.mark.parametrize("kind", official_folders.CONFIGS)
def test_whatever_a_config_says_is_obeyed_or_refused_in_words(tmp_path, kind):
    folder, draw = official_folders.write_component(tmp_path / kind, kind), random.Random(kind)
    config = official_folders.CONFIGS[kind]
    texts = [json.dumps(changed(config, draw)).encode() for _ in range(40)]
    texts += [
        b"",
        b"null",
        b"[]",
        b"[" * 200_000,
        b'{"a":' * 50_000,
        b"\xff\xfe{",
        b"{",
        b'{"a": 1' + b"0" * 6000 + b"}",
    ]
    for text in texts:
        (folder / "config.json").write_bytes(text)
        try:
            open_any(folder)
        except ValueError as error:
            assert kind in str(error) and not any(word in str(error).replace("JSON object", "") for word in RAW), error


@pytest.mark.parametrize("config", [TextEncoderConfig(300, 32, 1, 2, 32), CausalVAEConfig(), WanVAEConfig()], ids=repr)
def test_sizes_that_no_network_has_are_refused_before_anything_is_built(config):
    for name, value in config.to_dict().items():
        listed, counted = isinstance(value, list), name != "attn_scales"
        for strange in (*[-1, 10**9, LARGEST_SIZE + 1] * counted, "x", {}, float("nan")):
            with pytest.raises(ValueError, match=rf"{name} is .*expected"):
                type(config).from_dict(config.to_dict() | {name: [strange] * 4 if listed else strange})
        if listed:
            with pytest.raises(ValueError, match=rf"{name} is 3; expected a list"):
                type(config).from_dict(config.to_dict() | {name: 3})


@pytest.mark.parametrize("key", ["num_layers", "num_hidden_layers", "d_model", "d_ff", "hidden_size", "vocab_size"])
@pytest.mark.parametrize("value", [10**9, 77, 0, "2", None])
def test_a_text_encoder_whose_config_is_not_that_of_its_weights_is_not_built(tmp_path_factory, key, value):
    """A config of a billion layers would be built for ever."""
    top = tmp_path_factory.getbasetemp() / "texts"
    if not top.exists():
        official_folders.write_text_folders(top, "miniflux")
        assert check_folders(top) == "official_text_miniflux"
    for part in ("text_encoder", "text_encoder_2"):
        file = top / part / "config.json"
        before = file.read_bytes()
        if key not in json.loads(before):
            continue
        file.write_text(json.dumps(json.loads(before) | {key: value}))
        try:
            with pytest.raises(checkpoints.CheckpointError, match=rf"{part}/config.json: {key} is"):
                check_folders(top)
        finally:
            file.write_bytes(before)


@pytest.mark.parametrize(
    "values", [3, "x", None, {}, {"shift": "x"}, {"scale": 0}, {"scale": [1.0, float("inf")]}, {"rgb_factors": 1.5}]
)
def test_latent_formats_that_are_none(values):
    whole = LatentFormat("a", 0.0, 1.0, 0.0, 1.0).to_dict()
    with pytest.raises(ValueError, match="latent format"):
        LatentFormat.from_dict(whole | values if values and isinstance(values, dict) else values)


def test_a_lora_without_numbers_is_refused(tmp_path):
    layer = "diffusion_model.transformer_blocks.0.attn.to_q"
    whole = {f"{layer}.lora_down.weight": torch.ones(2, 8), f"{layer}.lora_up.weight": torch.ones(8, 2)}
    for key, tensor in (
        ("lora_down.weight", torch.ones(2, 8, dtype=torch.int32)),
        ("alpha", torch.ones(3)),
        ("lora_up.weight", torch.ones(8)),
        ("lora_down.weight", torch.full((2, 8), float("nan"))),
    ):
        save_file(whole | {f"{layer}.{key}": tensor}, tmp_path / "lora.safetensors")
        assert say(tmp_path / "lora.safetensors", load_lora)
    empty = {f"{layer}.lora_down.weight": torch.ones(0, 8), f"{layer}.lora_up.weight": torch.ones(8, 0)}
    save_file(empty, tmp_path / "lora.safetensors")
    assert "no rank" in say(tmp_path / "lora.safetensors", load_lora)


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    for until in (3, 5):
        run = make_run(folder)
        run.resume()
        train(run, until)
    write_description(folder, {"kind": "toy", "seed": 3})
    return folder


DAMAGES = {
    "empty": lambda path: path.write_bytes(b""),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "noise": lambda path: path.write_bytes(random.Random(0).randbytes(3000)),
    "null": lambda path: path.write_text("null"),
    "list": lambda path: path.write_text("[1, 2]\n[3]\n"),
    "deep": lambda path: path.write_text("[" * 100_000),
    "words": lambda path: path.write_text(
        '{"step": "x", "seed": [], "accumulate": {}, "processes": null, "loss": "low"}\n'
    ),
    "huge numbers": lambda path: path.write_text('{"step": 1e999, "accumulate": 1e999, "loss": 1' + "0" * 5000 + "}\n"),
    "no file": lambda path: path.unlink(),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("name", ["losses.jsonl", "settings.json", "curves.png"])
def test_files_that_are_for_people_never_stop_a_run(whole_run, tmp_path, name, damage):
    folder = tmp_path / "run"
    shutil.copytree(whole_run, folder)
    save_curves(folder)
    damage(folder / name)
    run = make_run(folder)
    assert run.resume() and run.step == 5
    train(run)
    assert saved(folder)["step"] == 8
    read_losses(folder)
    save_curves(folder)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_description_is_named_with_what_to_do(whole_run, tmp_path, damage):
    folder = tmp_path / "run"
    shutil.copytree(whole_run, folder)
    damage(folder / "model.json")
    try:
        earlier_description(folder, {"kind": "toy", "seed": 3})
    except ValueError as error:
        assert (
            "model.json cannot be read" in str(error)
            and "Put back a copy of it, or remove it" in str(error)
            or ("is another one: its seed" in str(error))
        )
    else:
        assert not (folder / "model.json").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"step": "x"},
        {"step": -1},
        {"step": None},
        {"network": []},
        {"network": {"network.weight": 3}},
        {"optimizer": None},
        {"average": 3},
        {"batches": 1.5},
        {"skipped": {}},
    ],
    ids=str,
)
def test_what_is_no_state_is_passed_over_for_the_one_before(whole_run, tmp_path, caplog, change):
    shutil.copytree(whole_run, tmp_path / "run")
    torch.save(saved(whole_run) | change, tmp_path / "run" / "state.pt")
    run = make_run(tmp_path / "run")
    assert run.resume() and run.step == 3
    assert f"state.pt (its {next(iter(change))} is not what the state of a run holds)" in caplog.text


@pytest.mark.parametrize(
    "change",
    [
        {"optimizer": {"state": {}, "param_groups": []}},
        {"optimizer": {}},
        {"optimizer": {"state": {0: {"exp_avg": torch.ones(7)}}, "param_groups": [{"params": [0]}, {"params": [1]}]}},
        {"average": {}},
        {"average": {"shadow_params": [torch.ones(3), torch.ones(1)]}},
        {"network": {"network.weight": torch.ones(1)}},
    ],
    ids=[f"{number}" for number in range(6)],
)
def test_a_state_of_other_tensors_is_told(whole_run, tmp_path, change):
    shutil.copytree(whole_run, tmp_path / "run")
    torch.save(saved(whole_run) | change, tmp_path / "run" / "state.pt")
    with pytest.raises(
        ValueError, match=r"run holds a run (of another model|that trained other tensors).*Give the run"
    ):
        make_run(tmp_path / "run").resume()


def test_the_seed_that_counts_is_that_of_the_state(whole_run, tmp_path):
    """For settings.json is what people read, change and lose."""
    shutil.copytree(whole_run, tmp_path / "run")
    settings = tmp_path / "run" / "settings.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"seed": 99}))
    assert make_run(tmp_path / "run").resume()
