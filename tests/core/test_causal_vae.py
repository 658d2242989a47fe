"""The causal video VAE: causality, chunks, tiles, posterior, configs, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from pyramid_video.models.causal_layers import CausalConv3d, SpatialUpsample, TemporalUpsample
from pyramid_video.models.causal_vae import CausalVideoVAE, Posterior, init_weights
from pyramid_video.models.causal_vae_config import CausalVAEConfig
from pyramid_video.models.vae_tiling import plan_tiles
from torch import nn
from torch.nn import functional as F

# 8 in space and 4 in time, once with all halvings in the network and once with patches.
PLAIN = CausalVAEConfig(
    encoder_out_channels=3,
    encoder_layers_per_block=(1, 2, 1, 1),
    encoder_block_out_channels=(4, 4, 6, 8),
    encoder_spatial_down_sample=(True, True, True, False),
    encoder_temporal_down_sample=(True, True, False, False),
    encoder_norm_num_groups=2,
    decoder_in_channels=3,
    decoder_layers_per_block=(1, 1, 2, 1),
    decoder_block_out_channels=(4, 6, 6, 8),
    decoder_spatial_up_sample=(True, True, True, False),
    decoder_temporal_up_sample=(True, True, False, False),
    decoder_norm_num_groups=2,
)
PATCHED = replace(
    PLAIN,
    encoder_spatial_down_sample=(False, True, False, False),
    encoder_temporal_down_sample=(False, False, True, True),
    decoder_spatial_up_sample=(False, False, True, False),
    decoder_temporal_up_sample=(False, True, False, True),
    patch_size=4,
)
SHORTCUT = replace(PATCHED, block_shortcut=True)
BY_FRAME = replace(PATCHED, frame_blocks=True)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def make_vae(config: CausalVAEConfig, ops=nn, dtype=torch.float64) -> CausalVideoVAE:
    """A VAE in which every weight matters: biases, gains and residual branches included."""
    vae = CausalVideoVAE(config, ops, dtype=dtype).requires_grad_(False)
    for number, (name, weight) in enumerate(vae.named_parameters()):
        gain = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        weight.copy_(
            gain + normal(*weight.shape, seed=number) * (0.8 * weight[0].numel() ** -0.5 if weight.ndim > 1 else 0.1)
        )
    return vae


@pytest.fixture(params=[PLAIN, PATCHED, SHORTCUT, BY_FRAME], ids=["plain", "patched", "shortcut", "by frame"])
def vae(request) -> CausalVideoVAE:
    return make_vae(request.param)


def assert_same(ours: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)


def test_shapes_follow_the_compression(vae):
    assert (vae.config.space_compression, vae.config.time_compression, vae.config.latent_channels) == (8, 4, 3)
    posterior = vae.encode(normal(2, 3, 9, 16, 24))
    assert posterior.mean.shape == posterior.logvar.shape == (2, 3, 3, 2, 3)
    assert vae.decode(posterior.mode()).shape == (2, 3, 9, 16, 24)


@pytest.mark.parametrize("frames", [1, 5, 9])
def test_encoder_is_causal(vae, frames):
    video = normal(1, 3, 13, 16, 8)
    start = vae.encode(video[:, :, :frames]).mean
    assert_same(vae.encode(video).mean[:, :, : start.shape[2]], start)


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_decoder_is_causal(vae, frames):
    latent = normal(1, 3, 4, 2, 1)
    start = vae.decode(latent[:, :, :frames])
    assert start.shape[2] == 4 * (frames - 1) + 1
    assert_same(vae.decode(latent)[:, :, : start.shape[2]], start)


def test_rows_of_a_batch_do_not_meet(vae):
    video = normal(2, 3, 5, 8, 16)
    both = vae.encode(video).mean
    assert_same(both[1:], vae.encode(video[1:]).mean)
    assert_same(vae.decode(both)[1:], vae.decode(both[1:]))


@pytest.mark.parametrize("chunk", [4, 8, 12, 16, 40])
def test_encoding_in_chunks_equals_the_whole(vae, chunk):
    video = normal(1, 3, 21, 16, 8)
    whole, pieces = vae.encode(video), vae.encode(video, chunk=chunk)
    assert_same(pieces.mean, whole.mean)
    assert_same(pieces.logvar, whole.logvar)


@pytest.mark.parametrize("chunk", [1, 2, 3, 7])
def test_decoding_in_chunks_equals_the_whole(vae, chunk):
    latent = normal(1, 3, 6, 2, 1)
    assert_same(vae.decode(latent, chunk=chunk), vae.decode(latent))


def test_pieces_come_in_time_order(vae):
    latent = normal(1, 3, 6, 2, 1)
    pieces = list(vae.iter_decode(latent, chunk=2))
    assert [piece.shape[2] for piece in pieces] == [9, 8, 4]  # 3, 2 and 1 latent frames
    assert_same(torch.cat(pieces, dim=2), vae.decode(latent))


@pytest.mark.parametrize("chunk", [1, 2, 3, 9])
def test_pieces_are_counted_as_those_of_the_whole_are(vae, chunk):
    latent, whole, pieces = normal(1, 3, 6, 2, 1), [], []
    vae.decode(latent, chunk=chunk, on_chunk=lambda *call: whole.append(call))
    for number, _ in enumerate(vae.iter_decode(latent, chunk, lambda *call: pieces.append(call))):
        assert len(pieces) == number  # a piece counts when what is done with it is done
    assert pieces == whole and pieces[-1][0] == pieces[-1][1]


def test_an_interrupted_call_leaves_nothing_behind(vae):
    class Stop(Exception):
        pass

    def interrupt(done: int, total: int) -> None:
        if done == 2:
            raise Stop

    latent = normal(1, 3, 4, 2, 1)
    attributes = {name: set(vars(module)) for name, module in vae.named_modules()}
    expected = vae.decode(latent)
    with pytest.raises(Stop):
        vae.decode(latent, chunk=1, on_chunk=interrupt)
    next(vae.iter_decode(latent, chunk=1))  # and one that nobody finishes
    assert {name: set(vars(module)) for name, module in vae.named_modules()} == attributes
    assert_same(vae.decode(latent, chunk=1), expected)


def test_progress_counts_every_chunk_of_every_tile():
    vae, calls = make_vae(PLAIN), []
    vae.decode(normal(1, 3, 4, 3, 7), chunk=1, tile=32, on_chunk=lambda *call: calls.append(call))
    assert calls == [(done, 9) for done in range(1, 10)]  # columns 0, 3, 6; latent frames 2, 1, 1


def test_a_first_frame_alone_equals_the_padded_convolution():
    conv = CausalConv3d(3, 4, nn, stride=(1, 2, 2), dtype=torch.float64)
    frame = normal(2, 3, 1, 6, 8)
    assert_same(conv(frame, None), conv.conv(F.pad(frame, (0, 0, 0, 0, 2, 0))))


@pytest.mark.parametrize("height, width", [(4, 4), (5, 4), (1, 9), (7, 8), (13, 3), (8, 14)])
@pytest.mark.parametrize("tile", [32, 64])
def test_tiles_of_a_local_map_meet_without_a_seam(tile, height, width):
    """Where a result depends on its own pixel only, overlapping tiles agree, so fading between them changes nothing."""
    latent = normal(1, 2, 1, height, width)

    def enlarge(x: torch.Tensor) -> torch.Tensor:
        return x.repeat_interleave(8, dim=-1).repeat_interleave(8, dim=-2)

    assert_same(plan_tiles(tile, 8, encode=False).run(enlarge, latent), enlarge(latent))
    pixels = enlarge(latent)
    assert_same(plan_tiles(tile, 8, encode=True).run(lambda x: x[..., ::8, ::8].clone(), pixels), latent)


def test_a_clip_no_larger_than_a_tile_is_not_tiled(vae):
    latent = normal(1, 3, 2, 4, 3)
    assert torch.equal(vae.decode(latent, tile=32), vae.decode(latent))
    video = normal(1, 3, 1, 24, 32)
    assert torch.equal(vae.encode(video, tile=32).mean, vae.encode(video).mean)


def test_two_tiles_fade_into_each_other(vae):
    """Only the width is longer than a tile: columns 0..3 and 3..5, faded over the 8 pixels that both have."""
    latent = normal(1, 3, 2, 2, 6)
    left, right = vae.decode(latent[..., :4]), vae.decode(latent[..., 3:])
    ramp = torch.arange(8) / 8
    seam = (1 - ramp) * left[..., 24:] + ramp * right[..., :8]
    expected = torch.cat([left[..., :24], seam, right[..., 8:]], dim=-1)
    assert_same(vae.decode(latent, tile=32), expected)
    assert_same(vae.decode(latent, tile=32, chunk=1), expected)


def test_each_tile_fades_from_neighbours_that_were_faded_before():
    """At a corner of four tiles (values 1, 2, 3, 4) the last fade mixes what the fades above and on the left made."""
    values = iter([1.0, 2.0, 3.0, 4.0])
    plan = plan_tiles(32, 8, encode=False)
    out = plan.run(
        lambda x: torch.full((1, 1, 1, 8 * x.shape[-2], 8 * x.shape[-1]), next(values)), normal(1, 1, 1, 5, 5)
    )
    y, x = 2, 6
    above = (1 - x / 8) * 1 + x / 8 * 2
    below_left, below_right = (1 - y / 8) * 1 + y / 8 * 3, (1 - y / 8) * above + y / 8 * 4
    assert out[0, 0, 0, 24 + y, 24 + x] == pytest.approx((1 - x / 8) * below_left + x / 8 * below_right)


def test_log_variance_is_clamped():
    moments = torch.tensor([0.0, -1e4, 1e4, 3.0]).view(2, 2, 1, 1, 1)
    assert Posterior.from_moments(moments).logvar.flatten().tolist() == [-30.0, 3.0]


def test_samples_are_the_generators():
    posterior = Posterior(normal(1, 2, 3, 20, 20), torch.full((1, 2, 3, 20, 20), -2.0, dtype=torch.float64))
    draws = [posterior.sample(torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    assert (draws[0] - posterior.mode()).std().item() == pytest.approx(torch.tensor(-1.0).exp().item(), rel=0.05)


def test_every_parameter_takes_part(vae):
    vae.requires_grad_(True)
    posterior = vae.encode(normal(1, 3, 5, 16, 8))
    vae.decode(posterior.sample(torch.Generator().manual_seed(0))).square().mean().backward()
    idle = [name for name, weight in vae.named_parameters() if weight.grad is None or not weight.grad.abs().max() > 0]
    assert [name for name in idle if "to_k.bias" not in name] == []  # one bias for all keys moves no softmax


class Linear(nn.Linear):
    """Like the host's layers, the three here store their weights in one type and compute in that of their input."""

    def forward(self, x):
        return F.linear(x, self.weight.to(x), self.bias.to(x))


