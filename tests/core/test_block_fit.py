"""The linear start of a VAE: principal components of blocks of video."""

from __future__ import annotations

import pytest
import torch
from pyramid_video.models.causal_vae import CausalVideoVAE, init_weights
from pyramid_video.models.causal_vae_config import CausalVAEConfig
from pyramid_video.training.trainers.block_fit import fit_block_shortcut

CHANNELS = 5
CONFIG = CausalVAEConfig(
    patch_size=2,
    block_shortcut=True,
    encoder_out_channels=CHANNELS,
    encoder_layers_per_block=(1, 1),
    encoder_block_out_channels=(4, 4),
    encoder_spatial_down_sample=(True, False),
    encoder_temporal_down_sample=(True, False),
    encoder_norm_num_groups=2,
    decoder_in_channels=CHANNELS,
    decoder_layers_per_block=(1, 1),
    decoder_block_out_channels=(4, 4),
    decoder_spatial_up_sample=(True, False),
    decoder_temporal_up_sample=(True, False),
    decoder_norm_num_groups=2,
)


def still_clips(patterns: int, generator: torch.Generator) -> torch.Tensor:
    """Pictures put together from a few patterns of 4x4 pixels in changing amounts, held for five frames."""
    basis = torch.randn(patterns, 3, 4, 4, generator=generator, dtype=torch.float64)
    amounts = torch.randn(40, patterns, 3, 3, generator=generator, dtype=torch.float64)
    pictures = torch.einsum("nkhw,kcpq->nchpwq", amounts, basis).flatten(4, 5).flatten(2, 3)  # (n, 3, 12, 12)
    return pictures[:, :, None].expand(-1, -1, 5, -1, -1).clone()


@pytest.fixture
def fitted():
    """A VAE that starts from clips of as many patterns as it has channels, and those clips."""
    generator = torch.Generator().manual_seed(0)
    vae = CausalVideoVAE(CONFIG, dtype=torch.float64).requires_grad_(False)
    init_weights(vae, generator)
    clips = still_clips(CHANNELS, generator)
    fit_block_shortcut(vae, clips, generator)
    return vae, clips


def test_what_as_many_patterns_as_channels_make_comes_back_exactly(fitted):
    vae, clips = fitted
    torch.testing.assert_close(vae.decode(vae.encode(clips).mode()), clips, rtol=0, atol=1e-9)


def test_latents_are_centred_and_white(fitted):
    vae, clips = fitted
    values = vae.encode(clips).mode()[:, :, 1:].movedim(1, -1).flatten(0, -2)
    torch.testing.assert_close(values.mean(0), torch.zeros(CHANNELS).double(), rtol=0, atol=1e-9)
    covariance = values.T @ values / len(values)
    torch.testing.assert_close(covariance, torch.eye(CHANNELS).double(), rtol=0, atol=1e-9)


def test_a_still_picture_has_one_latent_for_all_time(fitted):
    vae, clips = fitted
    latent = vae.encode(clips).mode()
    torch.testing.assert_close(latent[:, :, 1:], latent[:, :, :1].expand(-1, -1, 2, -1, -1), rtol=0, atol=1e-9)


def test_no_linear_code_of_as_few_numbers_loses_less(fitted):
    """Eckart and Young: against the best rank that the singular values allow."""
    vae, _ = fitted
    generator = torch.Generator().manual_seed(1)
    clips = still_clips(3 * CHANNELS, generator) + 0.1 * torch.randn(40, 3, 5, 12, 12, generator=generator).double()
    fit_block_shortcut(vae, clips, generator)
    blocks = vae.encoder_shortcut.block.cut(clips[:, :, 1:]).flatten(0, -2)
    least = torch.linalg.svdvals(blocks - blocks.mean(0))[CHANNELS:].square().sum()
    error = (vae.decode(vae.encode(clips).mode()) - clips)[:, :, 1:].square().sum()
    torch.testing.assert_close(error, least, rtol=1e-6, atol=0)
