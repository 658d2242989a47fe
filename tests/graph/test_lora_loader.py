"""Core's LoraLoaderModelOnly in a workflow that runs without ComfyUI, with a tiny random model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from pyramid_video.host import use_host
from pyramid_video.host.standalone.core.loaders import LoraLoaderModelOnly
from pyramid_video.host.standalone.host import StandaloneHost
from pyramid_video.host.standalone.video import read_clip
from pyramid_video.host.standalone.wires import apply_lora
from pyramid_video.models import checkpoints
from pyramid_video.models.lora import save_lora
from pyramid_video.runner.cli import main
from safetensors.torch import load_file
from tiny_models import LORA, MODEL, TEXT, VAE, make_lora, make_models, make_transformer

API = Path(__file__).resolve().parents[2] / "workflows" / "api" / "text_to_video.json"
TINY = {
    "PyramidVideoLoadModel": {"model_name": MODEL},
    "PyramidVideoLoadVAE": {"vae_name": VAE},
    "PyramidVideoLoadTextEncoder": {"text_encoder_name": TEXT},
    "PyramidVideoStages": {"first_steps": 1, "video_steps": 1},
    "PyramidVideoEmptyLatent": {"length_unit": "frames", "frames": 5, "width": 64, "height": 64},
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = make_models(tmp_path_factory.mktemp("models"))
    make_lora(folder / "loras" / LORA, folder / "diffusion_models" / MODEL)
    make_transformer(folder / "diffusion_models" / "wide.safetensors", heads=3)
    make_lora(folder / "loras" / "wide.safetensors", folder / "diffusion_models" / "wide.safetensors")
    return folder


@pytest.fixture(autouse=True)
def forget_host():
    yield
    use_host(None)


def with_loras(prompt: dict, *loras: dict) -> dict:
    """The prompt with LoRA loaders, one after another, between the model and all that reads it."""
    (model,) = (key for key, node in prompt.items() if node["class_type"] == "PyramidVideoLoadModel")
    last = [model, 0]
    loaders = {}
    for number, values in enumerate(loras):
        key = f"lora{number}"
        loaders[key] = {"class_type": "LoraLoaderModelOnly", "inputs": {"model": last, **values}}
        last = [key, 0]
    for node in prompt.values():
        node["inputs"] = {name: last if value == [model, 0] else value for name, value in node["inputs"].items()}
    return prompt | loaders


@pytest.fixture
def run(tmp_path, models, capsys):
    """Runs text to video with LoRAs; gives the frames, or the sentence that tells why there are none."""

    def start(*loras: dict):
        prompt = json.loads(API.read_text("utf-8"))
        for node in prompt.values():
            node["inputs"].update(TINY.get(node["class_type"], {}))
        file = tmp_path / "graph.json"
        file.write_text(json.dumps(with_loras(prompt, *loras)))
        code = main(["run", str(file), "--models", str(models), "--out", str(tmp_path / "out"), "--json"])
        report = json.loads(capsys.readouterr().out)
        return read_clip(Path(report["files"][0])).images if code == 0 else report["error"]

    return start


def lora(strength: float, name: str = LORA) -> dict:
    return {"lora_name": name, "strength_model": strength}


def test_a_lora_changes_the_clip_and_at_strength_zero_does_not(run):
    plain = run()
    changed = run(lora(1.0))
    assert not torch.equal(changed, plain)
    assert torch.equal(run(lora(0.0)), plain)
    assert torch.equal(run(lora(1.0)), changed)
    assert not torch.equal(run(lora(-0.5)), changed)
    halves = run(lora(0.5), lora(0.5))
    torch.testing.assert_close(halves, changed, atol=0.05, rtol=0)


def test_a_wrong_lora_is_told(run, models):
    error = run(lora(1.0, "wide.safetensors"))
    assert "the LoRA wide.safetensors is of another model" in error and "train it anew" in error
    assert "(48, 48)" in error and "(32, 32)" in error
    assert "the nearest is" in run(lora(1.0, "tiny_lore.safetensors"))
    (models / "loras" / "no.safetensors").write_bytes((models / "diffusion_models" / MODEL).read_bytes())
    assert "is no LoRA of a model of this pack" in run(lora(1.0, "no.safetensors"))


@pytest.mark.parametrize("stored", ["bf16", "fp32", "fp8_e4m3fn"])
def test_the_model_before_the_loader_stays_as_it_is(models, stored):
    host = StandaloneHost(models, silent=True, device="cpu")
    use_host(host)
    model = host.load_model(host.find_model("diffusion_models", MODEL), stored)
    before = {key: tensor.clone() for key, tensor in model.network.state_dict().items()}
    (changed,) = LoraLoaderModelOnly().load_lora_model_only(model, LORA, 1.0)
    after = model.network.state_dict()
    assert all(torch.equal(after[key].float(), before[key].float()) for key in before)
    assert changed.info == model.info and changed.network is not model.network
    weights = changed.network.state_dict()
    key = "transformer_blocks.0.attn.to_q.weight"
    assert not torch.equal(weights[key].float(), before[key].float())
    fine = torch.bfloat16 if stored == "bf16" else torch.float32
    assert {tensor.dtype for key, tensor in weights.items() if key.endswith("to_q.weight")} == {fine}
    (same,) = LoraLoaderModelOnly().load_lora_model_only(model, LORA, 0.0)
    assert all(torch.equal(weight.float(), before[key].float()) for key, weight in same.network.state_dict().items())


@pytest.mark.parametrize(
    ("base", "warnings"),
    [
        ({"family": {"name": "diffusion"}}, ["the LoRA other.safetensors was trained on a diffusion model"]),
        ({"family": {"name": "pyramid"}}, []),
        ({"family": {"name": "of another program"}}, []),
        ("a model of another program", []),
        (None, []),
    ],
)
def test_a_lora_of_another_family_is_warned_of(models, tmp_path, caplog, base, warnings):
    """The bundled models have the same layers, so it fits; the clip is what suffers."""
    host = StandaloneHost(models, silent=True, device="cpu")
    model = host.load_model(host.find_model("diffusion_models", MODEL))
    about = {"kind": "lora", "config": {}, **({} if base is None else {"base": base})}
    file = save_lora(tmp_path / "other.safetensors", load_file(models / "loras" / LORA), about)
    apply_lora(model, file, 1.0)
    assert [message.split(", and")[0] for message in caplog.messages] == warnings
    assert not warnings or f"and {model.info.name} is a pyramidal flow" in caplog.text


def test_something_else_on_the_model_wire_is_told(models):
    with pytest.raises(ValueError, match="this MODEL is a str, not one that 'Load video model' makes"):
        apply_lora("model", models / "loras" / LORA, 1.0)


def test_loras_are_listed(models, capsys):
    assert main(["models", "--models", str(models)]) == 0
    assert f"  {LORA}: LoRA of " in capsys.readouterr().out


def test_a_lora_among_the_models_is_told(models):
    (models / "diffusion_models" / "no_model.safetensors").write_bytes((models / "loras" / LORA).read_bytes())
    with pytest.raises(ValueError, match="looks like a LoRA, which goes on top of a model"):
        checkpoints.inspect(models / "diffusion_models" / "no_model.safetensors")