class Conv3d(nn.Conv3d):
    def forward(self, x):
        return F.conv3d(x, self.weight.to(x), self.bias.to(x), self.stride, self.padding)


class GroupNorm(nn.GroupNorm):
    def forward(self, x):
        return F.group_norm(x, self.num_groups, self.weight.to(x), self.bias.to(x), self.eps)


def test_every_layer_comes_from_ops(vae):
    ops = SimpleNamespace(Linear=Linear, Conv3d=Conv3d, GroupNorm=GroupNorm)
    stored = CausalVideoVAE(vae.config, ops, dtype=torch.float16).requires_grad_(False)
    stored.load_state_dict(vae.state_dict())
    leaves = [module for module in stored.modules() if next(module.parameters(recurse=False), None) is not None]
    assert all(isinstance(leaf, tuple(vars(ops).values())) for leaf in leaves)
    vae.load_state_dict(stored.state_dict())  # the same numbers, rounded to float16
    video = normal(1, 3, 5, 16, 8)
    for frames in (1, 5):
        assert_same(stored.encode(video[:, :, :frames]).mean, vae.encode(video[:, :, :frames]).mean)
    assert_same(stored.decode(normal(1, 3, 1, 2, 2)), vae.decode(normal(1, 3, 1, 2, 2)))


