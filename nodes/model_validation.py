"""Clips of a model of the host while a LoRA for it is trained, as 'Load LoRA' and 'KSampler' would make them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from ..host.protocol import ModelTraining
    from ..training.run.validation import ValidationPlan
    from ..training.trainers.lora import LoRARun
    from ..training.trainers.model_lora import ModelClips

USUAL_STEPS = 20  # of models that are not distilled


def validation_clips(
    host: ModelTraining, model: Any, vae: Any, trained: LoRARun, data: ModelClips, plan: ValidationPlan
) -> list[Tensor]:
    """A clip `(frames, h, w, 3)` in bytes of each prompt, of the size that is most frequent in the data.

    An image-to-video model is shown the start pictures of clips of that size, one after the other. `data.texts` has to
    know the prompts. The host may put the VAE in the place of the model, so the model must not be lent for training.
    """
    from ..drawings.animation import in_bytes
    from ..models.lora import lora_state

    lora, negative = lora_state(trained.parts()), data.texts[""]
    clips = [data.example(number, prompt) for number, prompt in enumerate(plan.prompts)]
    latents = host.sample(model, lora, clips, negative, plan.cfg, plan.steps or USUAL_STEPS, plan.seed)
    return [in_bytes(host.decode(vae, latent)) for latent in latents]
