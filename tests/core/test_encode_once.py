"""Clips that come again are not encoded again, and get the latents that they had."""

from __future__ import annotations

import pytest
import torch
from pyramid_video.training.data import encode_once
from pyramid_video.training.data.encode_once import EncodeOnce


class Encoder:
    def __init__(self) -> None:
        self.seen: list[int] = []

    def __call__(self, videos):
        self.seen.append(len(videos))
        return videos[:, :, ::2] * 2


def videos(*numbers: int) -> torch.Tensor:
    return torch.stack([torch.full((3, 4, 2, 2), float(number)) for number in numbers])


def test_each_clip_is_encoded_once():
    encoder = Encoder()
    once = EncodeOnce(encoder)
    for numbers in ((1, 2, 1), (2, 3), (3, 1, 2)):
        assert torch.equal(once(videos(*numbers)), videos(*numbers)[:, :, ::2] * 2)
    assert encoder.seen == [2, 1]


def test_clips_of_the_same_pixels_in_another_shape_are_others():
    once = EncodeOnce(Encoder())
    wide, tall = torch.zeros(1, 3, 4, 2, 6), torch.zeros(1, 3, 4, 6, 2)
    assert once(wide).shape == (1, 3, 2, 2, 6) and once(tall).shape == (1, 3, 2, 6, 2)


def test_the_oldest_are_forgotten_where_there_is_no_room(monkeypatch):
    encoder = Encoder()
    once = EncodeOnce(encoder)
    monkeypatch.setattr(encode_once, "MOST_BYTES", 2 * once(videos(1))[0].nbytes)
    for number in (2, 3, 3, 2, 1):
        assert torch.equal(once(videos(number)), videos(number)[:, :, ::2] * 2)
    assert encoder.seen == [1] * 4 and len(once.known) == 2 and once.bytes == encode_once.MOST_BYTES


@pytest.mark.parametrize("spoil", [lambda latents: latents[:1], lambda latents: latents[0]])
def test_an_encoder_that_makes_something_else_is_named(spoil):
    with pytest.raises(
        ValueError, match=r"the encoder made .* of videos \(2, 3, 4, 2, 2\); expected latents \(2, chan"
    ):
        EncodeOnce(lambda given: spoil(given))(videos(1, 2))
