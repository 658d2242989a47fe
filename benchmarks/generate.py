"""Clips of many prompts at once from a transformer, a VAE and a text encoder in one folder."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from pathlib import Path

import torch
from pyramid_video.host.protocol import Conditioning, Latent
from pyramid_video.host.standalone.sampling import Guider, PyramidSampler, sample, sample_full_sequence
from pyramid_video.host.standalone.wires import Model
from pyramid_video.models import checkpoints
from pyramid_video.models.text_encoder import encode_texts
from pyramid_video.models.text_features import TextFeatures
from pyramid_video.recipes.emoji.recipe import TRANSFORMER_FILES
from pyramid_video.samplers.full_sequence import FullSequenceSampler
from pyramid_video.samplers.guidance import PyramidGuidance
from pyramid_video.samplers.history import PyramidHistory
from pyramid_video.samplers.pyramid import FULL_CLEAN_HISTORY
from pyramid_video.samplers.stages import PyramidStages
from torch import Tensor

PIXELS = 128  # height and width of the clips that the bundled models were made for


def only_file(models: Path, kind: str, family: str | None = None) -> Path:
    """The one checkpoint in `models/kind`; of a family where that is asked for: the recipe's own, or the only one."""
    found = sorted((models / kind).glob("*.safetensors"))
    if family is not None:
        if (models / TRANSFORMER_FILES[family]).exists():
            return models / TRANSFORMER_FILES[family]
        found = [path for path in found if checkpoints.inspect(path).family.name == family]
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "nothing"
        what = f"one .safetensors file{f' of the family {family}' if family else ''}"
        raise FileNotFoundError(f"{models / kind} must hold exactly {what}; it holds {names}")
    return found[0]


def load_vae(models: Path) -> torch.nn.Module:
    """The VAE of a folder that is laid out like `models/pretrained`."""
    return checkpoints.load(only_file(models, "vae"), ("causal_vae",), dtype=torch.float32)[0].eval()


class TextToVideo:
    """The networks of one family in a folder laid out like `models/pretrained`, in float32 on the CPU.

    They are sampled as everywhere where there is no ComfyUI. `rows` counts those that the transformer was given:
    prompts at each step, and negative ones where there is guidance.
    """

    def __init__(self, models: Path, family: str) -> None:
        path = only_file(models, "diffusion_models", family)
        network, info = checkpoints.load(path, ("miniflux", "mmdit"), dtype=torch.float32)
        self.model = Model(network, info, torch.device("cpu"), torch.float32)
        self.text, text_info = checkpoints.load(
            only_file(models, "text_encoders"), ("text_encoder",), dtype=torch.float32
        )
        self.tokenizer = checkpoints.load_tokenizer(text_info)
        self.vae = load_vae(models)
        self.rows = 0
        network.register_forward_pre_hook(self._count)

    def _count(self, network: torch.nn.Module, inputs: tuple) -> None:
        timestep = inputs[1]
        self.rows += len(timestep)

    @torch.inference_mode()
    def __call__(self, prompts: Sequence[str], seed: int, frames: int, size: int) -> Tensor:
        """Clips (n, 3, frames, size, size) in -1..1; clip i has the noise of seed + i, whatever the others are."""
        texts = encode_texts(self.text, self.tokenizer, prompts)
        if texts.mask is not None and not texts.mask.all():  # of unlike length: a conditioning has one
            return torch.cat([self((prompt,), seed + row, frames, size) for row, prompt in enumerate(prompts)])
        config = self.vae.config
        side, length = size // config.space_compression, (frames - 1) // config.time_compression + 1
        latent = {"samples": torch.zeros(len(prompts), config.latent_channels, length, side, side)}
        negative = encode_texts(self.text, self.tokenizer, [""])
        samples = self.sample(*(conditioning(each) for each in (texts, negative)), latent, seed)["samples"]
        return self.vae.decode(samples).clamp(-1, 1)

    def sample(self, positive: Conditioning, negative: Conditioning, latent: Latent, seed: int) -> Latent:
        """A LATENT of the size of `latent`."""
        raise NotImplementedError


def conditioning(texts: TextFeatures) -> Conditioning:
    """What a prompt is on a wire."""
    return [[texts.tokens, {"pooled_output": texts.pooled}]]


class PyramidToVideo(TextToVideo):
    """Clips of a pyramidal flow."""

    def __init__(self, models: Path, stages: PyramidStages, guidance: PyramidGuidance) -> None:
        super().__init__(models, "pyramid")
        self.stages, self.guidance, self.history = stages, guidance, FULL_CLEAN_HISTORY

    @torch.inference_mode()
    def starting_with(self, pictures: Tensor) -> PyramidToVideo:
        """The same for clips that begin with `pictures (n, 3, 1, h, w)` in -1..1."""
        begun = copy(self)
        begun.history = PyramidHistory(start=self.vae.encode(pictures).mode())
        return begun

    def sample(self, positive: Conditioning, negative: Conditioning, latent: Latent, seed: int) -> Latent:
        guider = Guider(self.model, positive, negative, self.guidance)
        return sample(guider, PyramidSampler(self.stages, self.history), latent, seed, None)


class FullSequenceToVideo(TextToVideo):
    """Clips of a family that makes all frames at once; guidance `scale` 1 is the prompt alone."""

    def __init__(self, models: Path, sampler: FullSequenceSampler, scale: float) -> None:
        super().__init__(models, sampler.family)
        self.sampler, self.scale = sampler, scale

    def sample(self, positive: Conditioning, negative: Conditioning, latent: Latent, seed: int) -> Latent:
        prompts = positive, negative, self.scale
        return sample_full_sequence(self.model, self.sampler, prompts, latent, seed, lambda done, total, clean: None)
