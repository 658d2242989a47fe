"""Flows, diffusion models and GANs in the host: their noise levels as its sigmas, and our samplers calling its guider.

The host's own samplers run them too. It holds a clip at noise level sigma as `data + sigma * noise` for diffusion
models, and as `sigma * noise + (1 - sigma) * data` for flows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import comfy.model_management
import comfy.samplers
import torch
from torch import Tensor

from ...samplers.flow import TIMESTEPS
from ...samplers.full_sequence import FullSequenceSampler, ModelCall
from ...samplers.guidance import ClipGuidance
from ...samplers.noise import row_generators
from ...samplers.noise_schedule import schedule_of
from ...samplers.time_left import TimeEstimator, time_left
from ..protocol import Conditioning
from .page import say
from .sampling import check_guidance_is_free

Callback = Callable[[int, Tensor, Tensor, int], None]  # (step, estimate of the clean latent, x, total steps)


def sampled_sigmas(model: Any, sampler: FullSequenceSampler) -> Tensor:
    """The host's sigmas at the steps of `sampler`, and 0; patches read them."""
    family = model.model.info.family
    if family.rules.has_noise_schedule:
        sigmas = schedule_of(family).sigmas.float()
        return torch.cat([sigmas[[int(level) for level in sampler.timesteps]], torch.zeros(1)])
    return torch.tensor([*(timestep / TIMESTEPS for timestep in sampler.timesteps), 0.0])


class PromptGuider(comfy.samplers.CFGGuider):
    """Classifier-free guidance; without a negative, or at scale 1, one row a clip instead of two."""

    def __init__(
        self, model: Any, positive: Conditioning, negative: Conditioning | None, scale: float, guidance: ClipGuidance
    ) -> None:
        super().__init__(model)
        if not guidance.plain:
            name = "CFG-Zero*" if guidance.zero_star else "coarse_guidance"
            instead = "set guidance_rule of 'Sample flow' to 'plain' and coarse_guidance to 1"
            check_guidance_is_free(model, name, instead)
            # Called with both outputs as `sigma * velocity`.
            self.model_options: dict[str, Any] = {
                **model.model_options,
                "sampler_cfg_function": lambda outputs: guidance.combine(outputs["uncond"], outputs["cond"], scale),
            }
        self.inner_set_conds({"positive": positive, **({} if negative is None else {"negative": negative})})
        self.set_cfg(1.0 if negative is None else scale)


class HostFullSequenceSampler(comfy.samplers.Sampler):
    """Plays one of our samplers with the host's guider."""

    def __init__(self, sampler: FullSequenceSampler, rows: Sequence[int] | None = None) -> None:
        self.sampler = sampler
        self.rows = rows  # their numbers in the batch that they were cut out of
        self.family = sampler.family  # what the guard on the MODEL looks for

    def sample(
        self,
        model_wrap: Any,
        sigmas: Tensor,
        extra_args: dict[str, Any],
        callback: Callback | None,
        noise: Tensor,
        latent_image: Tensor | None = None,
        denoise_mask: Tensor | None = None,
        disable_pbar: bool = False,
    ) -> Tensor:
        """Make a normalised latent (b, c, t, h, w) from white `noise` of that shape."""
        seed, options = extra_args.get("seed") or 0, extra_args.get("model_options", {})
        estimator = TimeEstimator()

        def clean(x: Tensor, sigma: float | Tensor) -> Tensor:
            return model_wrap(x, x.new_ones(len(x)) * sigma, model_options=options, seed=seed)

        def report(done: int, total: int, estimate: Tensor) -> None:
            comfy.model_management.throw_exception_if_processing_interrupted()
            estimator.step()
            say(f"all frames at once, call {done} of {total}{time_left(estimator.left({None: total - done}))}")
            if callback is not None:
                callback(done - 1, estimate, estimate, total)

        model = model_wrap.inner_model
        is_diffusion = model.info.family.rules.has_noise_schedule
        ours = diffusion_model(clean, model) if is_diffusion else flow_model(clean)
        return self.sampler.run(ours, noise, row_generators(seed, len(noise), self.rows), report)


def flow_model(clean: Callable[[Tensor, float], Tensor]) -> ModelCall:
    """The velocity that our samplers call for, from the host's clean estimate."""

    def velocity(x: Tensor, timestep: float) -> Tensor:
        sigma = timestep / TIMESTEPS
        return (x - clean(x, sigma)) / sigma

    return velocity


def diffusion_model(clean: Callable[[Tensor, Tensor], Tensor], model: Any) -> ModelCall:
    """Likewise for the noise or v of a diffusion model; ours keep the variance at 1, the host keeps the data's size."""
    schedule, sigmas = schedule_of(model.info.family), model.model_sampling.sigmas

    def prediction(x: Tensor, timestep: float) -> Tensor:
        alpha, sigma = schedule.alphas_cumprod[int(timestep)], sigmas[int(timestep)]
        signal, spread = math.sqrt(alpha), math.sqrt(1 - alpha)
        estimate = clean(x * (sigma.square() + 1).sqrt().to(x), sigma.to(x))
        noise = (x - signal * estimate) / spread
        return noise if schedule.prediction == "epsilon" else signal * noise - spread * estimate

    return prediction
