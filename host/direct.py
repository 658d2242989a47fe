"""Clips of a network that no wire carries, such as one in training: called directly, in either host."""

from __future__ import annotations

from pathlib import Path

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
from .protocol import Conditioning, Latent
from .standalone.sampling import Guider, PyramidSampler, sample, sample_full_sequence
from .standalone.wires import Model


def sample_network(
    network: nn.Module,
    kind: str,
    latent_format: LatentFormat,
    family: ModelFamily,
    prompts: tuple[Conditioning, Conditioning | None, float],
    shape: tuple[int, ...],
    seed: int,
    steps: int = 0,
) -> Tensor:
    """Latents (b, c, t, h, w) in the VAE's scale from `network`, where it is and in its own type.

    `prompts` are CONDITIONING positive and negative, and the strength of guidance. `steps` 0 takes the default of
    the family.
    """
    weight = next(network.parameters())
    info = CheckpointInfo(Path("the model in training"), kind, network.config, latent_format, family)
    model = Model(network, info, weight.device, weight.dtype)
    positive, negative, scale = prompts
    latent: Latent = {"samples": torch.zeros(shape)}
    steps = steps or family.rules.default_steps
    if family.rules.in_stages:
        guider = Guider(model, positive, negative, PyramidGuidance(scale, scale))
        sampler = PyramidSampler(make_stages(first_steps=steps, video_steps=steps), PyramidHistory())
        return sample(guider, sampler, latent, seed, None)["samples"]
    if family.rules.one_step:
        negative, scale = None, 1.0
    how = full_sequence_sampler(family, steps)
    made = sample_full_sequence(model, how, (positive, negative, scale), latent, seed, lambda *_: None)
    return made["samples"]


def full_sequence_sampler(family: ModelFamily, steps: int) -> FullSequenceSampler:
    """The usual sampler of a family that makes all frames at once."""
    if family.rules.has_noise_schedule:
        return DDIMSampler(schedule_of(family), steps)
    return GANSampler() if family.rules.one_step else FlowSampler(steps, shift=family.shift)
