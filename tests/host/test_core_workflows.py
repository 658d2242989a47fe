"""The workflows for models of ComfyUI's own, run in a real server with tiny networks of the same classes."""

from __future__ import annotations

import json

import av
import pytest
from conftest import ROOT

KINDS = {
    "wan22_text_to_video": "wan2.1 t2v",
    "wan22_image_to_video": "wan2.2 i2v",
    "ltx2_text_to_video": "ltx2",
    "hunyuan15_text_to_video": "hunyuan1.5",
    "minimax_h3_text_to_video": "minimax h3",
}
TINY = {
    "UNETLoader": "TinyCoreModel",
    "CheckpointLoaderSimple": "TinyCoreCheckpoint",
    "CLIPLoader": "TinyCoreClip",
    "DualCLIPLoader": "TinyCoreClip",
    "LTXAVTextEncoderLoader": "TinyCoreClip",
    "VAELoader": "TinyCoreVAE",
    "LTXVAudioVAELoader": "TinyCoreSound",
}
SMALL = {"width": 256, "height": 192, "length": 22, "frames_number": 22, "steps": 6, "step": 3}
WITH_SOUND = ("ltx2_text_to_video", "minimax_h3_text_to_video")


def tiny(name: str, types: set[str]) -> dict:
    """The workflow `name`, with tiny parts for its loaders and a small, short clip."""
    prompt = json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text("utf-8"))
    for number, node in enumerate(prompt.values()):
        if node["class_type"] not in types:
            pytest.skip(f"this ComfyUI has no {node['class_type']}")
        node["inputs"] |= {key: value for key, value in SMALL.items() if key in node["inputs"]}
        if node["class_type"] in TINY:
            sound = "audio" in str(node["inputs"].get("vae_name"))
            node["class_type"] = "TinyCoreSound" if sound else TINY[node["class_type"]]
            node["inputs"] = {"kind": KINDS[name], "seed": number}
    return prompt


def without_pyramid(prompt: dict) -> dict:
    """The same with the inner sampler in the place of the pyramid's."""
    plain = json.loads(json.dumps(prompt))
    (ours,) = [key for key, node in plain.items() if node["class_type"] == "PyramidVideoAnySamplerObject"]
    inner = plain[ours]["inputs"]["sampler"]
    for node in plain.values():
        if node["inputs"].get("sampler") == [ours, 0]:
            node["inputs"]["sampler"] = inner
    return plain


@pytest.mark.parametrize("name", KINDS)
def test_workflows_of_core_models_run(comfy, base, name):
    """A clip of the asked size in two stages, with its sound, and previews where the plain sampler has them."""
    prompt = tiny(name, set(comfy.get("/object_info")))
    samplers = [key for key, node in prompt.items() if node["class_type"] == "SamplerCustomAdvanced"]
    report = comfy.run(prompt, sampler=samplers[0])
    assert report.status == "success", report.message
    assert report.progress[-1][0] == report.progress[-1][1] == 6 // len(samplers)
    (saved,) = [key for key, node in prompt.items() if node["class_type"] == "SaveVideo"]
    (clip,) = (file for files in report.outputs[saved].values() for file in files if isinstance(file, dict))
    with av.open(str(base / "output" / clip["subfolder"] / clip["filename"])) as file:
        frames = list(file.decode(video=0))
        assert len(frames) > 8 and (frames[0].width, frames[0].height) == (256, 192)
        assert bool(file.streams.audio) == (name in WITH_SOUND)
    stages = [key for key, node in prompt.items() if node["class_type"] == "PyramidVideoAnyStages"]
    assert report.outputs[stages[0]]["images"]  # the drawn ladder
    plain = comfy.run(without_pyramid(prompt), sampler=samplers[0])
    assert plain.status == "success" and bool(report.previews) == bool(plain.previews)
