"""Muon: steps of equal size in every direction for inner matrices, AdamW's for the rest, and an exact resume."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from loop_toys import SETTINGS, assert_same, make_run, train
from pyramid_video.models.miniflux import MiniFluxConfig, MiniFluxTransformer
from pyramid_video.models.text_encoder import TextEncoder, TextEncoderConfig
from pyramid_video.training.run.loop import TrainingRun
from pyramid_video.training.run.muon import ADAM_SIZE, Muon, inner_matrices, orthogonal
from pyramid_video.training.run.train_settings import TrainSettings
from torch import nn

MUON = replace(SETTINGS, optimizer="muon")


@pytest.mark.parametrize("shape", [(12, 40), (40, 12), (16, 16)])
def test_singular_values_become_nearly_one(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonal(matrix @ torch.diag(torch.logspace(0, -1.5, shape[1]))))
    assert values.max() < 1.3 and values.median() > 0.6


@pytest.mark.parametrize(("able", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_rounds_are_made_in_bf16_only_where_the_processor_multiplies_in_it(monkeypatch, able, dtype):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": able})
    matrix = torch.randn(16, 40, generator=torch.Generator().manual_seed(0))
    made = orthogonal(matrix)
    assert made.dtype == torch.float32
    assert torch.equal(made, made.to(dtype).float()) and (able or not torch.equal(made, made.bfloat16().float()))


@pytest.mark.parametrize("shape", [(8, 24), (6, 4, 3, 3, 3)])
def test_a_step_has_the_size_of_one_of_adamw(shape):
    weight = nn.Parameter(torch.zeros(shape))
    optimizer = Muon([{"params": [weight], "orthogonal": True}], 0.1, (0.9, 0.95))
    weight.grad = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    optimizer.step()
    assert float(weight.detach().square().mean().sqrt()) == pytest.approx(0.1 * ADAM_SIZE, rel=0.25)


def test_other_groups_take_the_steps_of_adamw():
    start = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    both = (
        Muon([{"params": [ours], "weight_decay": 0.1}], 0.01, (0.9, 0.95)),
        torch.optim.AdamW([theirs], 0.01, (0.9, 0.95), weight_decay=0.1),
    )
    for step in range(4):
        for weight, optimizer in zip((ours, theirs), both, strict=True):
            weight.grad = torch.randn(5, 3, generator=torch.Generator().manual_seed(step))
            optimizer.step()
    torch.testing.assert_close(ours, theirs)


def test_only_matrices_inside_of_blocks_are_made_orthogonal():
    transformer = MiniFluxTransformer(
        MiniFluxConfig(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=6,
            pooled_projection_dim=6,
            axes_dims_rope=(2, 2, 4),
        )
    )
    text = TextEncoder(TextEncoderConfig(vocab_size=300, width=6, layers=1, heads=2, max_tokens=8))
    network = nn.ModuleDict({"transformer": transformer, "text": text})
    inner = {id(parameter) for parameter in inner_matrices(network)}
    names = [name for name, parameter in network.named_parameters() if id(parameter) in inner]
    assert any("to_q" in name for name in names) and any("text.layers.0.qkv" in name for name in names)
    outside = ("proj_out.weight", "x_embedder", "tokens", "positions", "norm", "time_text_embed", "pool")
    assert not [name for name in names if name.startswith(tuple(f"transformer.{part}" for part in outside))]
    assert not [name for name in names if any(part in name for part in ("norm", "tokens", "positions", "pool"))]


def test_a_run_with_muon_resumes_exactly_and_learns(tmp_path):
    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
            self.out = nn.Linear(4, 2)

        def forward(self, x):
            return self.out(torch.tanh(self.layers[1](torch.tanh(self.layers[0](x)))))

    def make(folder):
        torch.manual_seed(0)
        return TrainingRun({"network": Deep()}, replace(MUON, steps=150, learning_rate=2e-2), folder)

    losses = []

    def go(run, until=None):
        def objective(step, generator):
            x = torch.randn(32, 4, generator=generator)
            return {"loss": (run.modules["network"](x) - x[:, :2]).square().mean()}

        return run.train(objective, until, on_step=lambda step, values: losses.append(values["loss"]))

    straight = go(make(tmp_path / "straight"))
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])
    go(make(tmp_path / "halves"), until=17)
    second = make(tmp_path / "halves")
    assert second.resume()
    assert_same(go(second), straight)


def test_a_run_ends_with_its_time_and_its_rate_falls_with_the_clock(tmp_path):
    settings = replace(SETTINGS, steps=100_000, minutes=0.5 / 60, warmup_steps=1)
    run = train(make_run(tmp_path, settings))
    assert 1 <= run.step < settings.steps and run.done == 1
    assert settings.rate(5, seconds=0.0) > settings.rate(5, seconds=0.25) > settings.rate(5, seconds=0.5)
    assert settings.rate(5, seconds=60.0) == pytest.approx(settings.final_rate)
    more = make_run(tmp_path, replace(settings, minutes=1.0))
    assert more.resume() and more.seconds == pytest.approx(run.seconds) and more.done < 1


def test_bad_settings_are_explained():
    with pytest.raises(ValueError, match="adamw, muon"):
        TrainSettings(steps=1, optimizer="sgd")
    with pytest.raises(ValueError, match="minutes is -1"):
        TrainSettings(steps=1, minutes=-1)
