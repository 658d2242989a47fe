"""A linear layer that learns in milliseconds, and what is left of its run."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from pyramid_video.training.run.loop import TrainingRun
from pyramid_video.training.run.train_settings import TrainSettings
from torch import nn

SETTINGS = TrainSettings(steps=8, learning_rate=1e-2, warmup_steps=2, ema_decay=0.9, seed=3)


def make_run(folder, settings=SETTINGS, width=4):
    torch_weights = torch.Generator().manual_seed(0)
    network = nn.Linear(width, 2)
    with torch.no_grad():
        network.weight.copy_(torch.randn(2, width, generator=torch_weights))
        network.bias.zero_()
    return TrainingRun({"network": network}, settings, folder)


def objective_of(run, nan_at=()):
    def objective(step, generator):
        x = torch.randn(16, run.modules["network"].in_features, generator=generator)
        error = run.modules["network"](x) - x[:, :2]
        return {"loss": error.square().mean() * (math.nan if step in nan_at else 1)}

    return objective


def train(run, until=None, nan_at=(), **options):
    return run.train(objective_of(run, nan_at), until, **options)


def state_of(run):
    return {**run.modules["network"].state_dict(), **{f"average.{k}": v for k, v in run.averaged()["network"].items()}}


def assert_same(run, other):
    torch.testing.assert_close(state_of(run), state_of(other), rtol=0, atol=0)


def saved(folder: Path, name: str = "state.pt") -> dict:
    return torch.load(Path(folder) / name, weights_only=True)
