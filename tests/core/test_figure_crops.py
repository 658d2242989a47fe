"""Crops show the figure, whole clips come at half their size, and a generator repeats them."""

from __future__ import annotations

from dataclasses import replace

import torch
from pyramid_video.recipes.emoji.figure_crops import FigureCrops
from torch.nn.functional import avg_pool3d

CLIPS = torch.full((3, 3, 5, 32, 32), 90, dtype=torch.uint8)
CLIPS[:, 0, :, 3:9, 20:28] = 200
CROPS = FigureCrops(CLIPS, edge=16, anywhere=0.0, whole=0.0, recoloured=0.0)


def draw(crops: FigureCrops, seed: int = 0, batch: int = 20) -> torch.Tensor:
    return crops.draw(2, batch, torch.Generator().manual_seed(seed))


def test_every_crop_shows_some_of_the_figure_and_the_same_seed_the_same_crops():
    pieces = draw(CROPS)
    assert pieces.shape == (20, 3, 2, 16, 16)
    assert ((pieces[:, 0] > 0.5).flatten(1).any(1)).all()
    assert torch.equal(pieces, draw(CROPS)) and not torch.equal(pieces, draw(CROPS, seed=1))


def test_crops_from_anywhere_and_of_plain_clips_lie_inside():
    assert draw(replace(CROPS, anywhere=1.0)).shape == (20, 3, 2, 16, 16)
    plain = replace(CROPS, clips=torch.full_like(CLIPS, 7))
    torch.testing.assert_close(draw(plain), torch.full((20, 3, 2, 16, 16), 7 / 127.5 - 1))


def test_whole_clips_come_at_half_their_size():
    pieces = draw(replace(CROPS, whole=1.0), batch=1)
    torch.testing.assert_close(pieces, avg_pool3d(CLIPS[:1, :, :2].float() / 127.5 - 1, (1, 2, 2)))


def test_recoloured_clips_have_their_colours_in_another_order():
    strongest = draw(replace(CROPS, recoloured=1.0)).flatten(2).mean(2).argmax(1)
    assert len(set(strongest.tolist())) == 3
