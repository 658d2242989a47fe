"""A model of the host while it learns: its network lets gradients through, and the host does the rest.

The whole run happens where a sampler would run, inside a guider of the host: there the model is on its device with its
patches, prompts are processed by its own code, and its own rule mixes data and noise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import comfy.model_sampling
import comfy.sampler_helpers
import comfy.samplers
import torch
from torch import Tensor, nn

from ...models.model_in_training import Noise
from ..protocol import Conditioning
from .open_network import in_training, open_to_gradients
from .streams import Streams, packs_streams

Learn = Callable[["HostModelInTraining"], None]


class TrainingSampler(comfy.samplers.Sampler):
    """Runs a training where a sampler would walk from noise to data."""

    def __init__(self, learn: Learn, sound: list[Tensor]) -> None:
        self.learn, self.sound = learn, sound

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
        network = model_wrap.inner_model.diffusion_model
        with torch.inference_mode(False), torch.enable_grad(), in_training(), open_to_gradients(network) as forget:
            sound = [each.clone() for each in self.sound]
            self.learn(HostModelInTraining(model_wrap, extra_args, sound, forget))
        return torch.zeros_like(noise)


class HostModelInTraining:
    """What a training calls: the error of the model on a latent, at a level of noise that is drawn."""

    def __init__(
        self, guider: Any, extra_args: dict[str, Any], sound: list[Tensor], forget: Callable[[], None]
    ) -> None:
        self.guider, self.extra_args, self.sound, self.begin_step = guider, extra_args, sound, forget
        self.model = guider.inner_model

    @property
    def network(self) -> nn.Module:
        """As `ModelInTraining` says."""
        return self.model.diffusion_model

    @property
    def name(self) -> str:
        """As `ModelInTraining` says."""
        return type(self.model).__name__

    @property
    def is_flow(self) -> bool:
        """As `ModelInTraining` says."""
        return isinstance(self.model.model_sampling, comfy.model_sampling.CONST)

    def loss(self, latent: Tensor, conditioning: Conditioning, level: float, noise: Noise) -> Tensor:
        """As `ModelInTraining` says, of velocity, noise or v.

        A second half of the latent's channels is a start picture. Sound gets noise of the same level and counts for
        nothing.
        """
        sampling, device = self.model.model_sampling, self.guider.model_patcher.load_device
        latent, start = split_start(latent.to(device, torch.float32), self.model)
        picture = self.model.process_latent_in(latent if is_video(self.model) else latent.squeeze(2))
        shapes = [tuple(each.shape) for each in (picture, *self.sound)]
        streams = Streams(tuple(shapes))
        clean = streams.join([picture, *(each.to(device) for each in self.sound)])
        drawn = streams.join([noise(shape).to(device) for shape in shapes])
        sigma = float(sampling.percent_to_sigma(1 - level))
        sigmas = torch.tensor([sigma], device=device)
        self.guider.conds = self.processed(with_start(conditioning, start), drawn, clean, shapes)
        estimate = self.guider(sampling.noise_scaling(sigmas, drawn, clean), sigmas, **self.extra_args)
        error = (streams.split(estimate)[0].float() - picture).square().mean()
        return error * error_scale(sampling, sigma)

    @torch.no_grad()
    def processed(
        self, conditioning: Conditioning, noise: Tensor, clean: Tensor, shapes: list[tuple[int, ...]]
    ) -> dict[str, list[Any]]:
        """A prompt by the host's own code, for a latent of this size."""
        sizes = [torch.Size(shape) for shape in shapes]
        packed = {"latent_shapes": sizes} if packs_streams() else {}
        if hasattr(self.model, "latent_shapes"):
            self.model.latent_shapes = sizes
        conds = {"positive": comfy.sampler_helpers.convert_cond(conditioning)}
        return comfy.samplers.process_conds(
            self.model, noise, conds, noise.device, latent_image=clean, denoise_mask=None, seed=0, **packed
        )


def error_scale(sampling: Any, sigma: float) -> float:
    """What turns the squared error of a clean estimate into that of the prediction.

    Velocity of a flow and noise: 1 / sigma^2. v: (sigma^2 + d^2) / (sigma d)^2 with the deviation d of the data
    (Karras et al. 2022, table 1; d = 1 as in Salimans and Ho 2022).
    """
    if isinstance(sampling, comfy.model_sampling.V_PREDICTION):
        data = float(getattr(sampling, "sigma_data", 1.0))
        return (sigma**2 + data**2) / (sigma * data) ** 2
    return 1 / sigma**2


def is_video(model: Any) -> bool:
    """Whether the latents of a model have frames."""
    return int(getattr(model.latent_format, "latent_dimensions", 2)) == 3


def split_start(latent: Tensor, model: Any) -> tuple[Tensor, Tensor | None]:
    """A latent and the start picture that lies behind it, if there is one."""
    channels = int(model.latent_format.latent_channels)
    return latent[:, :channels], (latent[:, channels:] if latent.shape[1] > channels else None)


def with_start(conditioning: Conditioning, start: Tensor | None) -> Conditioning:
    """A prompt with a start picture: where the mask is 0 the frame is known."""
    if start is None:
        return conditioning
    mask = start.new_ones(1, 1, *start.shape[2:])
    mask[:, :, :1] = 0
    return [[tokens, {**extras, "concat_latent_image": start, "concat_mask": mask}] for tokens, extras in conditioning]
