"""Train a LoRA for a network that its host calls: Wan, LTX-2, HunyuanVideo, MiniMax H3, FLUX and whatever comes.

The host says what the model's error on a latent is (`ModelInTraining`); which layers learn is found by trying.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...models.bf16 import autocast_to_bf16
from ...models.fingerprint import shapes_digest
from ...models.gradient_scale import unscaled_gradients
from ...models.lora import LoRA, LoRASettings
from ...models.model_in_training import ModelClip, ModelInTraining
from ...models.repeated_blocks import block_layers, gradient_checkpoints
from ..batch import Losses
from ..data.latent_cache import LatentSet
from ..objectives.draw import GeneratorDraw, TimestepSampling
from ..objectives.pyramid import drop_captions
from ..run.loop import TrainingRun, TrainingStep, open_run
from ..run.precision import chosen_precision
from .lora import LoRARun
from .model import TrainingPlan

Conditioning = Any  # what the host makes of a text
LEAST_NOISE = 1e-3  # of the levels, in 0..1: errors are divided by the noise
ALL_LEVELS = TimestepSampling("logit_normal")


@dataclass(frozen=True, eq=False)
class ModelClips:
    """What is learned: latents in the VAE's scale, and what the host made of each of their captions and of none.

    With `has_start` a second half of their channels is what an image-to-video model is shown; with `starts_in_place` it
    is shown their own first frames.
    """

    latents: LatentSet
    texts: Mapping[str, Conditioning]
    key: str  # what tells these data from others
    has_start: bool = False
    starts_in_place: bool = False

    @property
    def largest(self) -> torch.Size:
        """The shape (c, t, h, w) of the largest latent."""
        shapes = [row.latent.shape for row in self.latents.rows]
        channels, *rest = max(shapes, key=torch.Size.numel)
        return torch.Size((channels // (2 if self.has_start else 1), *rest))

    def draw(self, generator: torch.Generator, count: int, dropout: float) -> list[ModelClip]:
        """`count` clips of one size with their texts, a share `dropout` of them empty."""
        latents, captions = self.latents.sample(generator, count)
        captions = drop_captions(captions, dropout, GeneratorDraw(generator))
        return [self.clip(latent, text) for latent, text in zip(latents.split(1), captions, strict=True)]

    def example(self, number: int, text: str) -> ModelClip:
        """One of the clips of the most frequent size with any `text`: something of its shape, and its start."""
        alike = max(self.latents.alike.values(), key=len)
        return self.clip(alike[number % len(alike)].latent[None], text)

    def clip(self, kept: Tensor, text: str) -> ModelClip:
        """A latent (1, c, t, h, w) as it is kept, with a text."""
        latent, start = kept.chunk(2, 1) if self.has_start else (kept, None)
        return ModelClip(latent, self.texts[text], start, self.starts_in_place)


@dataclass(frozen=True)
class TrainedModelLoRA(LoRARun):
    """A run that trained a LoRA for a model of the host; it can be saved like a `TrainedLoRA`."""

    base: str  # what the host calls the model

    def about_base(self) -> dict[str, Any]:
        return {"kind": self.base}


def way_learned(start: float, end: float) -> dict[str, float]:
    """What the description of a run says of the part of the way from noise to data that it learns."""
    return {"start_percent": start, "end_percent": end}


class ModelLoRA(LoRA):
    """A LoRA for a network that is the host's: it is let go when the additions are taken out."""

    def enable_gradient_checkpointing(self) -> None:
        """Nothing: `ModelLoRATraining` does it, for as long as it has the model."""

    def detach(self) -> None:
        super().detach()
        self._attached = ()


