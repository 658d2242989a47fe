"""The discriminator that judges by what a trained transformer sees: whose tokens it reads, and who learns from it."""

from __future__ import annotations

import pytest
import torch
from pyramid_video.models.feature_discriminator import FeatureDiscriminator, FrozenTransformer
from pyramid_video.models.layers import patch_grid
from pyramid_video.models.miniflux import MiniFluxConfig, MiniFluxTransformer
from pyramid_video.models.mmdit import MMDiTConfig, MMDiTTransformer
from pyramid_video.models.text_features import TextFeatures
from pyramid_video.models.video_discriminator import VideoDiscriminator, init_weights
from pyramid_video.training.batch import Batch
from pyramid_video.training.objectives.draw import GeneratorDraw
from pyramid_video.training.objectives.gan import GANObjective, features_of
from pyramid_video.training.trainers.model_source import new_discriminators
from torch import nn

SIZES = {"attention_head_dim": 16, "num_attention_heads": 2, "joint_attention_dim": 8, "pooled_projection_dim": 8}
CLIP = (3, 4, 2, 8, 8)
GRID = (2, 4, 4)  # of patches


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def miniflux(double: int = 1, single: int = 3) -> MiniFluxTransformer:
    rope = {"axes_dims_rope": (4, 6, 6), "in_channels": 16, "use_temporal_causal": False}
    return MiniFluxTransformer(MiniFluxConfig(num_layers=double, num_single_layers=single, **rope, **SIZES))


def mmdit() -> MMDiTTransformer:
    return MMDiTTransformer(
        MMDiTConfig(num_layers=3, in_channels=4, caption_projection_dim=32, pos_embed_max_size=8, **SIZES)
    )


def filled(network: nn.Module) -> nn.Module:
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2, generator=seeded(1))
    return network


def text_of(rows: int = 3) -> TextFeatures:
    tokens = torch.randn(rows, 5, 8, generator=seeded(3))
    return TextFeatures(tokens, None, tokens[:, 0])


@pytest.mark.parametrize("make", [miniflux, mmdit, lambda: miniflux(1, 0)])
def test_it_sees_the_tokens_of_the_clip_after_half_of_the_blocks_and_after_all(make):
    """The last are those that the network makes its velocity of; all have mean 0 and deviation 1 over the width."""
    network, text = filled(make()).eval(), text_of()
    clip, time = torch.randn(CLIP, generator=seeded(2)), torch.tensor([100.0, 500.0, 900.0])
    read = []
    with torch.no_grad(), network.norm_out.register_forward_hook(lambda module, inputs, _: read.append(inputs[0])):
        middle, end = FrozenTransformer(network).features(clip, time, text)
        network((clip,), time, text.tokens, text.mask, text.pooled)
    assert middle.shape == end.shape == (3, 32, *GRID) and GRID == patch_grid(clip)
    normal = nn.functional.layer_norm(read[0], (32,))
    torch.testing.assert_close(end.flatten(2).transpose(1, 2), normal)
    for tokens in (middle, end):
        torch.testing.assert_close(tokens.mean(1), torch.zeros(3, *GRID), rtol=0, atol=1e-5)
        torch.testing.assert_close(tokens.var(1, unbiased=False), torch.ones(3, *GRID), rtol=1e-2, atol=0)
    assert torch.equal(middle, end) == (len(network.blocks) == 1)


def test_what_looks_does_not_change_when_the_network_learns_on():
    network, text = filled(miniflux()), text_of()
    clip, time = torch.randn(CLIP, generator=seeded(2)), torch.full((3,), 300.0)
    frozen = FrozenTransformer(network)
    before = [tokens.clone() for tokens in frozen.features(clip, time, text)]
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1.0)
    assert all(map(torch.equal, before, frozen.features(clip, time, text)))
    assert not any(parameter.requires_grad for parameter in frozen.network.parameters())
    assert not any(block._forward_hooks for block in frozen.network.blocks), "hooks were left behind"


