"""A patch that leaves a block out makes the network one without it; one that runs every block changes nothing."""

from __future__ import annotations

import pytest
import test_helios_transformer as helios
import torch
from pyramid_video.models.helios import HeliosConfig, HeliosTransformer
from pyramid_video.models.layers import patch_grid, patchify
from pyramid_video.models.transformer import real_tokens
from test_transformers import inputs, kind, make  # noqa: F401  # kind is a fixture
from torch import nn

LISTS = ("transformer_blocks", "single_transformer_blocks")


def leaving_out(chosen):
    return lambda block, run, x, text, temb: (x, text) if block is chosen else run(x, text)


@torch.no_grad()
def velocity(network, patch=None):
    clips, timestep, text, mask, pooled = inputs()
    grids = tuple(map(patch_grid, clips))
    plan = network.plan(grids, real_tokens(text, mask), clips[-1], patch=patch)
    return network.velocity(torch.cat(list(map(patchify, clips)), dim=1), grids[-1], timestep, text, pooled, plan)


def test_blocks_of_pyramid_flow(kind):  # noqa: F811
    network = make(kind)
    plain = velocity(network)
    torch.testing.assert_close(velocity(network, leaving_out(None)), plain, rtol=1e-9, atol=1e-9)
    for name in LISTS if kind == "miniflux" else LISTS[:1]:
        blocks = getattr(network, name)
        for block in blocks if kind == "miniflux" else blocks[:-1]:  # the last of SD3 also ends the network
            made = velocity(network, leaving_out(block))
            setattr(network, name, nn.ModuleList(other for other in blocks if other is not block))
            expected = velocity(network)
            setattr(network, name, blocks)
            torch.testing.assert_close(made, expected, rtol=1e-9, atol=1e-9)
            assert (made - plain).abs().max() > 1e-3
    assert velocity(network, leaving_out(network.blocks[-1])).shape == plain.shape


def test_blocks_of_helios():
    network = HeliosTransformer(HeliosConfig(**helios.SMALL))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
        given, blocks = helios.inputs(), network.blocks
        plain = network(**given)
        torch.testing.assert_close(network(**given, patch=leaving_out(None)), plain)
        for block in blocks:
            network.blocks = blocks
            made = network(**given, patch=leaving_out(block))
            network.blocks = nn.ModuleList(other for other in blocks if other is not block)
            torch.testing.assert_close(made, network(**given))
            assert (made - plain).abs().max() > 1e-4


@pytest.mark.parametrize("factor", [0.0, 0.5])
def test_a_patch_may_compare_what_goes_in_and_comes_out(kind, factor):  # noqa: F811
    """Between the network with its first block and the one without there is a way; its ends are both of them."""
    network = make(kind)
    first = network.blocks[0]

    def mixed(block, run, x, text, temb):
        if block is not first:
            return run(x, text)
        made, words = run(x, text)
        return x + factor * (made - x), text + factor * (words - text)

    made, ends = velocity(network, mixed), (velocity(network, leaving_out(first)), velocity(network))
    assert torch.allclose(made, ends[0]) == (factor == 0.0) and not torch.allclose(made, ends[1])
