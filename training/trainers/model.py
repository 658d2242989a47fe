"""Train a transformer of any family on latents and texts that are encoded beforehand; resume exactly; save it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from ...models import checkpoints
from ...models.checkpoint_kinds import network_classes
from ...models.families import ModelFamily
from ...models.feature_discriminator import FrozenTransformer
from ...models.fingerprint import fingerprint
from ...models.latent_format import LatentFormat
from ..batch import Batch, Losses, Networks, Objective
from ..objectives.gan import gan_settings
from ..presets import TEXT_DROPOUT
from ..run.loop import OnStep, TrainingRun, open_run
from ..run.precision import use_fast_attention
from ..run.run_description import DESCRIPTION, earlier_description, earlier_format
from ..run.train_settings import TrainSettings
from .model_source import ModelSource, prepare


class TrainingData(Protocol):
    """What is learned: latents with texts."""

    @property
    def key(self) -> str:
        """What tells these data from others."""
        ...

    @property
    def widths(self) -> tuple[int, int, int]:
        """Latent channels, features of a text token, features of a pooled text."""
        ...

    def draw(self, generator: torch.Generator, dropout: float) -> Batch:
        """One batch, its latents in the VAE's scale; a share `dropout` of the texts is empty."""
        ...

    def measure_format(self) -> LatentFormat:
        """The format that gives these latents mean 0 and deviation 1."""
        ...


@dataclass(frozen=True)
class TrainingPlan:
    """How a run learns, how many clips go into a batch, and which share of the texts is left empty."""

    settings: TrainSettings = TrainSettings(2000, precision="auto")
    batch_size: int = 32
    text_dropout: float = TEXT_DROPOUT

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"a batch of {self.batch_size} clips; expected at least 1")
        if not 0 <= self.text_dropout <= 1:
            raise ValueError(f"text_dropout is {self.text_dropout}; expected a share, 0 to 1")


@dataclass(frozen=True)
class TrainedModel:
    """A run with what is needed to use or save its model: what travels on a TRAINING_RUN wire.

    `features` are those that a GAN with a feature discriminator is judged by.
    """

    run: TrainingRun
    kind: str
    config: Any
    family: ModelFamily
    latent_format: LatentFormat
    features: FrozenTransformer | None = None

    @property
    def networks(self) -> Networks:
        """What an objective is called with: the transformer, of a GAN also its discriminators and features."""
        return self.run.modules if self.features is None else {**self.run.modules, "features": self.features}

    @contextmanager
    def sampling(self) -> Iterator[nn.Module]:
        """The transformer with averaged weights, to make clips with: the one in training, where it is whole.

        Where weights are shared among processes a copy, after all of them have called `run.gather()`.
        """
        if not self.run.sharded:
            with self.run.averaged_in_place():
                yield self.run.modules["transformer"]
            return
        network = network_classes(self.kind)[1](self.config, device="meta").to_empty(device=self.run.device)
        network.load_state_dict(self.run.averaged()["transformer"])
        yield network

    def save(self, path: Path, dtype: torch.dtype = torch.float16, replace: bool = True) -> Path:
        """Write the transformer with averaged weights as one file that the loaders take; see `checkpoints.save`."""
        return checkpoints.save(
            path,
            self.run.averaged()["transformer"],
            self.kind,
            self.config,
            latent_format=self.latent_format,
            extra={"family": self.family.to_dict()},
            dtype=dtype,
            replace=replace,
        )


def start_run(
    source: ModelSource, data: TrainingData, folder: Path, settings: TrainSettings, features: bool = True
) -> TrainedModel:
    """A run in `folder` of the model from `source`: a new one, or the one that is there, where it stopped.

    `features` counts for a GAN alone, see `prepare`. ValueError when the run in `folder` trains another model, or the
    model does not fit latents and texts.
    """
    model = prepare(source, *data.widths, settings.seed, features)
    description = {
        "kind": model.kind,
        "config": model.config.to_dict(),
        "family": source.family.to_dict(),
        "seed": settings.seed,
        "data": data.key,
    }
    latent_format = model.latent_format
    if latent_format is None:
        known = earlier_description(folder, description).get("latent_format")
        latent_format = earlier_format(folder / DESCRIPTION, known) if known else data.measure_format()
    description["latent_format"] = latent_format.to_dict()
    if model.features is not None:
        description["features"] = fingerprint(model.features.network)
    if source.family.name == "gan":
        settings = gan_settings(settings, model.modules)
    run = open_run(model.modules, settings, folder, description)
    use_fast_attention(model.modules["transformer"], run.device, run.precision)
    if model.features is not None:
        go_with_run(model.features, run)
    return TrainedModel(run, model.kind, model.config, source.family, latent_format, model.features)


def go_with_run(features: FrozenTransformer, run: TrainingRun) -> None:
    """Let what looks at clips compute where and how the networks of a run do."""
    use_fast_attention(features.network.to(run.device), run.device, run.precision)
    features.network.enable_gradient_checkpointing(run.settings.gradient_checkpointing)


def train(
    trained: TrainedModel,
    objective: Objective[Batch],
    data: TrainingData,
    dropout: float,
    on_step: OnStep | None = None,
) -> TrainedModel:
    """Take the steps that are left. `objective` is that of the family, such as `FlowObjective`.

    A GAN sees every text, because it has no guidance that would evaluate it without.
    """
    dropout = 0.0 if trained.family.name == "gan" else dropout

    def training_step(step: int, generator: torch.Generator) -> Losses:
        batch = data.draw(generator, dropout).to(trained.run.device)
        return objective(trained.networks, batch.normalized(trained.latent_format), generator)

    trained.run.train(training_step, on_step=on_step)
    return trained