def test_real_and_made_clips_are_seen_through_the_same_noise():
    """So that a made clip that is a real one cannot be told from it."""
    frozen, clip = FrozenTransformer(filled(miniflux())), torch.randn(CLIP, generator=seeded(2))
    real, made = features_of(frozen, clip, clip.clone(), text_of(), GeneratorDraw(seeded(5), clip.device))
    assert all(map(torch.equal, real, made))


def test_each_network_learns_its_own_part_and_the_one_that_looks_nothing():
    network, latent, text = filled(miniflux()), torch.randn(CLIP, generator=seeded(4)), text_of()
    networks = {"transformer": network, **new_discriminators(4, 8, 32, 7), "features": FrozenTransformer(network)}
    losses = GANObjective()(networks, Batch(latent, text), seeded(5))
    without = {name: module for name, module in networks.items() if name not in ("features", "feature_discriminator")}
    alone = GANObjective()(without, Batch(latent, text), seeded(5))

    def gradients(loss: torch.Tensor, module: nn.Module) -> torch.Tensor:
        found = torch.autograd.grad(loss, list(module.parameters()), retain_graph=True, allow_unused=True)
        return torch.cat([torch.zeros(1) if each is None else each.flatten() for each in found])

    total = losses["loss"]
    torch.testing.assert_close(gradients(total, network), gradients(losses["generator_loss"], network))
    torch.testing.assert_close(
        gradients(total, networks["discriminator"]) * 2, gradients(alone["loss"], networks["discriminator"])
    )
    own = losses["discriminator_loss"] + 0.5 * losses["gradient_penalty"]
    judge = networks["feature_discriminator"]
    assert gradients(own, judge).any() and not gradients(losses["generator_loss"], judge).any()
    torch.testing.assert_close(gradients(total, judge), gradients(own, judge))
    seen_by_both = gradients(losses["generator_loss"], network) * 2 - gradients(alone["generator_loss"], network)
    assert seen_by_both.abs().max() > 0, "what the transformer sees teaches the generator nothing"


def test_heads_see_space_time_and_text():
    judge = FeatureDiscriminator(32, 8)
    init_weights(judge, seeded(6))
    views = [torch.randn(3, 32, *GRID, generator=seeded(seed)) for seed in (7, 8)]
    pooled = text_of().pooled
    scores = judge(*views, pooled)
    both = judge(*views, torch.stack((pooled, pooled.roll(1, 0))))
    torch.testing.assert_close(both[0], scores)
    assert scores.shape == (3,) and not torch.allclose(both[1], scores)
    for turned in ([views[0].flip(2), views[1]], [views[0], views[1].transpose(-1, -2)]):
        assert not torch.allclose(judge(*turned, pooled), scores)


def test_what_looks_gives_the_same_gradients_when_memory_is_saved():
    text, clip = text_of(), torch.randn(CLIP, generator=seeded(2)).requires_grad_()
    frozen = FrozenTransformer(filled(miniflux()))

    def gradient():
        seen = torch.cat([tokens.flatten() for tokens in frozen.features(clip, torch.full((3,), 300.0), text)])
        return torch.autograd.grad((seen * torch.randn(seen.shape, generator=seeded(9))).sum(), clip)[0]

    plain = gradient()
    frozen.network.enable_gradient_checkpointing()
    torch.testing.assert_close(gradient(), plain)


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_bfloat16_gives_the_gradients_of_float32_for_clips_of_any_length(frames):
    """Torch alone reads memory that was never set where a convolution pads two frames of time, on a CPU."""
    found = {}
    for precise in (True, False):
        judge = VideoDiscriminator(4, 8, (16, 16))
        init_weights(judge, seeded(6))
        clip = torch.randn(3, 4, frames, 8, 8, generator=seeded(2))
        with torch.autocast("cpu", torch.bfloat16, enabled=not precise):
            judge(clip, text_of().pooled).float().square().sum().backward()
        found[precise] = torch.cat([each.grad.flatten() for each in judge.parameters()])
    assert (found[True] - found[False]).norm() < 0.05 * found[True].norm()
