"""The Helios workflows, run without ComfyUI on a tiny Helios in the official layout."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from official_helios import write_helios
from pyramid_video.host import use_host
from pyramid_video.host.standalone.host import StandaloneHost
from pyramid_video.host.standalone.video import read_clip
from pyramid_video.nodes.helios_conditioning import HeliosConditioning
from pyramid_video.runner.cli import main
from pyramid_video.samplers.presets import PRESETS

pytest.importorskip("transformers")

FAST = {
    "1.weight_dtype": "fp32",
    "2.vae_name": "Helios-Distilled/vae",
    "3.clip_name": "Helios-Distilled",
    "6.first_steps": 1,
    "6.video_steps": 1,
    "8.width": 64,
    "8.height": 64,
    "8.frames": 66,
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    write_helios(root / "pyramid_video" / "Helios-Distilled")
    return root


@pytest.fixture(autouse=True)
def forget_host():
    yield
    use_host(None)


def run(stem: str, models: Path, out: Path, capsys, *options: str) -> torch.Tensor:
    changes = [word for key, value in FAST.items() for word in ("--set", f"{key}={value}")]
    code = main(
        ["run", f"workflows/{stem}.json", "--models", str(models), "--out", str(out), "--json", *changes, *options]
    )
    said = capsys.readouterr()
    assert code == 0, said.err
    (path,) = json.loads(said.out)["files"]
    return read_clip(Path(path)).images


@pytest.mark.parametrize("stem", ["helios_text_to_video", "helios_image_to_video", "helios_video_to_video"])
def test_it_makes_whole_units(models, tmp_path, capsys, stem):
    clip = run(stem, models, tmp_path, capsys)
    assert clip.shape == (66, 64, 64, 3) and clip.std() > 0.01


def test_a_start_changes_the_clip(models, tmp_path, capsys):
    clips = [run(f"helios_{task}_to_video", models, tmp_path, capsys) for task in ("text", "image")]
    assert (clips[0] - clips[1]).abs().mean() > 0.005


@pytest.fixture
def parts(models, tmp_path):
    """Host, model, VAE and prompts of the tiny Helios."""
    host = StandaloneHost(models=models, output=tmp_path, silent=True, device="cpu")
    use_host(host)
    top = "Helios-Distilled"
    model = host.load_model(host.find_model("diffusion_models", f"{top}/transformer"), "fp32")
    text = host.load_text_encoder(host.find_model("text_encoders", top))
    return host, model, host.load_vae(host.find_model("vae", f"{top}/vae")), host.encode_prompt(text, "a tiger")


def sample(host, model, positive, frames: int, history=None, seed=3) -> torch.Tensor:
    preset = PRESETS["distilled"]
    guider = host.make_guider(model, positive, None, preset.guidance)
    empty = {"samples": torch.zeros(1, 16, frames, 8, 8)}
    return host.sample(guider, host.make_sampler(None, history), empty, seed)["samples"]


def test_a_unit_can_be_watched_while_the_next_is_made(parts):
    """The first unit of a clip does not know of later ones, and is decoded on its own."""
    host, model, vae, positive = parts
    first, both = sample(host, model, positive, 9), sample(host, model, positive, 18)
    assert both.shape[2] == 18 and first.std() > 0.1
    pictures = host.decode(vae, both, None, None)
    torch.testing.assert_close(pictures[:33], host.decode(vae, both[:, :, :9], None, None))
    (history,) = HeliosConditioning().build(previous={"samples": both[:, :, :9]})
    later = sample(host, model, positive, 9, history, seed=4)
    assert torch.isfinite(later).all() and not torch.equal(later, first)


def test_a_model_says_which_ladder_it_wants(parts):
    host, model, _, positive = parts
    guider = host.make_guider(model, positive, None, PRESETS["distilled"].guidance)
    sampler = host.make_sampler(PRESETS[""].stages, None)
    with pytest.raises(ValueError, match="set 'made_for' in 'Pyramid stages' to Helios"):
        host.sample(guider, sampler, {"samples": torch.zeros(1, 16, 9, 8, 8)}, 0)


def test_half_a_unit_is_refused(parts):
    host, model, _, positive = parts
    with pytest.raises(ValueError, match="a multiple of 9, nearest 9"):
        sample(host, model, positive, 10)
