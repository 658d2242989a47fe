"""The game of a GAN: each network learns its own part, penalties are what they say, and modes are kept."""

from __future__ import annotations

import math

import pytest
import torch
from pyramid_video.models.miniflux import MiniFluxConfig, MiniFluxTransformer
from pyramid_video.models.text_features import TextFeatures
from pyramid_video.models.video_discriminator import VideoDiscriminator, init_weights
from pyramid_video.samplers.flow import flow_sigmas, sample_flow
from pyramid_video.training.batch import Batch
from pyramid_video.training.objectives.gan import (
    DISCRIMINATOR_RATE,
    GANObjective,
    gan_settings,
    generate,
    squared_gradient,
)
from pyramid_video.training.presets import GAN_LOSSES
from pyramid_video.training.run.loop import TrainingRun
from pyramid_video.training.run.train_settings import TrainSettings
from torch import nn

CLIP = (3, 4, 3, 8, 8)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def game():
    config = MiniFluxConfig(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=1,
        axes_dims_rope=(4, 6, 6),
        joint_attention_dim=8,
        pooled_projection_dim=8,
        use_temporal_causal=False,
    )
    network, discriminator = MiniFluxTransformer(config), VideoDiscriminator(4, 8, (8, 12))
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2, generator=seeded(1))
    init_weights(discriminator, seeded(2))
    text = torch.randn(3, 5, 8, generator=seeded(3)).requires_grad_()
    return network, discriminator, torch.randn(CLIP, generator=seeded(4)), text


def networks_of(network, discriminator):
    return {"transformer": network, "discriminator": discriminator}


def batch_of(latent, text):
    return Batch(latent, TextFeatures(text, None, text[:, 0]))


def gradients(loss, inputs):
    found = torch.autograd.grad(loss, inputs, retain_graph=True, allow_unused=True)
    return torch.cat([torch.zeros(1) if g is None else g.flatten() for g in found])


@pytest.mark.parametrize("name", GAN_LOSSES)
def test_each_network_learns_its_own_part_from_one_loss(game, name):
    network, discriminator, latent, text = game
    losses = GANObjective(name)(networks_of(network, discriminator), batch_of(latent, text), seeded(5))
    makers, judges = [*network.parameters(), text], [*discriminator.parameters()]
    torch.testing.assert_close(gradients(losses["loss"], makers), gradients(losses["generator_loss"], makers))
    assert gradients(losses["loss"], makers).abs().max() > 0
    own = losses["discriminator_loss"] + 0.5 * losses["gradient_penalty"]
    torch.testing.assert_close(gradients(losses["loss"], judges), gradients(own, judges))
    assert not gradients(losses["generator_loss"], judges).any()


@pytest.mark.parametrize("name", GAN_LOSSES)
def test_equal_scores_are_a_draw_and_better_lies_cost_less(name):
    objective, equal = GANObjective(name), torch.zeros(4)
    draw = {"relativistic": math.log(2), "non_saturating": 2 * math.log(2), "hinge": 2.0}[name]
    fooled, drawn, sure = (objective.discriminator_loss(equal + lead, equal - lead) for lead in (-1, 0, 1))
    torch.testing.assert_close(drawn, torch.tensor(draw))
    assert sure < drawn < fooled
    assert objective.generator_loss(equal + 1, equal) < objective.generator_loss(equal - 1, equal)


def test_the_relativistic_game_looks_at_pairs_only():
    """Raising all scores alike changes nothing."""
    objective, real, fake = GANObjective(), torch.randn(5, generator=seeded()), torch.randn(5, generator=seeded(1))
    for loss in (objective.discriminator_loss, objective.generator_loss):
        torch.testing.assert_close(loss(real + 7, fake + 7), loss(real, fake))


@pytest.mark.parametrize("name", GAN_LOSSES)
def test_a_real_clip_beside_the_text_of_another_is_to_be_told_like_a_made_one(game, name):
    """Unless that text is its own."""
    network, discriminator, latent, text = game
    networks, texts = networks_of(network, discriminator), text[:, 0].detach()
    plain, told = (GANObjective(name, mismatch=weight) for weight in (0.0, 3.0))

    def loss(objective, text):
        return objective(networks, batch_of(latent, text), seeded(5))["discriminator_loss"]

    real, wrong = discriminator(latent, torch.stack((texts, texts[[2, 0, 1]])))
    more = 3 * told.discriminator_loss(real, wrong)
    torch.testing.assert_close(loss(told, text), loss(plain, text) + more)
    same = text[:1].detach().expand_as(text)
    torch.testing.assert_close(loss(told, same), loss(plain, same))


def test_the_penalty_is_the_squared_length_of_the_gradient():
    weight = torch.randn(4, 3, 8, 8, generator=seeded())
    clip = torch.randn(CLIP, generator=seeded(1)).requires_grad_()
    score = (clip * weight).sum((1, 2, 3, 4)) * torch.tensor([1.0, 2.0, 3.0])
    expected = weight.square().sum() * (1 + 4 + 9) / 3
    torch.testing.assert_close(squared_gradient(score, clip), expected)
    twice = torch.randn(3, 2, generator=seeded(2)).requires_grad_()
    torch.testing.assert_close(squared_gradient(score + twice.sum(1), clip, twice), expected + 2)


