"""A tiny Helios on a real ComfyUI server: its workflows, seen chunk by chunk, interrupted, in two parts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from pyramid_video.host.standalone.host import StandaloneHost
from pyramid_video.samplers.presets import PRESETS
from safetensors.torch import load_file

TOP, SEED, CHUNKS = "Helios-Distilled", 7, 2
SAMPLER, DECODE = "9", "10"
CALLS = 3 * (4 + 2)  # 3 stages: 4 steps in the first chunk, 2 in the second
CHANGES = {
    "1": {"weight_dtype": "fp32", "model_name": f"{TOP}/transformer"},
    "8": {"width": 64, "height": 64, "frames": 33 * CHUNKS},
    SAMPLER: {"seed": SEED},
    "14": {"image": "start.png"},
}
OWN_LOADERS = {  # official folders in place of Wan 2.1's single files, which core's loaders take
    "2": {"class_type": "PyramidVideoLoadVAE", "inputs": {"vae_name": f"{TOP}/vae"}},
    "3": {"class_type": "PyramidVideoLoadTextEncoder", "inputs": {"text_encoder_name": TOP}},
}


def workflow(stem: str) -> dict:
    prompt = json.loads((ROOT / "workflows" / "api" / f"{stem}.json").read_text("utf-8")) | OWN_LOADERS
    for key, inputs in CHANGES.items():
        if key in prompt:
            prompt[key]["inputs"].update(inputs)
    return prompt


def with_latent(prompt: dict) -> dict:
    """The prompt with a file of the sampler's latent beside its video."""
    return {**prompt, "save": {"class_type": "SaveLatent", "inputs": {"samples": [SAMPLER, 0], "filename_prefix": "h"}}}


def latent_of(report, base: Path) -> torch.Tensor:
    (entry,) = report.outputs["save"]["latents"]
    return load_file(base / "output" / entry["subfolder"] / entry["filename"])["latent_tensor"]


@pytest.fixture(scope="module")
def made(comfy, base):
    """The report of one whole run, and its latent."""
    report = comfy.run(with_latent(workflow("helios_text_to_video")), sampler=SAMPLER)
    assert report.status == "success", report.message
    return report, latent_of(report, base)


def test_chunk_after_chunk_is_seen(made):
    report, latent = made
    assert latent.shape == (1, 16, 9 * CHUNKS, 8, 8)
    assert set(report.progress) == {(step, CALLS) for step in range(1, CALLS + 1)}
    assert len(report.previews) == CALLS and len(set(report.previews)) > CALLS // 2
    for chunk in (1, 2):
        assert any(f"unit {chunk} of {CHUNKS}, stage 3 of 3" in line for line in report.lines)
    (entry,) = report.outputs["12"]["images"]
    assert entry["filename"].endswith(".mp4")


def test_the_page_sees_the_first_chunk_before_the_second_is_done(comfy):
    prompt, seen = workflow("helios_text_to_video"), []
    prompt[SAMPLER]["inputs"]["seed"] = SEED + 1
    done = [0]

    def watch(kind: str, data: dict) -> None:
        if kind == "progress" and data["node"] == SAMPLER:
            done[0] = data["value"]
        if kind == "executed" and data["node"] == SAMPLER:
            seen.append(done[0])

    report = comfy.run(prompt, sampler=SAMPLER, on_event=watch, as_page=True)
    assert report.status == "success", report.message
    assert seen and min(seen) < CALLS


def test_the_latent_is_that_of_the_command_line(made, models):
    _, here = made
    host = StandaloneHost(models=models, silent=True, device="cpu")
    prompt = workflow("helios_text_to_video")
    text = host.load_text_encoder(host.find_model("text_encoders", TOP))
    model = host.load_model(host.find_model("diffusion_models", f"{TOP}/transformer"), "fp32")
    positive = host.encode_prompt(text, prompt["4"]["inputs"]["text"])
    guider = host.make_guider(model, positive, None, PRESETS["distilled"].guidance)
    empty = {"samples": torch.zeros_like(here)}
    there = host.sample(guider, host.make_sampler(None, None), empty, SEED)["samples"]
    torch.testing.assert_close(here, there, rtol=0, atol=1e-3 * there.abs().max().item())


def test_an_interrupt_in_the_second_chunk_leaves_no_trace(comfy, base, made):
    prompt = with_latent(workflow("helios_text_to_video"))
    prompt[SAMPLER]["inputs"]["seed"] = SEED + 2

    def interrupt(kind: str, data: dict) -> None:
        if kind == "progress" and data["node"] == SAMPLER and data["value"] == CALLS - 3:
            comfy.request("/interrupt", {})

    assert comfy.run(prompt, on_event=interrupt).status == "interrupted"
    prompt[SAMPLER]["inputs"]["seed"] = SEED
    prompt["8"]["inputs"]["batch_size"] = 2  # so that nothing is cached; its first clip is the one above
    report = comfy.run(prompt)
    assert report.status == "success", report.message
    torch.testing.assert_close(latent_of(report, base)[:1], made[1], rtol=0, atol=1e-3 * made[1].abs().max().item())


def test_a_picture_begins_the_clip(comfy):
    report = comfy.run(workflow("helios_image_to_video"))
    assert report.status == "success", report.message


def test_a_second_sampler_goes_on_from_the_first(comfy, base):
    """The first part is decoded and there to be watched while the second is made."""
    prompt = workflow("helios_text_to_video")
    prompt["8"]["inputs"]["frames"] = 33
    prompt["20"] = {"class_type": "PyramidVideoHeliosMemory", "inputs": {"previous": [SAMPLER, 0]}}
    second = {**prompt[SAMPLER]["inputs"], "seed": SEED + 3, "history": ["20", 0]}
    prompt["21"] = {"class_type": "PyramidVideoSampler", "inputs": second}
    prompt["save"] = {"class_type": "SaveLatent", "inputs": {"samples": ["21", 0], "filename_prefix": "h"}}
    report = comfy.run(prompt)
    assert report.status == "success", report.message
    assert "12" in report.outputs and latent_of(report, base).shape[2] == 9


def test_a_ladder_of_pyramid_flow_is_refused_before_anything_is_made(comfy):
    prompt = workflow("helios_text_to_video")
    prompt["6"]["inputs"] |= {"made_for": "Pyramid Flow", "solver": "euler"}
    report = comfy.run(prompt)
    assert report.status == "error" and "set 'made_for' in 'Pyramid stages' to Helios" in report.message
