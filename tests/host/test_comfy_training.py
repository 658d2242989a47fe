"""The training workflows on a real ComfyUI server: cancelled in the middle, gone on with, and what they leave."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import ROOT
from PIL import Image, ImageDraw
from safetensors.torch import load_file
from tiny_models import MODEL, TEXT, VAE

STEPS = 6
TINY = {
    "PyramidVideoAnimationDataset": {"folder": "animations", "subjects": "", "frames": 5},
    "PyramidVideoFolderDataset": {"folder": "clips", "size": 64, "frames": 5, "multiple": 64},
    "PyramidVideoLoadModel": {"model_name": MODEL},
    "PyramidVideoLoadVAE": {"vae_name": VAE},
    "PyramidVideoLoadTextEncoder": {"text_encoder_name": TEXT},
    "PyramidVideoLoadForTraining": {"model_name": MODEL},
    "PyramidVideoNewModel": {"size": "tiny"},
    "PyramidVideoVAETrainee": {"vae_name": VAE},
    "PyramidVideoTrainVAE": {"frames": 5},
    "PyramidVideoTrainingSettings": {"steps": STEPS, "batch": 8, "learning_rate": 1e-3},
    "PyramidVideoValidation": {"prompts": "a ball", "every": 4, "steps": 1},
    "PyramidVideoEmptyLatent": {"length_unit": "frames", "frames": 5, "width": 64, "height": 64},
    "PyramidVideoFlowSampler": {"steps": 2},
    "PyramidVideoDDIMSampler": {"steps": 2},
}
TRAINERS = {
    "train_flow": "PyramidVideoTrainFlow",
    "train_diffusion": "PyramidVideoTrainDiffusion",
    "train_gan": "PyramidVideoTrainGAN",
    "train_pyramid": "PyramidVideoTrainPyramid",
    "train_lora": "PyramidVideoTrainLoRA",
    "train_vae": "PyramidVideoTrainVAE",
}


@pytest.fixture(scope="module", autouse=True)
def clips(base):
    """One rolling ball, as a transparent animation and as a clip with its caption."""
    pictures = [Image.new("RGBA", (32, 32)) for _ in range(10)]
    for shift, picture in enumerate(pictures):
        ImageDraw.Draw(picture).ellipse((shift, 4, 20 + shift, 24), fill="red")
    for name in ("animations", "clips"):
        folder = base / "input" / name
        folder.mkdir(exist_ok=True)
        pictures[0].save(folder / "ball.webp", save_all=True, append_images=pictures[1:], duration=100)
        (folder / "ball.txt").write_text("a ball", encoding="utf-8")


def workflow(stem: str, name: str, **trainer) -> dict:
    """A training workflow with tiny models and few steps, its run and file under `name`."""
    prompt = json.loads((ROOT / "workflows" / "api" / f"{stem}.json").read_text("utf-8"))
    for node in prompt.values():
        node["inputs"].update(TINY.get(node["class_type"], {}))
        if node["class_type"] == TRAINERS[stem]:
            node["inputs"].update({"run_name": name, "clips": 4, **trainer})
        if "Save" in node["class_type"] and "name" in node["inputs"]:
            node["inputs"]["name"] = name
    if stem == "train_lora":  # of a flow, some of whose tokens it learns from
        for node in prompt.values():
            if "model_name" in node["inputs"]:
                node["inputs"]["model_name"] = "tiny_flow.safetensors"
    return prompt


def trainer_of(prompt: dict, stem: str) -> str:
    return next(key for key, node in prompt.items() if node["class_type"] == TRAINERS[stem])


def trained(base: Path, stem: str, name: str) -> dict:
    kind = {"train_lora": "loras", "train_vae": "vae"}.get(stem, "diffusion_models")
    return load_file(base / "output" / kind / f"{name}.safetensors")


@pytest.mark.parametrize("stem", TRAINERS)
def test_a_cancelled_run_is_gone_on_with_and_ends_the_same(comfy, base, stem):
    straight = comfy.run(workflow(stem, f"{stem}_straight"))
    assert straight.status == "success", straight.message

    broken = workflow(stem, f"{stem}_broken")

    def interrupt(line: str) -> None:
        if line.startswith(f"step 2/{STEPS},"):  # newer hosts do not send every progress
            comfy.request("/interrupt", {})

    assert comfy.run(broken, on_line=interrupt).status == "interrupted"
    log = base / "output" / "training" / f"{stem}_broken" / "losses.jsonl"
    assert 2 <= len(log.read_text("utf-8").splitlines()) < STEPS
    again = comfy.run(broken)
    assert again.status == "success", again.message
    expected, found = trained(base, stem, f"{stem}_straight"), trained(base, stem, f"{stem}_broken")
    assert expected.keys() == found.keys() and all((found[key] == value).all() for key, value in expected.items())
    assert len(log.read_text("utf-8").splitlines()) == STEPS


def test_the_trainer_says_how_it_goes_and_shows_the_clips(comfy, base):
    prompt = workflow("train_flow", "told")
    report = comfy.run(prompt, trainer_of(prompt, "train_flow"))
    assert report.status == "success", report.message
    assert (STEPS, STEPS) in report.progress and report.previews
    assert (1, 1) not in report.progress, "the VAE's work is a part of this block's, which counts its own"
    for total in {total for _, total in report.progress}:
        values = [value for value, of in report.progress if of == total]
        assert values == sorted(values)
    assert any(line.startswith(f"step {STEPS}/{STEPS}, loss ") and "left" in line for line in report.lines)
    (shown,) = report.outputs[trainer_of(prompt, "train_flow")]["images"]
    with Image.open(base / "output" / shown["subfolder"] / shown["filename"]) as picture:
        assert picture.size == (64, 64)


def test_other_data_under_the_same_name_is_refused(comfy):
    assert comfy.run(workflow("train_flow", "mine")).status == "success"
    report = comfy.run(workflow("train_flow", "mine", clips=3))
    assert report.status == "error" and "its data differs" in report.message