def test_one_pass_is_one_whole_step_of_a_flow(game):
    network, _, noise, text = game
    made = generate(network, noise, batch_of(noise, text).text)
    step = sample_flow(
        lambda x, call: network((x,), torch.full((3,), 1000 * call.sigma), text, None, text[:, 0]),
        noise,
        flow_sigmas(1),
    )
    torch.testing.assert_close(made.detach(), step)


def test_the_discriminator_sees_space_time_and_text(game):
    _, discriminator, latent, text = game
    pooled, clip = text[:, 0].detach(), latent.clone().requires_grad_()
    scores = discriminator(clip, pooled)
    assert scores.shape == (3,)
    (gradient,) = torch.autograd.grad(scores[1], clip)
    assert not gradient[[0, 2]].any() and (gradient[1] != 0).float().mean() > 0.99
    order = [1, 2, 0]
    assert not torch.allclose(discriminator(latent[:, :, order], pooled), scores.detach())
    assert not torch.allclose(discriminator(latent, pooled.flip(0)), scores.detach())
    with pytest.raises(ValueError, match="2 rows and columns"):
        discriminator(latent[..., :1], pooled)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"gan_loss": "chess"}, "expected one of relativistic"),
        ({"penalty": -1.0}, "penalty is -1.0"),
        ({"mismatch": -1.0}, "mismatch is -1.0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        GANObjective(**options)


def test_the_discriminator_begins_alone_and_learns_faster(game, tmp_path):
    network, discriminator, latent, text = game
    networks = networks_of(network, discriminator)
    settings = gan_settings(TrainSettings(steps=40, learning_rate=1e-3, warmup_steps=0), networks)
    run = TrainingRun(networks, settings, tmp_path)
    before = [parameter.detach().clone() for parameter in network.parameters()]
    batch = batch_of(latent, text.detach())

    def learned(until):
        judged = [parameter.detach().clone() for parameter in discriminator.parameters()]
        run.train(lambda step, g: GANObjective()(networks_of(network, discriminator), batch, g), until=until)
        assert any(not torch.equal(a, b) for a, b in zip(judged, discriminator.parameters(), strict=True))
        return any(not torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))

    assert not learned(4), "the generator learned in the first tenth"
    assert learned(5)
    assert (
        gan_settings(TrainSettings(9999), networks).rate_of("transformer", 99) == 0 < settings.rate_of("transformer", 4)
    )
    assert gan_settings(TrainSettings(9999, minutes=1), networks).rate_of("transformer", 5, 7.0) > 0, (
        "a tenth of the time is gone"
    )
    rates = {group["module"]: group["lr"] for group in run.optimizer.param_groups}
    assert rates["discriminator"] == DISCRIMINATOR_RATE * rates["transformer"] == 4 * 1e-3 * settings.rate(4)


class Plain(nn.Module):
    """A small network on flat points that takes what the networks of the pack take."""

    def __init__(self, inputs: int, outputs: int, generator: torch.Generator) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(inputs, 64), nn.LeakyReLU(0.2), nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, outputs)
        )
        for module in self.layers[::2]:
            nn.init.kaiming_normal_(module.weight, 0.2, generator=generator)
            nn.init.zeros_(module.bias)


class Maker(Plain):
    def forward(self, clips, timestep, text, mask, pooled):
        return self.layers(clips[0].flatten(1)).view_as(clips[0])


class Judge(Plain):
    def forward(self, clip, pooled):
        return self.layers(clip.flatten(1)).squeeze(1).expand(pooled.shape[:-1])


def test_the_relativistic_game_covers_all_modes_of_a_ring():
    """Eight narrow heaps on a circle, the classical picture of mode collapse: every one is made, none is favoured."""
    angles = torch.arange(8) * (math.pi / 4)
    heaps = torch.stack((angles.cos(), angles.sin()), 1)
    maker, judge, draw = Maker(2, 2, seeded(1)), Judge(2, 1, seeded(2)), seeded(3)
    optimizer = torch.optim.Adam([*maker.parameters(), *judge.parameters()], 1e-3, betas=(0.0, 0.99))
    objective, text = GANObjective(penalty=0.1), torch.zeros(256, 1, 1)
    for _ in range(1500):
        chosen = heaps[torch.randint(8, (256,), generator=draw)]
        points = chosen + 0.05 * torch.randn(256, 2, generator=draw)
        loss = objective(networks_of(maker, judge), batch_of(points.view(256, 2, 1, 1, 1), text), draw)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        noise = torch.randn(4000, 2, 1, 1, 1, generator=draw)
        made = generate(maker, noise, batch_of(noise, text).text).flatten(1)
    distance, nearest = torch.cdist(made, heaps).min(1)
    shares = torch.bincount(nearest[distance < 0.25], minlength=8) / len(made)
    assert shares.min() > 0.05 and shares.sum() > 0.7
