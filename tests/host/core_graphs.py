"""API prompts that join blocks of the pack with core's, and how to read what came out of them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy
import torch
from PIL import Image
from safetensors.torch import load_file
from tiny_models import MODEL, TEXT, VAE

SEED, CFG, STEPS = 7, 5.0, 4
Wire = list  # [name of a node, number of its output]
Graph = dict[str, Any]


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def start(model: str = MODEL, frames: int = 9) -> Graph:
    """Loaders, prompts, a small ladder and an empty latent, under the names of what they give."""
    return {
        "model": node("PyramidVideoLoadModel", model_name=model, weight_dtype="default"),
        "vae": node("PyramidVideoLoadVAE", vae_name=VAE),
        "clip": node("PyramidVideoLoadTextEncoder", text_encoder_name=TEXT),
        "positive": node("PyramidVideoEncodePrompt", clip=["clip", 0], text="a tiger", add_quality_words=False),
        "negative": node("PyramidVideoEncodePrompt", clip=["clip", 0], text="", add_quality_words=False),
        "stages": node(
            "PyramidVideoStages", first_steps=STEPS, video_steps=STEPS, stage_count=3, shift=1.0, gamma=0.333
        ),
        "empty": node(
            "PyramidVideoEmptyLatent",
            vae=["vae", 0],
            width=64,
            height=64,
            length_unit="frames",
            seconds=1.0,
            frames=frames,
            fps=8.0,
            batch_size=1,
        ),
    }


def pyramid(graph: Graph, name: str = "video", **inputs: Any) -> Wire:
    """Add our one-block sampler with the same guidance for every frame; gives its latents."""
    graph["guidance"] = node(
        "PyramidVideoGuidance",
        first_frame_scale=CFG,
        video_scale=CFG,
        linear=False,
        linear_drop=0.5,
        linear_minimum=2.0,
    )
    wires = {key: [key, 0] for key in ("model", "positive", "negative", "stages", "guidance")}
    graph[name] = node("PyramidVideoSampler", **{**wires, "latent_image": ["empty", 0], "seed": SEED, **inputs})
    return [name, 0]


def advanced(graph: Graph, name: str, guider: Wire, sampler: Wire, sigmas: Wire, latent: Wire) -> Wire:
    """Add core's SamplerCustomAdvanced with RandomNoise; gives its latents."""
    graph["noise"] = node("RandomNoise", noise_seed=SEED)
    graph[name] = node(
        "SamplerCustomAdvanced", noise=["noise", 0], guider=guider, sampler=sampler, sigmas=sigmas, latent_image=latent
    )
    return [name, 0]


def core_guider(graph: Graph, name: str, model: Wire) -> Wire:
    graph[name] = node("CFGGuider", model=model, positive=["positive", 0], negative=["negative", 0], cfg=CFG)
    return [name, 0]


def simple_sigmas(graph: Graph, model: Wire, steps: int = STEPS) -> Wire:
    graph["sigmas"] = node("BasicScheduler", model=model, scheduler="simple", steps=steps, denoise=1.0)
    return ["sigmas", 0]


class Runs:
    """Runs graphs on one server and reads the latents and pictures that they make."""

    def __init__(self, comfy: Any, base: Path) -> None:
        self.comfy, self.base = comfy, base

    def report(self, graph: Graph) -> Any:
        report = self.comfy.run(graph)
        assert report.status == "success", report.message
        return report

    def latents(self, graph: Graph, *wires: Wire) -> list[torch.Tensor]:
        """The latents on some wires, all made in one run."""
        saving = {
            f"save{number}": node("SaveLatent", samples=wire, filename_prefix="latent")
            for number, wire in enumerate(wires)
        }
        report = self.report(graph | saving)
        return [load_file(self.file(report.outputs[name]["latents"][0]))["latent_tensor"] for name in saving]

    def pictures(self, graph: Graph, *wires: Wire) -> list[torch.Tensor]:
        """The pictures on some wires (frames, 3, h, w) in 0..255."""
        saving = {
            f"save{number}": node("SaveImage", images=wire, filename_prefix="picture")
            for number, wire in enumerate(wires)
        }
        report = self.report(graph | saving)
        files = [[self.file(entry) for entry in report.outputs[name]["images"]] for name in saving]
        return [torch.stack([pixels(file) for file in clip]) for clip in files]

    def message(self, graph: Graph, wire: Wire) -> str:
        """What a graph that cannot work says."""
        report = self.comfy.run(graph | {"save": node("SaveLatent", samples=wire, filename_prefix="latent")})
        assert report.status == "error"
        return report.message

    def file(self, entry: dict[str, str]) -> Path:
        return self.base / entry["type"] / entry["subfolder"] / entry["filename"]

    def to_input(self, file: Path, name: str) -> str:
        """Copy a result into the input folder, where core's loaders look."""
        shutil.copy(file, self.base / "input" / name)
        return name


def pixels(file: Path) -> torch.Tensor:
    """(3, h, w), whole numbers in 0..255"""
    with Image.open(file) as picture:
        return torch.from_numpy(numpy.array(picture.convert("RGB"))).movedim(-1, 0)
