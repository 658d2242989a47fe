"""Clips of many prompts at once from a transformer, a VAE and a text encoder in one folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from pyramid_video.models import checkpoints
from pyramid_video.models.text_encoder import encode_texts
from pyramid_video.samplers.guidance import PyramidGuidance
from pyramid_video.samplers.noise import draw_noise, row_generators
from pyramid_video.samplers.pyramid import Call, sample_pyramid
from pyramid_video.samplers.stages import PyramidStages
from torch import Tensor


def only_file(models: Path, kind: str) -> Path:
    """The one checkpoint in `models/kind`."""
    found = sorted((models / kind).glob("*.safetensors"))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "nothing"
        raise FileNotFoundError(f"{models / kind} must hold exactly one .safetensors file; it holds {names}")
    return found[0]


def load_vae(models: Path) -> torch.nn.Module:
    """The VAE of a folder that is laid out like `models/pretrained`."""
    return checkpoints.load(only_file(models, "vae"), ("causal_vae",), dtype=torch.float32)[0].eval()


class TextToVideo:
    """The three networks of a folder that is laid out like `models/pretrained`, in float32 on the CPU."""

    def __init__(self, models: Path, stages: PyramidStages, guidance: PyramidGuidance) -> None:
        self.stages, self.guidance = stages, guidance
        self.network, info = checkpoints.load(
            only_file(models, "diffusion_models"), ("miniflux", "mmdit"), dtype=torch.float32
        )
        self.latent_format = info.latent_format
        self.text, text_info = checkpoints.load(
            only_file(models, "text_encoders"), ("text_encoder",), dtype=torch.float32
        )
        self.tokenizer = checkpoints.load_tokenizer(text_info)
        self.vae = load_vae(models)

    @torch.inference_mode()
    def __call__(self, prompts: Sequence[str], seed: int, frames: int, size: int) -> Tensor:
        """Clips (n, 3, frames, size, size) in -1..1; clip i has the noise of seed + i, whatever the others are."""
        config = self.vae.config
        side, length = size // config.space_compression, (frames - 1) // config.time_compression + 1
        noise = draw_noise((len(prompts), config.latent_channels, length, side, side), seed)
        negatives = [""] * len(prompts) if self.guidance.enabled else []
        text, mask, pooled = encode_texts(self.text, self.tokenizer, [*negatives, *prompts])

        def velocity(x: Tensor, call: Call) -> Tensor:
            if self.guidance.stands_still(call.stage, call.step):
                return torch.zeros_like(x)
            rows = len(text) // len(x)
            clips = [clip.repeat(rows, 1, 1, 1, 1) for clip in (*call.history, x)]
            answer = self.network(clips, torch.full((len(text),), call.timestep), text, mask, pooled)
            return self.guidance.combine(*answer.chunk(2), call.unit) if negatives else answer

        latent = sample_pyramid(velocity, noise, self.stages, generators=row_generators(seed, len(prompts)))
        return self.vae.decode(self.latent_format.denormalize(latent)).clamp(-1, 1)