class ModelLoRATraining:
    """A LoRA in training for a model that its host lends for one stretch of the run after another.

    What is learned lies from `start` to `end` on the way from noise (0) to data (1), before the shift or schedule of
    the model. The run in `folder` is a new one, or the one that is there, where it stopped.
    """

    def __init__(
        self,
        settings: LoRASettings,
        clips: ModelClips,
        folder: Path,
        plan: TrainingPlan,
        start: float = 0.0,
        end: float = 1.0,
    ) -> None:
        self.settings, self.clips, self.folder, self.plan = settings, clips, folder, plan
        self.levels = TimestepSampling("logit_normal", least=1 - end, most=1 - start)
        self.way = way_learned(start, end)
        self.trained: TrainedModelLoRA | None = None  # when a model has been lent

    @contextmanager
    def attached(self, model: ModelInTraining) -> Iterator[tuple[TrainingRun, TrainingStep]]:
        """The run and its training step, for as long as `model` is lent; its LoRA is in its network.

        ValueError when the run in the folder is of something else, or nothing of the model can learn.
        """
        network = model.network
        network.requires_grad_(False)
        with gradient_checkpoints(network) if self.plan.settings.gradient_checkpointing else nullcontext():
            if self.trained is None or self.trained.run.is_half_updated:
                self.trained = self._open(model)
            adapter, run = self.trained.run.modules["lora"], self.trained.run
            adapter.attach(network)

            def training_step(step: int, generator: torch.Generator) -> Losses:
                model.begin_step()
                rows = self.clips.draw(generator, self.plan.batch_size, self.plan.text_dropout)
                return {"loss": torch.stack([error(model, row, generator, self.levels) for row in rows]).mean()}

            try:
                with unscaled_gradients(adapter.parameters(), model.gradient_scale):
                    yield run, training_step
            finally:
                adapter.detach()

    def _open(self, model: ModelInTraining) -> TrainedModelLoRA:
        settings = self.plan.settings
        with autocast_to_bf16(model.device, chosen_precision(settings.precision, model.device) == "bf16"):
            layers = learning_layers(model, self.settings.targets, self.clips)
        description = {
            "kind": "lora",
            "base": {"model": model.name, "shapes": shapes_digest(model.network)},
            "lora": asdict(self.settings),
            "seed": settings.seed,
            "data": self.clips.key,
            **self.way,
        }
        generator = torch.Generator().manual_seed(settings.seed + 5)
        adapter = ModelLoRA(model.network, self.settings, generator, layers)
        adapter.detach()
        run = open_run({"lora": adapter}, settings, self.folder, description)
        check_device(run.device, model.device)
        return TrainedModelLoRA(run, model.name)


def check_device(trains_on: torch.device, computes_on: torch.device) -> None:
    """Raise ValueError unless the additions learn where the network computes."""
    if (trains_on.type, trains_on.index or 0) != (computes_on.type, computes_on.index or 0):
        raise ValueError(
            f"the host has the model on {computes_on}, and accelerate trains on {trains_on}: let both see one device "
            "(ComfyUI: --cuda-device and its number)"
        )


def error(
    model: ModelInTraining, clip: ModelClip, generator: torch.Generator, levels: TimestepSampling = ALL_LEVELS
) -> Tensor:
    """The loss of a model at one of `levels` that is drawn: a flow's are logit-normal, those of others all alike."""
    draw = GeneratorDraw(generator)
    levels = levels if model.is_flow else replace(levels, name="uniform")
    level = float(levels.draw_sigmas(1, draw).clamp(LEAST_NOISE, 1 - LEAST_NOISE))
    return model.loss(clip, level, draw.normal)


def learning_layers(model: ModelInTraining, targets: str, clips: ModelClips) -> dict[str, nn.Module]:
    """The layers in blocks that `targets` means and that a gradient comes back to.

    Some are for what a clip does not have, such as sound, and some have done their work before the model is called.
    """
    candidates = block_layers(model.network, targets)
    generator = torch.Generator().manual_seed(0)
    with reached(candidates) as names:
        (clip,) = clips.draw(generator, 1, 0.0)
        error(model, clip, generator).backward()
    if not names:
        raise ValueError(
            f"no gradient comes back to the layers of {model.name}: another pack or block may have put a forward of "
            "its own in their place. Take such blocks off the model wire"
        )
    return {name: layer for name, layer in candidates.items() if name in names}


@contextmanager
def reached(layers: Mapping[str, nn.Module]) -> Iterator[set[str]]:
    """The names of those of `layers` that a backward of this while comes back to, with more than zeros."""
    names: set[str] = set()

    def watch(name: str) -> Any:
        def keep(_: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
            output = output + torch.zeros((), dtype=output.dtype, device=output.device, requires_grad=True)
            if output.requires_grad:
                output.register_hook(lambda gradient: names.add(name) if gradient.any() else None)
            return output

        return keep

    handles = [layer.register_forward_hook(watch(name)) for name, layer in layers.items()]
    try:
        yield names
    finally:
        for handle in handles:
            handle.remove()