def test_weights_from_nothing_come_from_the_generator():
    first, second, other = (CausalVideoVAE(PLAIN) for _ in range(3))
    for vae, seed in ((first, 5), (second, 5), (other, 6)):
        init_weights(vae, torch.Generator().manual_seed(seed))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.encoder.conv_in.conv.weight, other.encoder.conv_in.conv.weight)
    x = torch.randn(1, 8, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    wide = next(module for module in first.modules() if isinstance(module, SpatialUpsample))(x, None)
    assert torch.equal(wide, wide[..., ::2, ::2].repeat_interleave(2, -1).repeat_interleave(2, -2))
    long = next(module for module in first.modules() if isinstance(module, TemporalUpsample))(x, None)
    assert torch.equal(long[:, :, 1::2], long[:, :, 2::2])


def test_keys_and_shapes_are_the_official_ones(reference):
    manifest = json.loads((reference / "manifest_causal_video_vae.json").read_text(encoding="utf-8"))
    vae = CausalVideoVAE(CausalVAEConfig.from_dict(manifest["config_on_disk"]), device="meta")
    assert {key: list(value.shape) for key, value in vae.state_dict().items()} == manifest["keys"]
    assert CausalVAEConfig.from_dict(manifest["config_on_disk"]) == CausalVAEConfig()


@pytest.mark.parametrize("config", [PLAIN, PATCHED, SHORTCUT, CausalVAEConfig()])
def test_a_config_survives_json(config):
    assert CausalVAEConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    "change, words",
    [
        ({"encoder_layers_per_block": [1, 1]}, "encoder_layers_per_block has 2"),
        ({"decoder_spatial_up_sample": []}, "decoder_spatial_up_sample has 0"),
        ({"encoder_norm_num_groups": 3}, "encoder_norm_num_groups 3 does not divide the 4 channels"),
        ({"decoder_norm_num_groups": 4}, "decoder_norm_num_groups 4 does not divide the 6 channels"),
        ({"decoder_temporal_up_sample": [True] * 4}, "halves time 2 times but the decoder doubles it 4 times"),
        ({"decoder_spatial_up_sample": [False] * 4}, "halves space 3 times"),
        ({"decoder_in_channels": 5}, "encoder_out_channels is 3 but decoder_in_channels is 5"),
        ({"patch_size": 0}, "patch_size is 0; expected 1 to"),
        ({"encoder_act_fn": "relu"}, "encoder_act_fn is 'relu'"),
        ({"decoder_block_dropout": [0.0, 0.1, 0.0, 0.0]}, "decoder_block_dropout"),
        ({"num_attention_heads": 8}, "unknown key 'num_attention_heads'"),
    ],
)
def test_impossible_configs_are_named(change, words):
    with pytest.raises(ValueError, match=words):
        CausalVAEConfig.from_dict({**PLAIN.to_dict(), **change})


