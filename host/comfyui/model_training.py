"""LoRAs for the host's own models, as blocks call it: its texts and latents, and the model while it learns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import comfy.model_base
import comfy.samplers
import torch
from torch import Tensor

from ...models.model_in_training import ModelInTraining
from ...models.model_info import ModelInfo
from ..protocol import Conditioning, Latent
from .any_model import tensors_of
from .model_in_training import TrainingSampler, is_video
from .open_network import more_memory, plain_attention, whole_weights
from .picture_info import picture_info

GRAY = 0.5


class ModelTraining:
    """As `protocol.ModelTraining` says."""

    def check(self, model: Any) -> None:
        own = getattr(model.model, "info", None)
        if isinstance(own, ModelInfo) and not own.family.rules.any_sampler:
            raise ValueError(f"{own.name} is a {own.family}, which learns in its own way: take 'Train LoRA'")
        picture_info(model.model)  # says so where a model turns one picture into another without noise

    def latent_channels(self, model: Any) -> int:
        return int(model.model.latent_format.latent_channels)

    def encode_prompt(self, clip: Any, text: str) -> Conditioning:
        encoded = clip.encode_from_tokens_scheduled(clip.tokenize(text))
        return [
            [in_memory(tokens), {key: in_memory(each) for key, each in extras.items()}] for tokens, extras in encoded
        ]

    def encode(self, vae: Any, images: Tensor) -> Tensor:
        latent = tensors_of(vae.encode(images[..., :3]))[0].float().cpu()
        if latent.ndim == 5:
            return latent
        if len(latent) > 1:
            raise ValueError(
                f"this VAE makes a latent of each picture, and the clips have {len(images)} frames: for a model of "
                "pictures choose 1 frame in the dataset, for one of videos wire the VAE that belongs to it"
            )
        return latent.unsqueeze(2)

    def start_latent(self, vae: Any, images: Tensor, model: Any) -> Tensor:
        """As core's blocks make it: Wan's models see gray after the first picture, others zeros."""
        first = self.encode(vae, images[:1])
        if model.model.concat_cond(noise=torch.zeros_like(first), device=first.device) is None:
            raise ValueError(
                f"{type(model.model).__name__} takes no start picture beside its latent: turn first_frames off. It is "
                "for models that continue pictures, such as Wan 2.1 and 2.2 I2V and HunyuanVideo 1.5 I2V"
            )
        if isinstance(model.model, comfy.model_base.WAN21):
            gray = torch.full_like(images, GRAY)
            gray[:1] = images[:1]
            return self.encode(vae, gray)
        start = torch.zeros_like(self.encode(vae, images))
        start[:, :, :1] = first
        return start

    def train(
        self,
        model: Any,
        shape: tuple[int, ...],
        prompt: Conditioning,
        sound: Latent | None,
        learn: Callable[[ModelInTraining], None],
    ) -> None:
        model = whole_weights(model)
        guider = comfy.samplers.CFGGuider(model)
        guider.inner_set_conds({"positive": prompt})
        picture = torch.zeros(shape if is_video(model.model) else (shape[0], shape[1], *shape[3:]))
        others = [] if sound is None else [torch.zeros_like(each[:1]) for each in tensors_of(sound["samples"])[1:]]
        sampler = TrainingSampler(learn, others)
        # The host loads, patches and unloads as ever, in inference mode, as its own blocks do.
        with torch.inference_mode(), more_memory(model.model), plain_attention(guider):
            guider.sample(picture, picture, sampler, torch.ones(1), disable_pbar=True, seed=0)


def in_memory(value: Any) -> Any:
    """A tensor in the computer's memory, to be kept; anything else as it is."""
    return value.cpu().clone() if isinstance(value, Tensor) else value
