"""Some patches of a clip are worked out alone, where they are, as in a clip that consists of them."""

from __future__ import annotations

import pytest
import torch
from pyramid_video.models.layers import patch_grid, patchify, unpatchify
from pyramid_video.models.some_patches import chosen_patches, velocity_of_some
from test_transformers import MASKS, inputs, kind, make  # noqa: F401  # kind is a fixture


@pytest.fixture(params=["no_mask", "scattered", "one_without_text"])
def given(request):
    (*_, clip), *rest = inputs(MASKS[request.param])
    return clip, rest


@pytest.fixture
def network(kind):  # noqa: F811
    return make(kind, use_temporal_causal=False, input_skip=True)


def some(count, patches, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randperm(patches, generator=generator)[:count] for _ in range(3)])


def test_all_patches_in_any_order_are_the_whole_clip(network, given):
    clip, rest = given
    patches = patchify(network([clip], *rest))
    order = some(patches.shape[1], patches.shape[1])
    torch.testing.assert_close(velocity_of_some(network, clip, order, *rest), chosen_patches(patches, order))


def test_patches_of_the_first_frame_are_a_picture(network, given):
    clip, rest = given
    _, rows, columns = patch_grid(clip)
    first = torch.arange(rows * columns).expand(3, -1)
    picture = patchify(network([clip[:, :, :1]], *rest))
    torch.testing.assert_close(velocity_of_some(network, clip, first, *rest), picture)


def test_every_row_has_patches_of_its_own_and_the_others_do_not_exist(network, given):
    clip, (timestep, text, mask, pooled) = given
    patches = patchify(clip)
    chosen = some(7, patches.shape[1])
    velocity = velocity_of_some(network, clip, chosen, timestep, text, mask, pooled)
    for row in range(3):
        one = slice(row, row + 1)
        left_out = torch.ones(patches.shape[1], dtype=torch.bool).index_fill(0, chosen[row], False)
        broken = patches[one].clone()
        broken[:, left_out] = float("nan")
        alone = unpatchify(broken, patch_grid(clip))
        row_mask = None if mask is None else mask[one]
        answer = velocity_of_some(network, alone, chosen[one], timestep[one], text[one], row_mask, pooled[one])
        torch.testing.assert_close(velocity[one], answer)


def test_gradients_of_all_patches_are_those_of_the_whole_clip(network, given):
    clip, rest = given
    order = some(patchify(clip).shape[1], patchify(clip).shape[1])

    def gradients(loss):
        network.zero_grad()
        loss.backward()
        return [parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None]

    whole = gradients(network([clip], *rest).square().sum())
    torch.testing.assert_close(gradients(velocity_of_some(network, clip, order, *rest).square().sum()), whole)


def test_what_does_not_fit_is_named(kind):  # noqa: F811
    (*_, clip), *rest = inputs()
    with pytest.raises(ValueError, match=r"use_temporal_causal"):
        velocity_of_some(make(kind), clip, some(4, 32), *rest)
    with pytest.raises(ValueError, match=r"patches chosen as \(2, 4\); expected \(3, k\)"):
        velocity_of_some(make(kind, use_temporal_causal=False), clip, some(4, 32)[:2], *rest)
