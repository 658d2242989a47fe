"""Train a transformer of any family on latents and texts that are made beforehand; go on exactly; save the result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..models import checkpoints
from ..models.checkpoint_kinds import network_classes
from ..models.families import ModelFamily
from ..models.latent_format import LatentFormat
from .model_source import Trainee, prepare
from .objectives.gan import BETAS
from .run.loop import OnStep, TrainingRun, TrainSettings
from .run.run_description import DESCRIPTION, earlier_description, earlier_format, write_description

Batch = tuple[Tensor, Tensor, Tensor | None, Tensor]  # latents in the VAE's scale, text, mask, pooled


class Material(Protocol):
    """What is learned: latents with texts."""

    @property
    def key(self) -> str:
        """What tells this material from other."""
        ...

    @property
    def widths(self) -> tuple[int, int, int]:
        """Latent channels, features of a text token, features of a pooled text."""
        ...

    def draw(self, generator: torch.Generator, dropout: float) -> Batch:
        """One batch; a share `dropout` of the texts is empty."""
        ...

    def measure_format(self) -> LatentFormat:
        """The format that gives these latents mean 0 and deviation 1."""
        ...


@dataclass(frozen=True)
class TrainingPlan:
    """How a run learns, how many clips go into a batch, and which share of the texts is left empty."""

    settings: TrainSettings = TrainSettings(2000)
    batch: int = 32
    text_dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ValueError(f"a batch of {self.batch} clips; expected at least 1")
        if not 0 <= self.text_dropout <= 1:
            raise ValueError(f"text_dropout is {self.text_dropout}; expected a share, 0 to 1")


@dataclass(frozen=True)
class TrainedModel:
    """A run with what is needed to use or save its model: what travels on a TRAINING_RUN wire."""

    run: TrainingRun
    kind: str
    config: Any
    family: ModelFamily
    latent_format: LatentFormat

    @property
    def networks(self) -> list[nn.Module]:
        """What an objective is called with: the transformer, of a GAN also the discriminator."""
        return list(self.run.modules.values())

    def network(self) -> nn.Module:
        """A copy of the transformer with averaged weights, in eval mode, where the run is."""
        network = network_classes(self.kind)[1](self.config, device="meta").to_empty(device=self.run.device)
        network.load_state_dict(self.run.averaged()["transformer"])
        return network.eval()

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


def start_run(trainee: Trainee, material: Material, folder: Path, settings: TrainSettings) -> TrainedModel:
    """A run of `trainee` in `folder`: a new one, or the one that is there, where it stopped.

    ValueError when the run in `folder` trains another model, or the model does not fit latents and texts.
    """
    prepared = prepare(trainee, *material.widths, settings.seed)
    description = {
        "kind": prepared.kind,
        "config": prepared.config.to_dict(),
        "family": trainee.family.to_dict(),
        "seed": settings.seed,
        "data": material.key,
    }
    latent_format = prepared.latent_format
    if latent_format is None:
        known = earlier_description(folder, description).get("latent_format")
        latent_format = earlier_format(folder / DESCRIPTION, known) if known else material.measure_format()
    description["latent_format"] = latent_format.to_dict()
    earlier_description(folder, description)
    if trainee.family.name == "gan":
        settings = replace(settings, betas=BETAS)
    run = TrainingRun(prepared.modules, settings, folder)
    run.resume()
    if run.is_main:
        write_description(folder, description)
    return TrainedModel(run, prepared.kind, prepared.config, trainee.family, latent_format)


def train(
    trained: TrainedModel, objective: Any, material: Material, dropout: float, on_step: OnStep | None = None
) -> TrainedModel:
    """Take the steps that are left. `objective` is that of the family, such as `FlowObjective`.

    It is called with the networks, normalised latents, texts and the generator of the step. A GAN sees every text,
    because it has no guidance that would ask it without.
    """
    dropout = 0.0 if trained.family.name == "gan" else dropout
    run, networks = trained.run, trained.networks
    place = run.device

    def lesson(step: int, generator: torch.Generator) -> Mapping[str, Tensor]:
        latents, text, mask, pooled = material.draw(generator, dropout)
        clean = trained.latent_format.normalize(latents.to(place))
        return objective(*networks, clean, text.to(place), mask, pooled.to(place), generator)

    run.train(lesson, on_step=on_step)
    return trained
