"""A model of the host while it learns: its network lets gradients through, and the host does the rest.

The whole run happens where a sampler would run, inside a guider of the host: there the model is on its device with its
patches, prompts are processed by its own code, and its own rule mixes data and noise.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import comfy.model_sampling
import comfy.sampler_helpers
import comfy.samplers
import torch
from torch import Tensor, nn

from ...models.bf16 import autocast_to_bf16
from ...models.gradient_scale import scale_gradient
from ...models.model_in_training import ModelClip, Noise
from ...models.out_of_memory import is_device_full, retry_with_room
from ..protocol import Conditioning
from .any_model import fit_empty, tensors_of
from .forward import compute_dtype
from .open_network import ChangedInPlace, in_training, no_room, open_to_gradients, unload_some
from .patchers import release_memory
from .stage_options import PatchMemory, emptied, stage_options
from .streams import Streams, packs_streams

PATCHES = {  # torch's words, and what a patch has done then
    "Inference tensors": "has tensors of its own, such as a LoRA that is loaded in bypass mode or a prompt for NAG",
    "used in an in-place operation": "goes on with what an earlier run has left, as some caches do",
}
MEAN_OVER = 32  # gradients in float16 are those of a mean over so many: 0 of no large clip, inf of no small one
STEPS_AHEAD = 1000  # of the run that patches see: nothing is left out of the first of so many

Learn = Callable[["HostModelInTraining"], None]


class TrainingSampler(comfy.samplers.Sampler):
    """Runs a training where a sampler would walk from noise to data.

    `learn` may be called again after an error for want of memory or a change in place, and goes on where it was.
    """

    def __init__(self, learn: Learn) -> None:
        self.learn = learn

    def sample(
        self,
        model_wrap: Any,
        sigmas: Tensor,
        extra_args: dict[str, Any],
        callback: Any,
        noise: Tensor,
        latent_image: Tensor | None = None,
        denoise_mask: Tensor | None = None,
        disable_pbar: bool = False,
    ) -> Tensor:
        """As the host asks for it. Where a step needs more memory, weights make way and the run goes on.

        ValueError where there is no room with all of them away, or nothing can be learned through a patch.
        """
        patcher = model_wrap.model_patcher

        def make_room(error: BaseException) -> bool:
            return is_device_full(error) and unload_some(patcher)

        try:
            while not retry_with_room(
                lambda: self.stretch(model_wrap, extra_args, noise.numel()),
                make_room,
                partial(release_memory, patcher.model),
            ):
                pass  # the network is known better now
        except RuntimeError as error:
            if not is_device_full(error):
                raise
            raise ValueError(
                f"a step of this training does not fit into the memory of {patcher.load_device}, and "
                f"{no_room(patcher)}: choose fewer frames or a smaller size in the dataset, and a batch of 1 and "
                "gradient_checkpointing in 'Training settings'"
            ) from error
        return torch.zeros_like(noise)

    def stretch(self, model_wrap: Any, extra_args: dict[str, Any], numel: int) -> bool:
        """Learn with as many weights on the device as the host has put there; False where it must be tried again.

        `numel` is how many numbers the largest latent has.
        """
        network, patcher = model_wrap.inner_model.diffusion_model, model_wrap.model_patcher
        if patcher.loaded_size() < patcher.model_size():
            logging.info(
                "Pyramid Video: %.1f of %.1f GB of the model are on %s beside what a step needs; the others are "
                "copied there in every step",
                patcher.loaded_size() / 1e9,
                patcher.model_size() / 1e9,
                patcher.load_device,
            )
        try:
            with torch.inference_mode(False), torch.enable_grad(), in_training(), open_to_gradients(network) as forget:
                self.learn(HostModelInTraining(model_wrap, extra_args, forget, numel))
        except ChangedInPlace:
            return False
        except RuntimeError as error:
            why = next((reason for words, reason in PATCHES.items() if words in str(error)), None)
            if why is None:
                raise
            raise ValueError(
                f"a patch on the model wire {why}, and nothing can be learned through it: take it off. LoRAs of 'Load "
                "LoRA' may stay"
            ) from error
        return True


def without_guidance(extra_args: dict[str, Any]) -> dict[str, Any]:
    """What a sampler hands to the model, without what changes estimates after the network: guidance learns nothing."""
    changes = ("sampler_cfg_function", "sampler_pre_cfg_function", "sampler_post_cfg_function")
    options = {name: value for name, value in extra_args.get("model_options", {}).items() if name not in changes}
    return {**extra_args, "model_options": options}


class HostModelInTraining:
    """What a training calls: the error of the model on a latent, at a level of noise that is drawn."""

    def __init__(self, guider: Any, extra_args: dict[str, Any], forget: Callable[[], None], numel: int) -> None:
        self.guider, self.extra_args, self.begin_step = guider, without_guidance(extra_args), forget
        self.model, self.numel = guider.inner_model, numel

    @property
    def network(self) -> nn.Module:
        """As `ModelInTraining` says."""
        return self.model.diffusion_model

    @property
    def name(self) -> str:
        """As `ModelInTraining` says."""
        return type(self.model).__name__

    @property
    def device(self) -> torch.device:
        """As `ModelInTraining` says."""
        return self.guider.model_patcher.load_device

    @property
    def is_flow(self) -> bool:
        """As `ModelInTraining` says."""
        kinds = comfy.model_sampling
        flows = tuple(getattr(kinds, name) for name in ("CONST", "COSMOS_RFLOW") if hasattr(kinds, name))
        return isinstance(self.model.model_sampling, flows)

    @property
    def gradient_scale(self) -> float:
        """As `ModelInTraining` says. A power of two: nothing is rounded by it."""
        power = max(0, round(math.log2(self.numel / MEAN_OVER)))
        return 2.0**power if compute_dtype(self.model) == torch.float16 else 1.0

    def as_in_sampling(self) -> AbstractContextManager[object]:
        """Without autocast for a network that computes in bf16 by itself.

        On cards autocast lets norms answer in float32, and the host brings the weights of the next layer in the type of
        what comes in: twice as large, and those in few bits as copies that are multiplied in full.
        """
        if compute_dtype(self.model) == torch.bfloat16:
            return autocast_to_bf16(self.device, enabled=False)
        return nullcontext()

    def loss(self, clip: ModelClip, level: float, noise: Noise) -> Tensor:
        """As `ModelInTraining` says, of velocity, noise or v.

        What a model makes beside the picture, such as sound, is empty, gets noise of the same level and counts for
        nothing; nor does the first frame of a clip that starts in place.
        """
        sampling, patcher = self.model.model_sampling, self.guider.model_patcher
        latent = clip.latent.to(self.device, torch.float32)
        picture = self.model.process_latent_in(latent if is_video(self.model) else latent.squeeze(2))
        others = [each.to(picture) for each in empty_streams(patcher, clip.latent.shape)[1:]]
        streams = Streams(tuple(tuple(each.shape) for each in (picture, *others)))
        clean = streams.join([picture, *others])
        drawn = streams.join([noise(shape).to(picture) for shape in streams.shapes])
        sigma = float(sampling.percent_to_sigma(1 - level))
        sigmas = torch.tensor([sigma])
        scale = float(error_scale(sampling, sigmas))
        sigmas = sigmas.to(picture.device)
        made = unknown(clip.latent).to(picture).expand_as(picture) if clip.starts_in_place else None
        mask = None if made is None else streams.join([made, *map(torch.ones_like, others)])
        self.guider.conds = self.processed(with_start(clip), drawn, clean, streams, mask)
        # The first step of a run: caches of the last one, at another level of another clip, would teach nothing.
        ahead = torch.linspace(sigma, 0, STEPS_AHEAD + 1, device=sigmas.device)
        model = comfy.samplers.KSamplerX0Inpaint(self.guider, ahead)  # which knows what is shown of what is known
        model.noise, model.latent_image = drawn, clean
        options = self.extra_args["model_options"]
        arguments = {**self.extra_args, "model_options": stage_options(options, ahead, self.model)}
        with PatchMemory(options, self.network), emptied(arguments["model_options"]), self.as_in_sampling():
            estimate = model(sampling.noise_scaling(sigmas, drawn, clean), sigmas, denoise_mask=mask, **arguments)
        estimate = scale_gradient(estimate, self.gradient_scale)
        error = (streams.split(estimate)[0].float() - picture).square()
        return scale * (error.mean() if made is None else error.sum() / made.sum())

    @torch.no_grad()
    def processed(
        self, conditioning: Conditioning, noise: Tensor, clean: Tensor, streams: Streams, mask: Tensor | None
    ) -> dict[str, list[Any]]:
        """A prompt by the host's own code, for a latent of this size."""
        packed = {"latent_shapes": streams.sizes} if packs_streams() else {}
        if hasattr(self.model, "latent_shapes"):
            self.model.latent_shapes = streams.sizes
        conds = {"positive": comfy.sampler_helpers.convert_cond(conditioning)}
        return comfy.samplers.process_conds(
            self.model, noise, conds, noise.device, latent_image=clean, denoise_mask=mask, seed=0, **packed
        )


