"""LoRAs for the host's own models, as blocks call it: its texts and latents, and the model while it learns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import comfy.model_base
import comfy.model_sampling
import comfy.samplers
import comfy.sd
import torch
from torch import Tensor

from ...models.model_in_training import ModelClip, ModelInTraining
from ...models.model_info import ModelInfo
from ..protocol import Conditioning
from .any_model import ksampler, nested, noise_rows, run, tensors_of
from .model_in_training import TrainingSampler, empty_streams, is_video, unknown, with_start
from .open_network import attend_plainly, more_memory
from .picture_info import kinds_of, scaling_of, whole_patches
from .whole_weights import whole_weights

GRAY = 0.5
OTHER_TEXT = ("mat1 and mat2 shapes cannot", "normalized_shape=", "Sizes of tensors must match", "pooled_output")
PICTURES = {"QwenImage", "Krea2", "Anima"}  # whose latents have frames, but only one


class ModelTraining:
    """As `protocol.ModelTraining` says."""

    def check(self, model: Any) -> None:
        own = getattr(model.model, "info", None)
        if isinstance(own, ModelInfo) and not own.family.rules.any_sampler:
            raise ValueError(f"{own.name} is a {own.family}, which learns in its own way: take 'Train LoRA'")
        if getattr(model, "additional_models", {}).get("multigpu"):
            raise ValueError("this model is shared among several cards, and training takes one: take that block away")
        if isinstance(model.model.model_sampling, getattr(comfy.model_sampling, "V_PREDICTION_DDPM", ())):
            raise ValueError(
                f"{type(model.model).__name__} is called by ComfyUI in a way that does not tell what it predicts, so "
                "its error cannot be worked out: no LoRA can be trained for it here"
            )
        try:
            scaling_of(model.model)
        except ValueError:
            raise ValueError(
                f"{type(model.model).__name__} turns one picture into another without noise, and what is learned here "
                "is to take noise away: take a model that begins with noise"
            ) from None

    def check_sizes(self, vae: Any, model: Any, sizes: Iterable[tuple[int, int]]) -> None:
        check_kind(vae, model)
        patch = whole_patches(model.model)
        if patch == 1:
            return
        cell = int(vae.spacial_compression_encode())
        for height, width in sizes:
            if (height // cell) % patch or (width // cell) % patch:
                raise ValueError(
                    f"clips of {width}x{height} pixels do not fit {type(model.model).__name__}, which reads whole "
                    f"patches of {patch * cell}x{patch * cell} pixels: set multiple to {patch * cell} in the dataset"
                )

    def encode_prompt(self, clip: Any, text: str) -> Conditioning:
        return [
            [in_memory(tokens), {key: in_memory(each) for key, each in extras.items()}]
            for tokens, extras in clip.encode_from_tokens_scheduled(clip.tokenize(text))
        ]

    def encode(self, vae: Any, images: Tensor, model: Any) -> Tensor:
        latent = tensors_of(vae.encode(images[..., :3]))[0].float().cpu()
        if latent.ndim == 4:  # of a VAE of pictures, which takes each frame for one
            latent = latent.movedim(0, 1)[None]
        check_latent(model, latent.shape)
        return latent

    def check_clip(self, model: Any, clip: ModelClip) -> None:
        def look(opened: ModelInTraining) -> None:
            with torch.no_grad():
                opened.loss(clip, 0.5, torch.zeros)

        self.train(self.whole(model), clip.latent.shape[1:], clip.conditioning, look)

    def starts_in_place(self, model: Any) -> bool:
        return takes_denoise_mask(model.model)

    def start_latent(self, vae: Any, images: Tensor, model: Any) -> Tensor:
        """As core's blocks make it: Wan's models see gray after the first picture, others zeros."""
        first = self.encode(vae, images[:1], model)
        if not shows_start(model.model, first):
            raise ValueError(
                f"{type(model.model).__name__} takes no start picture: turn first_frames off. It is for models that "
                "continue pictures, such as Wan 2.1 and 2.2 I2V, Wan 2.2 5B, LTX and HunyuanVideo 1.5 I2V"
            )
        if isinstance(model.model, comfy.model_base.WAN21):
            gray = torch.full_like(images, GRAY)
            gray[:1] = images[:1]
            return self.encode(vae, gray, model)
        start = torch.zeros_like(self.encode(vae, images, model))
        start[:, :, :1] = first
        return start

    def whole(self, model: Any) -> Any:
        clone = whole_weights(model)
        attend_plainly(clone)
        return clone

    def train(
        self, model: Any, shape: Sequence[int], prompt: Conditioning, learn: Callable[[ModelInTraining], None]
    ) -> None:
        check_latent(model, (1, *shape))  # it may have been made for another model
        guider = comfy.samplers.CFGGuider(model)
        guider.inner_set_conds({"positive": prompt})
        empty = nested(empty_streams(model, (1, *shape)))
        # The host loads, patches and unloads as ever, in inference mode, as its own blocks do.
        with torch.inference_mode(), more_memory(model.model), saying_what_is_read(model.model):
            guider.sample(empty, empty, TrainingSampler(learn), torch.ones(1), disable_pbar=True, seed=0)

    def sample(
        self, model: Any, lora: Mapping[str, Tensor], clips: Sequence[ModelClip], negative: Conditioning, cfg: float,
        steps: int, seed: int,
    ) -> list[Tensor]:  # fmt: skip
        """As core's blocks would: 'Load LoRA' and 'KSampler' with euler and simple."""
        adapted, _ = comfy.sd.load_lora_for_models(model, None, dict(lora), 1.0, 0.0)  # once: it is loaded once
        sampler, sigmas = (
            comfy.samplers.sampler_object("euler"),
            ksampler(adapted, "euler", steps, "simple", 1.0).sigmas,
        )
        latents = []
        for clip_seed, clip in enumerate(clips, seed):
            prompts = with_start(clip), with_start(replace(clip, conditioning=negative)), cfg
            picture, *others = empty_streams(model, clip.latent.shape)
            mask = None
            if clip.starts_in_place:
                picture[:, :, :1], mask = clip.latent[:, :, :1], unknown(clip.latent)
            samples = nested([picture, *others])
            with torch.inference_mode():
                noise = noise_rows(samples, clip_seed)
                made = run(adapted, prompts, sampler, sigmas, noise, samples, mask, clip_seed)
            latents.append(in_memory(tensors_of(made)[0]).float().reshape(clip.latent.shape))
        return latents

    def decode(self, vae: Any, latent: Tensor) -> Tensor:
        of_pictures = getattr(vae, "latent_dim", 3) == 2  # which takes each frame for one
        with torch.inference_mode():
            pictures = vae.decode(latent[0].movedim(1, 0) if of_pictures else latent)
        return in_memory(pictures).flatten(0, -4).float()


