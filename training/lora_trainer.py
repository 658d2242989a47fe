"""Train a LoRA for a transformer from a file; the transformer itself stays as it is."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..models import checkpoints
from ..models.checkpoint_kinds import network_classes
from ..models.families import ModelFamily
from ..models.latent_format import LatentFormat
from ..models.lora import LoRA, LoRASettings, Part, lora_state, merge_lora, save_lora
from .batch import Networks
from .model_source import ModelSource, prepare
from .run.loop import TrainingRun, open_run
from .run.train_settings import TrainSettings
from .trainer import TrainingData


@dataclass(frozen=True)
class TrainedLoRA:
    """A run that trains a LoRA; it can be watched and saved like a `TrainedModel`."""

    run: TrainingRun
    kind: str
    config: Any
    family: ModelFamily
    latent_format: LatentFormat | None  # of the model; every model from a file that is trained has one
    base: nn.Module  # with the LoRA attached

    @property
    def networks(self) -> Networks:
        """What an objective is called with."""
        return {"transformer": self.base}

    def parts(self) -> dict[str, Part]:
        """The additions by layer, from averaged weights."""
        return self.run.modules["lora"].parts(self.run.averaged()["lora"])

    def network(self) -> nn.Module:
        """The transformer with the LoRA in its weights, in eval mode; it shares those that do not change."""
        plain = network_classes(self.kind)[1](self.config, device="meta")
        plain.load_state_dict(self.base.state_dict(), assign=True)
        return merge_lora(plain, self.parts(), 1.0).eval()

    def save(self, path: Path, replace: bool = True) -> Path:
        """Write the LoRA with averaged weights as one file that LoRA loaders take; see `checkpoints.save`."""
        about = {
            "kind": "lora",
            "base": {"kind": self.kind, "config": self.config.to_dict(), "family": self.family.to_dict()},
            "config": asdict(self.run.modules["lora"].settings),
        }
        return save_lora(path, lora_state(self.parts()), about, replace)


def start_lora_run(
    source: ModelSource, lora: LoRASettings, data: TrainingData, folder: Path, settings: TrainSettings
) -> TrainedLoRA:
    """A run in `folder` of a LoRA for the model from `source`: a new one, or the one that is there, where it stopped.

    ValueError when `source` is not a model from a file, or the run in `folder` is another one.
    """
    if source.weights is None:
        raise ValueError("a LoRA adds to a model that knows something: take 'Load for training', not 'New model'")
    own = checkpoints.inspect(source.weights, checkpoints.TRAINABLE).family
    if source.family != own or own.name == "gan":
        raise ValueError(
            f"a LoRA is trained as its model was; {source.weights.stem} is a {own}, and 'Load for training' makes it a "
            f"{source.family}. Leave the family at 'as it is'; GAN generators cannot have a LoRA"
        )
    model = prepare(source, *data.widths, settings.seed)
    description = {
        "kind": "lora",
        "base": {"kind": model.kind, "config": model.config.to_dict(), "family": own.to_dict()},
        "lora": asdict(lora),
        "seed": settings.seed,
        "data": data.key,
    }
    base = model.modules["transformer"]
    adapter = LoRA(base, lora, torch.Generator().manual_seed(settings.seed + 5))
    run = open_run({"lora": adapter}, settings, folder, description)
    base.to(run.device)
    return TrainedLoRA(run, model.kind, model.config, own, model.latent_format, base)
