"""Train a LoRA for a transformer from a file; the transformer itself stays as it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...models import checkpoints
from ...models.families import ModelFamily
from ...models.latent_format import LatentFormat
from ...models.lora import LoRA, LoRASettings, Part, lora_state, save_lora
from ...models.stored_linear import store_linears
from ..batch import Networks
from ..presets import AUTO, BASE_DTYPES
from ..run.loop import TrainingRun, open_run
from ..run.precision import use_fast_attention
from ..run.train_settings import TrainSettings
from .model import TrainingData
from .model_source import ModelSource, prepare


@dataclass(frozen=True)
class LoRARun:
    """A run with a LoRA, whatever it is for: what comes out of it."""

    run: TrainingRun

    def about_base(self) -> dict[str, Any]:
        """What the file says of the model that the LoRA is for."""
        raise NotImplementedError

    def parts(self) -> dict[str, Part]:
        """The additions by layer, from averaged weights."""
        return self.run.modules["lora"].parts(self.run.averaged()["lora"])

    def save(self, path: Path, replace: bool = True) -> Path:
        """Write the LoRA with averaged weights as one file that LoRA loaders take; see `checkpoints.save`."""
        settings = asdict(self.run.modules["lora"].settings)
        about = {"kind": "lora", "base": self.about_base(), "config": settings}
        return save_lora(path, lora_state(self.parts()), about, replace)


@dataclass(frozen=True)
class TrainedLoRA(LoRARun):
    """A run that trains a LoRA; it can be watched and saved like a `TrainedModel`."""

    kind: str
    config: Any
    family: ModelFamily
    latent_format: LatentFormat | None  # of the model; every model from a file that is trained has one
    base: nn.Module  # with the LoRA attached

    @property
    def networks(self) -> Networks:
        """What an objective is called with."""
        return {"transformer": self.base}

    def about_base(self) -> dict[str, Any]:
        return {"kind": self.kind, "config": self.config.to_dict(), "family": self.family.to_dict()}

    @contextmanager
    def sampling(self) -> Iterator[nn.Module]:
        """The transformer in training, to make clips with: for a while an averaged LoRA is in the place of its own."""
        own, state = self.run.modules["lora"], self.run.averaged()["lora"]
        own.detach()
        averaged = LoRA(self.base, own.settings, torch.Generator()).to(self.run.device)
        try:
            averaged.load_state_dict(state)
            yield self.base
        finally:
            averaged.detach()
            own.attach(self.base)


def check_base(source: ModelSource) -> ModelFamily:
    """The family of a model that a LoRA can be trained for. ValueError says why `source` is none."""
    if source.weights is None:
        raise ValueError("a LoRA adds to a model that knows something: take 'Load for training', not 'New model'")
    own = checkpoints.inspect(source.weights, checkpoints.TRAINABLE).family
    if own.name == "gan":
        raise ValueError(
            f"{source.weights.stem} is a {own}, and those cannot have a LoRA: choose a flow, diffusion or pyramid "
            "model in 'Load for training', or train this one further with 'Train GAN'"
        )
    if source.family != own:
        raise ValueError(
            f"a LoRA is trained as its model was; {source.weights.stem} is a {own}, and 'Load for training' makes it a "
            f"{source.family}. Leave the family at 'as it is'"
        )
    return own


def start_lora_run(
    source: ModelSource,
    lora: LoRASettings,
    data: TrainingData,
    folder: Path,
    settings: TrainSettings,
    base_dtype: str = AUTO,
) -> TrainedLoRA:
    """A run in `folder` of a LoRA for the model from `source`: a new one, or the one that is there, where it stopped.

    The large matrices of the model are stored in `base_dtype`, one of `BASE_DTYPES`; "auto" is the type that the run
    computes in, which changes no number. ValueError when `check_base` refuses `source`, or the run in `folder` is
    another one.
    """
    if base_dtype not in BASE_DTYPES:
        raise ValueError(f"base_dtype is {base_dtype!r}; expected {', '.join(BASE_DTYPES)}")
    own = check_base(source)
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
    use_fast_attention(base, run.device, run.precision)
    if base_dtype == AUTO:
        base_dtype = "bf16" if run.precision == "bf16" else "fp32"
    adapter.detach()
    store_linears(base, base_dtype)
    adapter.attach(base.to(run.device))
    return TrainedLoRA(run, model.kind, model.config, own, model.latent_format, base)