@contextmanager
def saying_what_is_read(model: Any) -> Iterator[None]:
    """Errors in which a text of another width ends, or one without a vector, become a ValueError that says so."""
    try:
        yield
    except (RuntimeError, KeyError) as error:
        if not any(words in str(error) for words in OTHER_TEXT):
            raise
        raise ValueError(
            f"{type(model).__name__} does not read what this text encoder makes ({error}): wire the text encoder that "
            "belongs to the model"
        ) from error


def check_kind(vae: Any, model: Any) -> None:
    """Raise ValueError for a VAE of pictures and a model of videos, or the other way round: channels may be the same.

    A model of pictures whose latents have frames has the VAE of a video.
    """
    axes, wanted = getattr(vae, "latent_dim", None), 3 if is_video(model.model) else 2
    kinds = {2: "pictures", 3: "videos"}
    if axes in kinds and axes != wanted:
        raise ValueError(
            f"this is a VAE of {kinds[axes]}, and {type(model.model).__name__} reads latents of {kinds[wanted]}: wire "
            "the VAE that belongs to the model"
        )


def check_latent(model: Any, shape: Sequence[int]) -> None:
    """Raise ValueError where a model does not read latents (1, c, t, h, w) of this shape."""
    name, (_, channels, frames, *_) = type(model.model).__name__, shape
    if frames > 1 and makes_pictures(model.model):
        raise ValueError(
            f"{name} makes pictures, and the clips have {frames} frames as latents: choose 1 frame in the dataset"
        )
    wanted = empty_streams(model, shape)[0].shape[1]
    if channels != wanted:
        raise ValueError(
            f"this VAE makes latents of {channels} channels, and {name} reads {wanted}: wire the VAE that belongs to "
            "the model"
        )


def makes_pictures(model: Any) -> bool:
    """Whether a model makes single pictures; the latents of some have the VAE of a video, and its frames."""
    kinds = kinds_of(model)
    pictures_of_cosmos = "CosmosPredict2" in kinds and not model.image_to_video
    return not is_video(model) or bool(kinds & PICTURES) or pictures_of_cosmos


def shows_start(model: Any, first: Tensor) -> bool:
    """Whether a model is shown a start picture `first` (1, c, 1, h, w): what goes beside its latent depends on it."""
    mask = torch.zeros(1, 1, *first.shape[2:])
    shown = {"noise": torch.zeros_like(first), "device": first.device, "concat_mask": mask}
    try:
        one, other = (model.concat_cond(concat_latent_image=each, **shown) for each in (first, first + 1))
    except (AttributeError, KeyError, TypeError):  # of a model that wants something else beside its latent
        return False
    return one is not None and not torch.equal(one, other)


def takes_denoise_mask(model: Any) -> bool:
    """Whether the host shows a network which part of a latent is known, and leaves that part without noise."""
    like = torch.zeros(1, model.latent_format.latent_channels, 2, 4, 4)
    try:
        conds = model.extra_conds(noise=like, device=like.device, denoise_mask=torch.ones_like(like))
        known = model.scale_latent_inpaint(x=like, sigma=torch.ones(1), noise=like, latent_image=like + 1)
    except (AttributeError, KeyError, TypeError):  # of a model that wants something else, which these do not
        return False
    return "denoise_mask" in conds and torch.equal(known, like + 1)


def in_memory(value: Any) -> Any:
    """A tensor in the computer's memory, to be kept; anything else as it is."""
    return value.cpu().clone() if isinstance(value, Tensor) else value
