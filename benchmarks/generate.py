"""Clips of many prompts at once from a transformer, a VAE and a text encoder in one folder."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from pathlib import Path

import torch
from pyramid_video.models import checkpoints
from pyramid_video.models.text_encoder import encode_texts
from pyramid_video.models.text_features import TextFeatures
from pyramid_video.recipes.emoji.recipe import TRANSFORMER_FILES
from pyramid_video.samplers.full_sequence import FullSequenceSampler
from pyramid_video.samplers.guidance import PyramidGuidance, apply_cfg
from pyramid_video.samplers.history import PyramidHistory
from pyramid_video.samplers.noise import draw_noise, row_generators
from pyramid_video.samplers.pyramid import FULL_CLEAN_HISTORY, StepInfo, sample_pyramid
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

    `calls` counts how often the transformer was asked for one clip of a batch, guidance included.
    """

    def __init__(self, models: Path, family: str, guided: bool) -> None:
        self.guided = guided
        path = only_file(models, "diffusion_models", family)
        self.network, info = checkpoints.load(path, ("miniflux", "mmdit"), dtype=torch.float32)
        self.latent_format, self.family = info.latent_format, info.family
        self.text, text_info = checkpoints.load(
            only_file(models, "text_encoders"), ("text_encoder",), dtype=torch.float32
        )
        self.tokenizer = checkpoints.load_tokenizer(text_info)
        self.vae = load_vae(models)
        self.calls = 0

    @torch.inference_mode()
    def __call__(self, prompts: Sequence[str], seed: int, frames: int, size: int) -> Tensor:
        """Clips (n, 3, frames, size, size) in -1..1; clip i has the noise of seed + i, whatever the others are."""
        config = self.vae.config
        side, length = size // config.space_compression, (frames - 1) // config.time_compression + 1
        noise = draw_noise((len(prompts), config.latent_channels, length, side, side), seed)
        negatives = [""] * len(prompts) if self.guided else []
        latent = self.latents(noise, encode_texts(self.text, self.tokenizer, [*negatives, *prompts]), seed)
        return self.vae.decode(self.latent_format.denormalize(latent)).clamp(-1, 1)

    def ask(self, clips: Sequence[Tensor], timestep: float, texts: TextFeatures) -> Tensor:
        """What the network answers for every row of `texts`; the clips are repeated to fill them."""
        rows = len(texts) // len(clips[-1])
        self.calls += rows
        clips = [clip.repeat(rows, 1, 1, 1, 1) for clip in clips]
        return self.network(clips, torch.full((len(texts),), timestep), texts.tokens, texts.mask, texts.pooled)

    def latents(self, noise: Tensor, texts: TextFeatures, seed: int) -> Tensor:
        """Normalised latents in the shape of `noise`."""
        raise NotImplementedError


class PyramidToVideo(TextToVideo):
    """Clips of a pyramidal flow."""

    def __init__(self, models: Path, stages: PyramidStages, guidance: PyramidGuidance) -> None:
        super().__init__(models, "pyramid", guidance.enabled)
        self.stages, self.guidance, self.history = stages, guidance, FULL_CLEAN_HISTORY

    @torch.inference_mode()
    def starting_with(self, pictures: Tensor) -> PyramidToVideo:
        """The same for clips that begin with `pictures (n, 3, 1, h, w)` in -1..1."""
        begun = copy(self)
        begun.history = PyramidHistory(start=self.latent_format.normalize(self.vae.encode(pictures).mode()))
        return begun

    def latents(self, noise: Tensor, texts: TextFeatures, seed: int) -> Tensor:
        def velocity(x: Tensor, call: StepInfo) -> Tensor:
            if self.guidance.is_zero_init(call.stage, call.step):
                return torch.zeros_like(x)
            guided = self.guidance.guides(call.stage)
            rows = texts if guided else texts.rows(slice(-len(x), None))  # the prompts come last
            answer = self.ask((*call.history, x), call.timestep, rows)
            return self.guidance.combine(*answer.chunk(2), call.unit) if guided else answer

        generators = row_generators(seed, len(noise))
        return sample_pyramid(velocity, noise, self.stages, generators=generators, history=self.history)


class FullSequenceToVideo(TextToVideo):
    """Clips of a family that makes all frames at once; guidance `scale` 1 is the prompt alone."""

    def __init__(self, models: Path, sampler: FullSequenceSampler, scale: float) -> None:
        super().__init__(models, sampler.family, scale != 1)
        self.sampler, self.scale = sampler, scale

    def latents(self, noise: Tensor, texts: TextFeatures, seed: int) -> Tensor:
        def ask(x: Tensor, timestep: float) -> Tensor:
            answer = self.ask((x,), timestep, texts)
            return apply_cfg(*answer.chunk(2), self.scale) if self.guided else answer

        return self.sampler.run(ask, noise, row_generators(seed, len(noise)), lambda done, total, clean: None)
