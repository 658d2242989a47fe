"""The workflows on a real ComfyUI server: what comes out, what is seen meanwhile, and what bad input gets."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from PIL import Image
from pyramid_video.host.standalone.host import StandaloneHost
from pyramid_video.nodes import NODE_CLASS_MAPPINGS
from pyramid_video.runner.specs import spec_of_info
from pyramid_video.samplers.history import PyramidHistory
from pyramid_video.samplers.stages import make_stages
from safetensors.torch import load_file
from tiny_models import LORA, MODEL, TEXT, VAE

PROMPT, SEED = "a tiger moves left", 7
TINY = {
    "PyramidVideoLoadModel": {"model_name": MODEL},
    "PyramidVideoLoadVAE": {"vae_name": VAE},
    "PyramidVideoLoadTextEncoder": {"text_encoder_name": TEXT},
    "PyramidVideoStages": {"first_steps": 3, "video_steps": 2, "gamma": 1 / 3},
    "PyramidVideoEmptyLatent": {"length_unit": "frames", "frames": 9, "width": 64, "height": 64},
    "PyramidVideoSampler": {"seed": SEED},
    "LoadImage": {"image": "start.png"},
}
OUTPUTS = ("PyramidVideoDecode", "CreateVideo", "SaveVideo")
CALLS = 3 * 3 + 2 * 3 * 2  # 3 stages: 3 steps for the first latent frame, 2 for each of the two others


@pytest.fixture
def workflow():
    """A workflow of the pack with tiny models and few steps."""

    def read(stem: str, changes: dict = TINY) -> dict:
        prompt = json.loads((ROOT / "workflows" / "api" / f"{stem}.json").read_text("utf-8"))
        for node in prompt.values():
            node["inputs"].update(changes.get(node["class_type"], {}))
        return prompt

    return read


def node_id(prompt: dict, class_type: str) -> str:
    return next(key for key, node in prompt.items() if node["class_type"] == class_type)


def save_latent(prompt: dict, source: list) -> dict:
    """The prompt with a file of its latents as the only output."""
    kept = {key: node for key, node in prompt.items() if node["class_type"] not in OUTPUTS}
    return {**kept, "save": {"class_type": "SaveLatent", "inputs": {"samples": source, "filename_prefix": "latent"}}}


def latent_of(report, base: Path) -> torch.Tensor:
    (entry,) = report.outputs["save"]["latents"]
    return load_file(base / "output" / entry["subfolder"] / entry["filename"])["latent_tensor"]


def sampled(comfy, base, prompt: dict, **options) -> torch.Tensor:
    report = comfy.run(save_latent(prompt, [node_id(prompt, "PyramidVideoSampler"), 0]), **options)
    assert report.status == "success", report.message
    return latent_of(report, base)


def test_every_block_is_there(comfy):
    known = comfy.get("/object_info")
    assert set(NODE_CLASS_MAPPINGS) <= set(known)
    assert not [name for name in NODE_CLASS_MAPPINGS if not known[name]["category"].startswith("pyramid video")]


def test_bundled_models_are_in_the_lists_of_our_loaders_and_of_no_other(comfy):
    known = comfy.get("/object_info")
    names = spec_of_info("", known["PyramidVideoLoadModel"], is_closed=True).inputs["model_name"].choices
    official = {"pyramid-flow-miniflux/diffusion_transformer_384p", "pyramid-flow-sd3/diffusion_transformer_768p"}
    assert {MODEL, *official} <= set(names)
    bundled = {path.name for path in (ROOT / "models" / "pretrained" / "diffusion_models").glob("*.safetensors")}
    assert bundled <= set(names) and not bundled & set(comfy.get("/models/diffusion_models"))
    for loader, widget, kind in (("UNETLoader", "unet_name", "diffusion_models"), ("VAELoader", "vae_name", "vae")):
        choices = known[loader]["input"]["required"][widget][0]
        assert not any("pyramid_video_small" in name for name in choices), kind
    assert "pyramid_video" in comfy.get("/models")


def test_text_to_video_makes_a_video_and_shows_its_way(comfy, base, workflow):
    prompt = workflow("text_to_video")
    report = comfy.run(prompt, sampler=node_id(prompt, "PyramidVideoSampler"))
    assert report.status == "success", report.message
    (entry,) = report.outputs[node_id(prompt, "SaveVideo")]["images"]
    assert (base / "output" / entry["subfolder"] / entry["filename"]).read_bytes()[4:8] == b"ftyp"
    assert set(report.progress) == {(step, CALLS) for step in range(1, CALLS + 1)}
    assert len(report.previews) == len(report.progress) and all(p[:2] == b"\xff\xd8" for p in report.previews)
    assert any("unit 3 of 3, stage 3 of 3" in line for line in report.lines)
    assert any(line.endswith(" left") for line in report.lines)


def test_the_page_sees_the_clip_grow(comfy, base, workflow):
    """Each animation has a name of its own, the last one all frames, and no more than two files are left.

    The last one is kept with the result, so that a page that is loaded later has it, and is no file of the output.
    """
    there = {path.name for path in (base / "temp").glob("pyramid_video_*.webp")}  # of other runs
    prompt, clips = workflow("text_to_video"), []
    sampler = node_id(prompt, "PyramidVideoSampler")
    prompt[sampler]["inputs"]["seed"] = SEED + 2  # so that nothing is cached

    def watch(kind: str, data: dict) -> None:
        if kind == "executed" and data["node"] == sampler:
            assert data["output"]["animated"] == [True]
            clips.extend(entry["filename"] for entry in data["output"]["images"])

    report = comfy.run(prompt, sampler=sampler, on_event=watch, as_page=True)
    assert report.status == "success", report.message
    *clips, kept = clips
    assert len(clips) == len(set(clips)) >= 2 and not report.previews
    left = {path.name for path in (base / "temp").glob("pyramid_video_*.webp")} - there
    assert clips[-1] in left and left == set(clips[-2:])
    with Image.open(base / "temp" / clips[-1]) as clip:
        assert clip.n_frames == 3 and max(clip.size) >= 256  # latent frames
    (entry,) = report.outputs[sampler]["images"]
    assert entry["filename"] == kept == clips[-1] and entry["type"] == "temp"


def test_image_to_video_keeps_its_start(comfy, workflow):
    prompt = workflow("image_to_video")
    report = comfy.run(prompt)
    assert report.status == "success", report.message


def test_latents_are_those_of_the_command_line(comfy, base, models, workflow):
    here = sampled(comfy, base, workflow("text_to_video"))
    host = StandaloneHost(models=models, silent=True)
    prompt = workflow("text_to_video")
    scales = prompt[node_id(prompt, "PyramidVideoGuidance")]["inputs"]
    clip = host.load_text_encoder(host.find_model("text_encoders", TEXT))
    texts = [node["inputs"]["text"] for node in prompt.values() if node["class_type"] == "PyramidVideoEncodePrompt"]
    positive, negative = (host.encode_prompt(clip, text) for text in texts)
    guider = host.make_guider(
        host.load_model(host.find_model("diffusion_models", MODEL)),
        positive,
        negative,
        NODE_CLASS_MAPPINGS["PyramidVideoGuidance"]().build(**scales)[0],
    )
    sampler = host.make_sampler(make_stages(first_steps=3, video_steps=2), PyramidHistory())
    there = host.sample(guider, sampler, {"samples": torch.zeros_like(here)}, SEED)["samples"]
    torch.testing.assert_close(here, there, rtol=0, atol=1e-4 * there.abs().max().item())


def test_interrupt_in_the_middle_leaves_no_trace(comfy, base, workflow):
    prompt = workflow("text_to_video")
    expected = sampled(comfy, base, prompt)
    prompt[node_id(prompt, "PyramidVideoSampler")]["inputs"]["seed"] = SEED + 1  # so that nothing is cached
    seen = []

    def interrupt(kind: str, data: dict) -> None:
        if kind == "progress" and data["max"] == CALLS:
            seen.append(data["value"])
            if data["value"] == 4:
                comfy.request("/interrupt", {})

    report = comfy.run(prompt, on_event=interrupt)
    assert report.status == "interrupted" and max(seen) < CALLS
    torch.testing.assert_close(sampled(comfy, base, workflow("text_to_video")), expected, rtol=0, atol=0)


def test_parts_in_core_sampler_equal_the_one_block(comfy, base, workflow):
    """RandomNoise draws the first clip of a batch as we do, so the results are the same numbers."""
    prompt = workflow("text_to_video")
    expected = sampled(comfy, base, prompt)
    one = prompt.pop(node_id(prompt, "PyramidVideoSampler"))["inputs"]
    wires = {name: one[name] for name in ("model", "positive", "negative", "guidance")}
    prompt |= {
        "noise": {"class_type": "RandomNoise", "inputs": {"noise_seed": SEED}},
        "guider": {"class_type": "PyramidVideoGuider", "inputs": wires},
        "sampler": {"class_type": "PyramidVideoSamplerObject", "inputs": {"stages": one["stages"]}},
        "sigmas": {"class_type": "ManualSigmas", "inputs": {"sigmas": "1, 0"}},
        "parts": {
            "class_type": "SamplerCustomAdvanced",
            "inputs": {
                "noise": ["noise", 0],
                "guider": ["guider", 0],
                "sampler": ["sampler", 0],
                "sigmas": ["sigmas", 0],
                "latent_image": one["latent_image"],
            },
        },
    }
    if "ManualSigmas" not in comfy.get("/object_info"):  # older hosts
        scheduler = {"model": one["model"], "scheduler": "simple", "steps": 1, "denoise": 1.0}
        prompt["sigmas"] = {"class_type": "BasicScheduler", "inputs": scheduler}
    report = comfy.run(save_latent(prompt, ["parts", 0]))
    assert report.status == "success", report.message
    torch.testing.assert_close(latent_of(report, base), expected, rtol=0, atol=1e-6)


def test_a_lora_in_cores_loader_changes_the_clip_and_at_strength_zero_does_not(comfy, base, workflow):
    prompt = workflow("text_to_video")
    plain = sampled(comfy, base, prompt)
    sampler = prompt[node_id(prompt, "PyramidVideoSampler")]["inputs"]
    loader = {"model": sampler["model"], "lora_name": LORA}
    sampler["model"] = ["lora", 0]

    def with_lora(strength: float) -> torch.Tensor:
        node = {"class_type": "LoraLoaderModelOnly", "inputs": loader | {"strength_model": strength}}
        return sampled(comfy, base, prompt | {"lora": node})

    before = (base / "log.txt").read_text().count("lora key not loaded")
    assert (with_lora(1.0) - plain).abs().max() > 1e-3
    assert (base / "log.txt").read_text().count("lora key not loaded") == before
    assert torch.equal(with_lora(0.0), plain)


def test_ksampler_is_refused_by_name(comfy, workflow):
    prompt = workflow("text_to_video")
    one = prompt[node_id(prompt, "PyramidVideoSampler")]["inputs"]
    wires = {name: one[name] for name in ("model", "positive", "negative", "latent_image")}
    settings = {"seed": 1, "steps": 2, "cfg": 5.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
    prompt["core"] = {"class_type": "KSampler", "inputs": wires | settings}
    report = comfy.run(save_latent(prompt, ["core", 0]))
    assert report.status == "error"
    assert "Sample pyramid" in report.message and "'euler'" in report.message and "tiny" in report.message


@pytest.mark.parametrize("kind", ["miniflux", "sd3"])
def test_official_folders_run(comfy, workflow, kind):
    top = f"pyramid-flow-{kind}"
    size = {"miniflux": "384p", "sd3": "768p"}[kind]
    changes = copy.deepcopy(TINY) | {
        "PyramidVideoLoadModel": {"model_name": f"{top}/diffusion_transformer_{size}"},
        "PyramidVideoLoadVAE": {"vae_name": f"{top}/causal_video_vae"},
        "PyramidVideoLoadTextEncoder": {"text_encoder_name": top},
    }
    prompt = workflow(f"official_{kind}", changes)
    report = comfy.run(prompt)
    assert report.status == "success", report.message
    assert report.previews  # in false colours: the files say nothing of true ones


@pytest.mark.parametrize(
    "block, name, value",
    [
        ("PyramidVideoStages", "first_steps", 0),
        ("PyramidVideoStages", "gamma", 0.5),
        ("PyramidVideoEmptyLatent", "width", 0),
        ("PyramidVideoLoadModel", "model_name", "../../secret.safetensors"),
        ("PyramidVideoLoadModel", "weight_dtype", "fp16"),
        ("PyramidVideoSampler", "seed", -1),
    ],
)
def test_bad_values_are_refused_before_anything_runs(comfy, workflow, block, name, value):
    prompt = workflow("text_to_video")
    node = node_id(prompt, block)
    prompt[node]["inputs"][name] = value
    (error,) = comfy.refusal(prompt)[node]["errors"]
    assert error["extra_info"]["input_name"] == name


@pytest.mark.parametrize(
    "block, other, wrong",
    [
        ("PyramidVideoLoadVAE", "pyramid-flow-sd3/causal_video_vae", "4 channels"),
        ("PyramidVideoLoadTextEncoder", "pyramid-flow-sd3", "32 wide"),
    ],
)
def test_what_does_not_belong_together_is_named(comfy, workflow, block, other, wrong):
    prompt = workflow("text_to_video")
    inputs = prompt[node_id(prompt, block)]["inputs"]
    inputs[next(iter(inputs))] = other
    report = comfy.run(prompt)
    assert report.status == "error" and wrong in report.message and "tiny" in report.message
