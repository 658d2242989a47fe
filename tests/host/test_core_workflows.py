"""The workflows for models of ComfyUI's own, run in a real server with tiny networks of the same classes."""

from __future__ import annotations

import json

import av
import pytest
from conftest import ROOT
from PIL import Image
from safetensors.torch import load_file

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
TRAINING = {"size": 64, "frames": 5, "clips": 2, "rank": 4, "width": 64, "height": 64, "length": 5, "steps": 3}
WITH_SOUND = ("ltx2_text_to_video", "minimax_h3_text_to_video")


def tiny(name: str, types: set[str], kind: str | None = None, small: dict | None = None) -> dict:
    """The workflow `name`, with tiny parts of a kind for its loaders and a small, short clip."""
    kind, small = kind or KINDS[name], small or SMALL
    prompt = json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text("utf-8"))
    for number, node in enumerate(prompt.values()):
        if node["class_type"] not in types:
            pytest.skip(f"this ComfyUI has no {node['class_type']}")
        node["inputs"] |= {key: value for key, value in small.items() if key in node["inputs"]}
        if node["class_type"] in TINY:
            sound = "audio" in str(node["inputs"].get("vae_name"))
            node["class_type"] = "TinyCoreSound" if sound else TINY[node["class_type"]]
            node["inputs"] = {"kind": kind, "seed": number}
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


def test_a_lora_for_a_core_model_is_trained_saved_and_seen(comfy, base):
    """In one graph; run again with more steps it goes on."""
    folder = base / "input" / "clips"
    folder.mkdir(exist_ok=True)
    pictures = [Image.new("RGB", (64, 64), (20 * shift, 40, 200)) for shift in range(10)]
    pictures[0].save(folder / "sky.webp", save_all=True, append_images=pictures[1:], duration=63)
    (folder / "sky.txt").write_text("a sky", encoding="utf-8")
    prompt = tiny("wan_train_lora", set(comfy.get("/object_info")), "wan2.1 t2v", TRAINING)
    trainer = next(key for key, node in prompt.items() if node["class_type"] == "PyramidVideoTrainModelLoRA")
    settings = next(node for node in prompt.values() if node["class_type"] == "PyramidVideoTrainingSettings")
    report = comfy.run(prompt, sampler=trainer)
    assert report.status == "success", report.message
    assert report.outputs[trainer]["text"][0].startswith("my_wan_lora: 3 of 3 steps, loss ")
    assert report.outputs[trainer]["images"] == [
        {"filename": "step-0000003.webp", "subfolder": "training/my_wan_lora/validation", "type": "output"}
    ]
    kept = base / "output" / "training" / "my_wan_lora" / "validation"
    with Image.open(kept / "step-0000003.webp") as clips:  # two beside each other
        assert clips.n_frames == 5 and clips.size == (2 * 64 + 2, 64)
    state = load_file(base / "output" / "loras" / "my_wan_lora.safetensors")
    assert {key.split(".")[0] for key in state} == {"diffusion_model"} and len(state) == 3 * 20
    settings["inputs"]["steps"] = 5
    again = comfy.run(prompt, sampler=trainer)
    assert again.outputs[trainer]["text"][0].startswith("my_wan_lora: 5 of 5 steps, loss ")
    assert sorted(path.name for path in kept.iterdir()) == ["step-0000003.webp", "step-0000005.webp"]
    assert len((base / "output" / "training" / "my_wan_lora" / "losses.jsonl").read_text().splitlines()) == 5
