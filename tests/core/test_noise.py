"""Noise keeps the covariance it should: white, block by block, and through halving and jumping."""

from __future__ import annotations

import pytest
import torch
from einops import rearrange
from pyramid_video.samplers.noise import (
    block_noise,
    double,
    draw_noise,
    halve,
    noise_pyramid,
    pyramid,
    row_generators,
    white_noise,
)
from pyramid_video.samplers.seeds import LARGEST_SEED
from pyramid_video.samplers.stages import make_stages
from torch import Tensor

SIDE = 256  # 16,384 blocks of 2x2: the deviation of a covariance is about 0.01


def block_covariance(noise: Tensor) -> Tensor:
    """Covariance (8, 8) of each 2x2 block and its right neighbour, of noise (1, 1, 1, h, w)."""
    blocks = rearrange(noise[0, 0, 0], "(h p) (w q) -> h w (p q)", p=2, q=2)
    pairs = torch.cat([blocks, blocks.roll(-1, dims=1)], dim=-1).flatten(0, 1)
    return pairs.T.cov()


@pytest.mark.parametrize("gamma", (0.0, 0.1, 0.25, 1 / 3))
def test_block_noise_has_its_covariance_and_blocks_are_independent(gamma):
    noise = block_noise(torch.empty(1, 1, 1, SIDE, SIDE), gamma, row_generators(1, 1))
    block = (1 + gamma) * torch.eye(4) - gamma * torch.ones(4, 4)
    torch.testing.assert_close(block_covariance(noise), torch.block_diag(block, block), rtol=0, atol=0.05)


def test_blocks_sum_to_zero_at_one_third():
    noise = block_noise(torch.empty(2, 4, 3, 8, 8), 1 / 3, row_generators(1, 2))
    assert halve(noise).abs().max() < 1e-6


@pytest.mark.parametrize("gamma", (-0.01, 0.34))
def test_block_noise_refuses_other_gammas(gamma):
    with pytest.raises(ValueError, match="0 to 1/3"):
        block_noise(torch.empty(1, 1, 1, 2, 2), gamma, row_generators(0, 1))


@pytest.mark.parametrize("gamma", (0.0, 0.2, 1 / 3))
def test_jump_whitens_noise(gamma):
    """Pure noise of the share that a stage ends with is white after the jump, with the share of the next."""
    stages = make_stages(gamma=gamma)
    for stage in (1, 2):
        low = stages.stages[stage - 1].sigma_end * draw_noise((1, 1, 1, SIDE // 2, SIDE // 2), 5)
        alpha, beta = stages.jump(stage)
        high = double(low)
        high = alpha * high + beta * block_noise(high, gamma, row_generators(5, 1))
        expected = stages.stages[stage].sigma_start ** 2 * torch.eye(8)
        torch.testing.assert_close(block_covariance(high), expected, rtol=0, atol=0.05)


def test_halved_noise_stays_white():
    noise = draw_noise((1, 1, 1, 4 * SIDE, 4 * SIDE), 3)
    for level in noise_pyramid(noise, 3)[:2]:
        torch.testing.assert_close(block_covariance(level), torch.eye(8), rtol=0, atol=0.05)
    torch.testing.assert_close(noise_pyramid(noise, 3)[0], 4 * halve(halve(noise)))


def test_halving_is_bilinear_resizing_and_undoes_doubling():
    x = torch.randn(2, 3, 4, 8, 12)
    frames = rearrange(x, "b c t h w -> (b t) c h w")
    resized = torch.nn.functional.interpolate(frames, scale_factor=0.5, mode="bilinear")
    torch.testing.assert_close(halve(x), rearrange(resized, "(b t) c h w -> b c t h w", b=2))
    torch.testing.assert_close(halve(double(x)), x)


def test_pyramid_is_coarsest_first():
    levels = pyramid(torch.randn(1, 2, 3, 8, 16), 3)
    assert [tuple(level.shape[-2:]) for level in levels] == [(2, 4), (4, 8), (8, 16)]


def test_odd_sizes_are_not_halved():
    with pytest.raises(ValueError, match="both must be even"):
        halve(torch.zeros(1, 1, 1, 6, 7))


@pytest.mark.parametrize("seed", (0, 7, LARGEST_SEED))
def test_a_row_does_not_know_its_batch(seed):
    """Row i of a batch is row 0 of a run with seed + i; the last seed counts on from 0."""
    batch, like = draw_noise((3, 2, 1, 4, 4), seed), torch.empty(3, 2, 1, 4, 4)
    blocks = block_noise(like, 1 / 3, row_generators(seed, 3))
    for row in range(3):
        alone = (seed + row) % (LARGEST_SEED + 1)
        assert torch.equal(batch[row : row + 1], draw_noise((1, 2, 1, 4, 4), alone))
        assert torch.equal(blocks[row : row + 1], block_noise(like[:1], 1 / 3, row_generators(alone, 1)))
    assert not torch.equal(batch[0], batch[1])


def test_a_row_that_is_cut_out_of_a_batch_keeps_its_number():
    batch, like = draw_noise((3, 2, 1, 4, 4), 7), torch.empty(3, 2, 1, 4, 4)
    blocks = block_noise(like, 1 / 3, row_generators(7, 3))
    for numbers in ([1], [2, 0], [1, 1]):
        rows = len(numbers)
        assert torch.equal(draw_noise((rows, 2, 1, 4, 4), 7, numbers), batch[numbers])
        assert torch.equal(block_noise(like[:rows], 1 / 3, row_generators(7, rows, numbers)), blocks[numbers])
    assert torch.equal(draw_noise((3, 2, 1, 4, 4), 7, [1]), batch)  # numbers of another batch say nothing of this one


def test_the_largest_seed_is_the_largest_that_torch_takes():
    assert torch.Generator().manual_seed(LARGEST_SEED).initial_seed() == LARGEST_SEED
    with pytest.raises((RuntimeError, ValueError, OverflowError)):
        torch.Generator().manual_seed(LARGEST_SEED + 1)


def test_noise_on_the_way_is_not_the_initial_noise():
    initial = draw_noise((1, 1, 1, SIDE, SIDE), 0).flatten()
    later = white_noise(torch.empty(1, 1, 1, SIDE, SIDE), row_generators(0, 1)).flatten()
    assert torch.stack([initial, later]).corrcoef()[0, 1].abs() < 0.02


def test_global_random_numbers_are_left_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    block_noise(draw_noise((2, 1, 1, 4, 4), 9), 0.3, row_generators(9, 2))
    assert torch.equal(torch.rand(1), expected)


def test_noise_takes_dtype_of_its_model():
    like = torch.empty(1, 1, 1, 4, 4, dtype=torch.bfloat16)
    noise = block_noise(like, 1 / 3, row_generators(0, 1))
    assert noise.dtype == torch.bfloat16
    assert torch.equal(noise, block_noise(like.float(), 1 / 3, row_generators(0, 1)).bfloat16())


def test_each_row_needs_its_generator():
    with pytest.raises(ValueError, match="1 generators for a batch of 2"):
        white_noise(torch.empty(2, 1), row_generators(0, 1))
