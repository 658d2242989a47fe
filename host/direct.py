"""Clips of a network that no wire carries, such as one in training: asked directly, in either host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..models.checkpoint_info import CheckpointInfo
from ..models.families import ModelFamily
from ..models.latent_format import LatentFormat
from ..samplers.full_sequence import DDIMSampler, FlowSampler, FullSequenceSampler, GANSampler
from ..samplers.guidance import PyramidGuidance
from ..samplers.history import PyramidHistory
from ..samplers.noise_schedule import schedule_of
from ..samplers.stages import make_stages
from .standalone.sampling import Guider, PyramidSampler, sample, sample_full_sequence
from .standalone.wires import Model

USUAL_STEPS = {"pyramid": 10, "flow": 10, "diffusion": 50, "gan": 1}


def sample_network(
    network: nn.Module,
    kind: str,
    latent_format: LatentFormat,
    family: ModelFamily,
    prompts: tuple[list, list | None, float],
    shape: tuple[int, ...],
    seed: int,
    steps: int = 0,
) -> Tensor:
    """Latents (b, c, t, h, w) in the VAE's scale from `network`, where it is and in its own type.

    `prompts` are CONDITIONING positive and negative, and the strength of guidance. `steps` 0 takes what is usual for
    the family.
    """
    weight = next(network.parameters())
    info = CheckpointInfo(Path("the model in training"), kind, network.config, latent_format, family)
    model = Model(network, info, weight.device, weight.dtype)
    latent: dict[str, Any] = {"samples": torch.zeros(shape)}
    steps = steps or USUAL_STEPS[family.name]
    if family.name == "pyramid":
        positive, negative, scale = prompts
        guider = Guider(model, positive, negative, PyramidGuidance(scale, scale))
        sampler = PyramidSampler(make_stages(first_steps=steps, video_steps=steps), PyramidHistory())
        return sample(guider, sampler, latent, seed, None)["samples"]
    if family.name == "gan":
        prompts = (prompts[0], None, 1.0)
    return sample_full_sequence(model, full_sequence_sampler(family, steps), prompts, latent, seed, lambda *told: None)[
        "samples"
    ]


def full_sequence_sampler(family: ModelFamily, steps: int) -> FullSequenceSampler:
    """The usual sampler of a family that makes all frames at once."""
    if family.name == "diffusion":
        return DDIMSampler(schedule_of(family), steps)
    return FlowSampler(steps, shift=family.shift) if family.name == "flow" else GANSampler()
