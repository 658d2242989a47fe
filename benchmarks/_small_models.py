"""Graph blocks called outside ComfyUI, and the clips that the small models make through them."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import _package  # noqa: F401
import torch
from generate import PIXELS
from prompt_accuracy import DEFAULTS, pyramid_guidance
from pyramid_video.drawings.comparison import SMALLEST_LABELLED
from pyramid_video.nodes import NODE_CLASS_MAPPINGS
from torch import Tensor

TIME = 4  # frames in a latent frame of the small VAE, but for the first
FPS = 8
PROMPT = "a pig moving left on a blue background"


def block(name: str, **inputs) -> tuple:
    """What a graph block answers; inputs that are not given take their defaults."""
    made = NODE_CLASS_MAPPINGS[f"PyramidVideo{name}"]()
    schema = made.INPUT_TYPES()
    specs = {**schema.get("required", {}), **schema.get("optional", {})}
    defaults = {key: spec[1]["default"] for key, spec in specs.items() if len(spec) > 1 and "default" in spec[1]}
    answer = getattr(made, made.FUNCTION)(**{**defaults, **inputs})
    return answer["result"] if isinstance(answer, dict) else answer


class SmallModels:
    """The models that come with the pack, and clips of them."""

    def __init__(self, animations: Path | None) -> None:
        self.animations = animations
        self.models: dict[str, object] = {}

    @cached_property
    def vae(self):
        return block("LoadVAE", vae_name="pyramid_video_small_vae.safetensors")[0]

    @cached_property
    def clip(self):
        return block("LoadTextEncoder", text_encoder_name="pyramid_video_small_text.safetensors")[0]

    def model(self, family: str = ""):
        if family not in self.models:
            name = f"pyramid_video_small{'_' * bool(family)}{family}.safetensors"
            self.models[family] = block("LoadModel", model_name=name)[0]
        return self.models[family]

    def prompt(self, text: str):
        return block("EncodePrompt", clip=self.clip, text=text)[0]

    def empty(self, width: int = PIXELS, height: int = PIXELS):
        return block(
            "EmptyLatent", vae=self.vae, width=width, height=height, length_unit="frames", frames=17, fps=float(FPS)
        )[0]

    def wires(self, family: str, text: str = PROMPT) -> dict[str, object]:
        """What every sampler takes."""
        wires = {"model": self.model(family), "positive": self.prompt(text), "latent_image": self.empty(), "seed": 1}
        return wires if family == "gan" else {**wires, "negative": self.prompt("")}

    def flow(self, text: str = PROMPT, **settings) -> Tensor:
        (steps,), (cfg, coarse) = DEFAULTS["flow"]["steps"], DEFAULTS["flow"]["guidance"]
        usual = {"steps": steps, "cfg": cfg, "coarse_guidance": coarse}
        return self.decode(block("FlowSampler", **{**self.wires("flow", text), **usual, **settings})[0])

    def ddim(self, **settings) -> Tensor:
        return self.decode(block("DDIMSampler", **{**self.wires("diffusion"), "cfg": 3.0, **settings})[0])

    def gan(self, **settings) -> Tensor:
        return self.decode(block("GANSampler", **{**self.wires("gan"), **settings})[0])

    def usual_guidance(self):
        return pyramid_guidance(*DEFAULTS["pyramid"]["guidance"])

    def usual_stages(self):
        first, video = DEFAULTS["pyramid"]["steps"]
        return block("Stages", first_steps=first, video_steps=video)[0]

    def pyramid_latents(self, text: str = PROMPT, **settings):
        """A LATENT of the pyramid, in the usual steps and guidance where the settings have no others."""
        usual = {"guidance": self.usual_guidance(), "stages": self.usual_stages()}
        return block("Sampler", **{**self.wires("", text), **usual, **settings})[0]

    def pyramid(self, text: str = PROMPT, **settings) -> Tensor:
        return self.decode(self.pyramid_latents(text, **settings))

    def decode(self, samples) -> Tensor:
        return torch.cat(block("Decode", vae=self.vae, samples=samples)[0])

    def preview(self, samples) -> Tensor:
        colours = self.model("").latent_format
        return in_time(colours.preview(colours.normalize(samples["samples"])[0].movedim(1, 0)))  # (t, h, w, 3)

    def dataset(self, **settings):
        if self.animations is None:
            raise ValueError("this picture shows training data: give their folder as --animations DIR")
        subjects = settings.pop("subjects", "pig\npenguin\nsnail\nrabbit")
        settings = {"folder": self.animations.name, "subjects": subjects, "size": PIXELS, **settings}
        return block("AnimationDataset", **settings)[0]


def in_time(latent: Tensor) -> Tensor:
    """Colours of latent frames (t, h, w, 3), each for as long as the frames that it holds."""
    times = torch.tensor([1] + [TIME] * (len(latent) - 1))
    return enlarged(latent.repeat_interleave(times, 0))


def enlarged(clip: Tensor) -> Tensor:
    """A clip whose pixels stay squares at the height that labels need."""
    times = SMALLEST_LABELLED // clip.shape[1]
    return clip.repeat_interleave(times, 1).repeat_interleave(times, 2)