def error_scale(sampling: Any, sigmas: Tensor) -> Tensor:
    """What turns the squared error of a clean estimate at a level (1,) into that of the prediction.

    The estimate is linear in what a network predicts, whatever that is (velocity, noise, v): its slope is measured.
    """
    nothing, one = torch.zeros(1, 1, 1, 1, 1), torch.ones(1, 1, 1, 1, 1)
    slope = sampling.calculate_denoised(sigmas, one, nothing) - sampling.calculate_denoised(sigmas, nothing, nothing)
    return 1 / slope.square().squeeze()


def is_video(model: Any) -> bool:
    """Whether the latents of a model have frames."""
    return int(getattr(model.latent_format, "latent_dimensions", 2)) == 3


def empty_streams(model: Any, shape: Sequence[int]) -> list[Tensor]:
    """The streams of an empty latent of the picture (1, c, t, h, w) as a MODEL wants them, the picture first."""
    picture = torch.zeros(tuple(shape))
    picture = picture if is_video(model.model) else picture.squeeze(2)
    return tensors_of(fit_empty(model, {"samples": picture}))


def unknown(latent: Tensor) -> Tensor:
    """1 where a clip (1, c, t, h, w) that starts in place is to be made, 0 in its first frame: (1, 1, t, h, w)."""
    mask = latent.new_ones(1, 1, *latent.shape[2:])
    mask[:, :, :1] = 0
    return mask


def with_start(clip: ModelClip) -> Conditioning:
    """The prompt of a clip with its start picture: where the mask is 0 the frame is known."""
    if clip.start is None:
        return clip.conditioning
    shown = {"concat_latent_image": clip.start, "concat_mask": unknown(clip.start)}
    return [[tokens, {**extras, **shown}] for tokens, extras in clip.conditioning]