@pytest.mark.parametrize(
    "shape, options, words",
    [
        ((1, 3, 8, 16, 16), {}, "8 frames .* 4k \\+ 1 frames; the nearest are 5 and 9"),
        ((1, 3, 5, 20, 41), {}, "41x20 .* multiples of 8; the nearest size is 40x24"),
        ((1, 4, 5, 16, 16), {}, "expected \\(batch, 3, frames, rows, columns\\)"),
        ((3, 5, 16, 16), {}, "expected \\(batch, 3, frames"),
        ((1, 3, 5, 16, 16), {"chunk": 10}, "chunk of 10 frames is not a positive multiple of 4; the nearest is 12"),
        ((1, 3, 5, 16, 16), {"chunk": 0}, "the nearest is 4"),
        ((1, 3, 5, 16, 16), {"tile": 40}, "tile size 40 is not a positive multiple of 32 pixels; the nearest is 32"),
        ((1, 3, 5, 16, 16), {"tile": 80}, "the nearest is 96"),
        ((1, 3, 5, 16, 16), {"tile": 0}, "the nearest is 32"),
    ],
)
def test_what_cannot_be_encoded_is_refused_with_the_nearest_that_can(shape, options, words):
    with pytest.raises(ValueError, match=words):
        make_vae(PLAIN).encode(torch.zeros(shape, dtype=torch.float64), **options)


def test_what_cannot_be_decoded_is_refused():
    vae, latent = make_vae(PLAIN), normal(1, 3, 2, 2, 2)
    with pytest.raises(ValueError, match="expected \\(batch, 3, frames"):
        vae.decode(normal(1, 4, 2, 2, 2))
    with pytest.raises(ValueError, match="it takes 1 or more"):
        vae.decode(latent, chunk=0)
    with pytest.raises(ValueError, match="it takes 1 or more"):
        vae.iter_decode(latent, chunk=-1)
    latent[0, 0, 1, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="latent of shape .* torch.float64 holds NaN"):
        vae.decode(latent)


def test_frame_blocks_look_back_only_in_the_middle_and_where_time_changes():
    convolutions = {name: m for name, m in CausalVideoVAE(BY_FRAME).named_modules() if isinstance(m, nn.Conv3d)}
    looks_back = {name for name, convolution in convolutions.items() if convolution.kernel_size[0] > 1}
    beside_latents = {"encoder.conv_out.conv", "decoder.conv_in.conv"}
    assert all("mid_block" in name or "temporal" in name for name in looks_back - beside_latents)
    assert sum("temporal" in name for name in looks_back) == 4


def test_frame_blocks_change_time_by_means_and_copies_before_they_learn():
    vae = CausalVideoVAE(BY_FRAME)
    init_weights(vae, torch.Generator().manual_seed(0))
    up = next(module for module in vae.modules() if isinstance(module, TemporalUpsample))
    x = torch.randn(1, up.conv.conv.in_channels, 3, 4, 4)
    torch.testing.assert_close(up(x, None), x.repeat_interleave(2, dim=2)[:, :, 1:])
    down = next(block for block in vae.encoder.down_blocks if block.temporal_downsamplers).temporal_downsamplers[0]
    x = torch.randn(1, down.conv.conv.in_channels, 5, 4, 4)
    torch.testing.assert_close(down(x, None)[:, :, 1:], 0.75 * x[:, :, 2::2] + 0.25 * x[:, :, 1::2])


@pytest.mark.parametrize("config", [PLAIN, PATCHED])
@torch.no_grad()
def test_activations_see_frames_that_are_dense_in_memory(config, monkeypatch):
    """Some versions of torch lose on a Mac what is written into the view of a clip."""
    vae, dense, silu = make_vae(config), [], F.silu

    def watched(x, **kw):
        dense.append(x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last))
        return silu(x, **kw)

    monkeypatch.setattr(F, "silu", watched)
    vae.decode(vae.encode(normal(1, 3, 9, 16, 16)).mode())
    assert len(dense) > 20 and all(dense)
