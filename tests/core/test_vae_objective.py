"""What the VAE learns from: reconstruction, and a discriminator that neither helps nor is helped by it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pyramid_video.models.causal_vae import CausalVideoVAE, init_weights
from pyramid_video.models.causal_vae_config import CausalVAEConfig
from pyramid_video.models.frame_discriminator import FrameDiscriminator
from pyramid_video.models.frame_discriminator import init_weights as init_discriminator
from pyramid_video.training.objectives.vae import (
    PerceptualTerm,
    VAEObjective,
    colour_distance,
    discriminator_loss,
    feature_distance,
    figure,
    generator_loss,
    noisy_latent,
)

CONFIG = CausalVAEConfig(
    encoder_out_channels=4,
    encoder_layers_per_block=(1, 1),
    encoder_block_out_channels=(4, 4),
    encoder_spatial_down_sample=(True, False),
    encoder_temporal_down_sample=(True, False),
    encoder_norm_num_groups=2,
    decoder_in_channels=4,
    decoder_layers_per_block=(1, 1),
    decoder_block_out_channels=(4, 4),
    decoder_spatial_up_sample=(True, False),
    decoder_temporal_up_sample=(True, False),
    decoder_norm_num_groups=2,
)
LOSS = VAEObjective(kl=0.1, adversarial=0.5)


@pytest.fixture
def networks():
    generator = torch.Generator().manual_seed(0)
    vae, discriminator = CausalVideoVAE(CONFIG), FrameDiscriminator((8, 8))
    init_weights(vae, generator)
    init_discriminator(discriminator, generator)
    for parameter in vae.parameters():  # branches that start at zero would hide mistakes
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1, generator=generator)
    return vae, discriminator, torch.rand(2, 3, 3, 16, 16, generator=generator) * 2 - 1


def gradients(loss, module):
    found = torch.autograd.grad(loss, list(module.parameters()), retain_graph=True, allow_unused=True)
    return torch.cat([torch.zeros(1) if g is None else g.flatten() for g in found])


def losses_of(networks, adversarial=False, loss=LOSS):
    vae, discriminator, video = networks
    learning = {"vae": vae, "discriminator": discriminator} if adversarial else {"vae": vae}
    return loss(learning, video, torch.Generator().manual_seed(1))


def test_without_a_discriminator_the_terms_add_up(networks):
    losses = losses_of(networks)
    expected = losses["absolute"] + 5 * losses["squared"] + 0.1 * losses["kl"]
    torch.testing.assert_close(losses["loss"], expected)


def test_what_looks_alike_belongs_to_the_reconstruction(networks):
    """Its gradient counts for the adaptive weight of the discriminator too, as in VQGAN."""

    class Distance(torch.nn.Module):
        def forward(self, decoded, video):
            return (decoded - video).square().mean()

    term = PerceptualTerm(Distance(), 3.0)
    squared = replace(LOSS, squared=LOSS.squared + 3.0)
    for adversarial in (False, True):
        with_term = losses_of(networks, adversarial, replace(LOSS, perceptual=term))
        without = losses_of(networks, adversarial, squared)
        torch.testing.assert_close(with_term["perceptual"], with_term["squared"])
        torch.testing.assert_close(with_term["loss"], without["loss"])
    with pytest.raises(ValueError, match="the weight -1.*at least 0"):
        PerceptualTerm(Distance(), -1)


def test_each_network_learns_its_own_part_from_one_loss(networks):
    vae, discriminator, video = networks
    alone, losses = losses_of(networks), losses_of(networks, True)
    own = losses["discriminator_loss"]
    torch.testing.assert_close(gradients(losses["loss"], discriminator), gradients(own, discriminator))
    assert gradients(own, discriminator).any() and not gradients(own, vae).any()
    assert not gradients(losses["generator_loss"], discriminator).any()
    added = gradients(losses["loss"], vae) - gradients(alone["loss"], vae)
    direction = gradients(losses["generator_loss"], vae)
    torch.testing.assert_close(added / added.norm(), direction / direction.norm(), rtol=0, atol=1e-3)


def test_both_pull_equally_on_the_last_layer(networks):
    vae, discriminator, _ = networks
    alone, losses = losses_of(networks), losses_of(networks, True)
    last = vae.decoder.conv_out.conv.weight

    def at_last(loss):
        return torch.autograd.grad(loss, last, retain_graph=True)[0]

    reconstruction = at_last(alone["absolute"] + 5 * alone["squared"])
    added = at_last(losses["loss"]) - at_last(alone["loss"])
    torch.testing.assert_close(added.norm(), 0.5 * reconstruction.norm(), rtol=1e-2, atol=0)


def test_hinge_is_silent_where_the_judge_is_sure():
    def sure(video):
        return 2 * video.flatten(1).mean(1).sign()

    real, made = torch.ones(2, 3, 1, 8, 8), -torch.ones(2, 3, 1, 8, 8)
    assert discriminator_loss(sure, real, made) == 0 and discriminator_loss(sure, made, real) == 3


def test_deceiving_is_what_raises_the_score(networks):
    _, discriminator, video = networks
    assert generator_loss(discriminator, video) == -discriminator(video).mean()


def test_features_that_are_matched_teach_the_vae_alone_and_are_the_same_for_the_same_clip(networks):
    vae, discriminator, video = networks
    plain, matched = (losses_of(networks, True, replace(LOSS, feature_matching=weight)) for weight in (0.0, 2.0))
    torch.testing.assert_close(matched["loss"], plain["loss"] + 2 * matched["feature_matching"])
    assert (
        gradients(matched["feature_matching"], vae).any()
        and not gradients(matched["feature_matching"], discriminator).any()
    )
    features = []
    scores = discriminator(video, features)
    assert len(features) == 3 and torch.equal(discriminator.layers[-1](features[-1]), scores)
    assert feature_distance(discriminator, features, video) == 0 < feature_distance(discriminator, features, -video)


def test_small_frames_are_refused_with_the_least_size():
    with pytest.raises(ValueError, match="at least 32 pixels"):
        FrameDiscriminator()(torch.zeros(1, 3, 1, 16, 16))


def figure_on_grey() -> torch.Tensor:
    video = torch.full((1, 3, 1, 16, 16), 0.2)
    video[..., 6:10, 6:10] = -0.7
    return video


def test_a_figure_is_what_differs_from_the_corner_and_two_pixels_around():
    expected = torch.zeros(1, 1, 1, 16, 16)
    expected[..., 4:12, 4:12] = 1
    torch.testing.assert_close(figure(figure_on_grey()), expected)


def test_noise_of_latents_is_measured_in_the_deviations_of_each_channel():
    latent = torch.randn(64, 2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 10.0]).view(
        1, 2, 1, 1, 1
    )
    noise = noisy_latent(latent, 0.3, torch.Generator().manual_seed(1)) - latent
    strength = noise.std((2, 3, 4)) / latent.std((0, 2, 3, 4))  # of every row and channel
    torch.testing.assert_close(strength[:, 0], strength[:, 1], rtol=0.2, atol=0.01)
    assert strength.max() < 0.35 and strength.median() < 0.15


@pytest.mark.parametrize("term", ["foreground", "gradient", "colour", "latent_noise", "downscaled"])
def test_terms_for_figures_and_smooth_latents_change_what_is_learned(networks, term):
    vae, _, video = networks
    learning = (LOSS, replace(LOSS, **{term: 1.0}))
    plain, other = (loss({"vae": vae}, video, torch.Generator().manual_seed(5)) for loss in learning)
    assert torch.isfinite(other["loss"]) and other["loss"] != plain["loss"]
    torch.testing.assert_close(other["kl"], plain["kl"])


def test_foreground_weighs_errors_of_the_figure(networks):
    vae, _, _ = networks
    video = figure_on_grey()
    mask = figure(video)
    decoded = vae.decode(vae.encode(video).mode())
    error = (decoded - video).abs().detach()
    loss = replace(LOSS, foreground=4.0)({"vae": vae}, video, torch.Generator().manual_seed(0))
    expected = (error * (1 + 4 * mask)).mean()
    torch.testing.assert_close(loss["absolute"].detach(), expected, rtol=0.1, atol=0)
    assert loss["absolute"] > 1.3 * LOSS({"vae": vae}, video, torch.Generator().manual_seed(0))["absolute"]


def test_the_colour_of_a_square_is_what_is_left_when_its_pattern_is_averaged_away():
    """An even error counts in full, a pattern whose squares have no mean not at all, each square by itself."""
    even = torch.full((2, 3, 4, 32, 32), -0.02)
    pattern = 0.5 * (-1.0) ** torch.arange(32.0)
    torch.testing.assert_close(colour_distance(even + pattern), torch.tensor(0.02))
    torch.testing.assert_close(colour_distance(even[..., :8, :8]), torch.tensor(0.02))  # smaller than a square
    half = torch.cat((even[..., :16], -even[..., :16]), -1)
    torch.testing.assert_close(colour_distance(half), torch.tensor(0.02))
