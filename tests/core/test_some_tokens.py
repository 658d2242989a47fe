"""A network learns from some tokens what it learns from all, and most of them lie where something is shown."""

from __future__ import annotations

import pytest
import torch
from pyramid_video.models.miniflux import MiniFluxConfig, MiniFluxTransformer
from pyramid_video.models.text_features import TextFeatures
from pyramid_video.samplers.noise_schedule import make_schedule
from pyramid_video.training.batch import Batch
from pyramid_video.training.objectives.diffusion import DiffusionObjective
from pyramid_video.training.objectives.draw import GeneratorDraw, TimestepSampling
from pyramid_video.training.objectives.flow import FlowObjective
from pyramid_video.training.objectives.some_tokens import SMALLEST_WEIGHT, SomeTokensObjective, draw_tokens

CONFIG = MiniFluxConfig(
    in_channels=16,
    num_layers=0,
    num_single_layers=2,
    attention_head_dim=16,
    num_attention_heads=2,
    axes_dims_rope=(4, 6, 6),
    joint_attention_dim=24,
    pooled_projection_dim=20,
    use_temporal_causal=False,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def network():
    network = MiniFluxTransformer(CONFIG)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=seeded(parameter.numel())))
    return network


@pytest.fixture(scope="module")
def batch():
    text = torch.randn(6, 4, 24, generator=seeded(1))
    return Batch(torch.randn(6, 4, 3, 8, 8, generator=seeded(2)), TextFeatures(text, None, text[:, 0, :20]))


OBJECTIVES = [
    FlowObjective(TimestepSampling("logit_normal", mean=0.3)),
    DiffusionObjective(make_schedule("cosine")),
    DiffusionObjective(make_schedule("linear", "epsilon"), None),
]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_all_tokens_have_the_loss_of_whole_clips(network, batch, objective):
    whole = objective({"transformer": network}, batch, seeded(3))["loss"]
    torch.testing.assert_close(
        SomeTokensObjective(objective, 1.0)({"transformer": network}, batch, seeded(3))["loss"], whole
    )


def test_half_the_tokens_teach_every_weight(network, batch):
    network.zero_grad()
    SomeTokensObjective(FlowObjective())({"transformer": network}, batch, seeded(3))["loss"].backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in network.parameters())


def test_tokens_are_drawn_once_and_most_of_the_figure_is_among_them():
    clips = torch.randn(50, 4, 3, 8, 8, generator=seeded(1)) * 0.3
    clips[:, :, 1:] += 5  # later frames have another background than the first
    clips[:, :, :, 4:, 4:] += torch.randn(50, 4, 3, 4, 4, generator=seeded(2)) * 3
    chosen = draw_tokens(clips, 0.5, GeneratorDraw(seeded(3)))
    assert chosen.shape == (50, 24) and all(len(set(row)) == 24 for row in chosen.tolist())
    figure = torch.zeros(3, 4, 4, dtype=torch.bool)
    figure[:, 2:, 2:] = True
    hits = figure.flatten()[chosen].sum(1) / 12
    others = (~figure.flatten())[chosen].sum(1) / 36
    assert hits.mean() > 0.8 > 0.5 > others.mean() > 0.2  # an even draw has half of both


def test_a_plain_clip_has_tokens_too():
    assert draw_tokens(torch.zeros(2, 4, 3, 8, 8), 0.5, GeneratorDraw(seeded())).shape == (2, 24)


@pytest.mark.parametrize("share", [0.0, 1.5])
def test_shares_that_are_none_are_refused(share):
    with pytest.raises(ValueError, match="above 0 and up to 1"):
        SomeTokensObjective(FlowObjective(), share)


def test_patches_are_drawn_as_often_as_one_after_the_other_by_their_weights():
    """Three patches of weights 1, 2 and 3: how often each is among two that are drawn."""
    clip = torch.zeros(1, 1, 1, 2, 8)
    for place, weight in ((1, 1.0), (2, 2.0), (3, 3.0)):
        clip[..., 2 * place : 2 * place + 2] = weight
    clips = clip.expand(60_000, 1, 1, 2, 8)
    chosen = draw_tokens(clips, 0.5, GeneratorDraw(seeded()))
    weights = torch.tensor([SMALLEST_WEIGHT, 1.0, 2.0, 3.0], dtype=torch.float64)
    first = weights / weights.sum()
    both = first[:, None] * weights / (weights.sum() - weights)[:, None]
    both.fill_diagonal_(0)
    drawn = (chosen[:, :, None] == torch.arange(4)).any(1).double().mean(0)
    torch.testing.assert_close(drawn, both.sum(0) + both.sum(1), rtol=0, atol=0.01)
