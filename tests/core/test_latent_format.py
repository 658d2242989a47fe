"""Scales of latents and pixels: round trips, the first frame's own numbers, previews."""

from __future__ import annotations

import json

import pytest
import torch
from pyramid_video.models.checkpoint_kinds import TRANSFORMERS
from pyramid_video.models.latent_format import (
    MINIFLUX,
    SD3,
    LatentFormat,
    fit_rgb,
)

PER_CHANNEL = LatentFormat(
    "own",
    shift=(0.1, -0.2, 0.3),
    scale=(1.5, 0.5, 0.25),
    first_shift=(-0.3, 0.2, 0.1),
    first_scale=(0.7, 0.9, 1.1),
    rgb_factors=((0.1, 0.2, 0.3), (0.0, 0.1, 0.0), (0.2, 0.0, 0.1)),
    rgb_bias=(0.5, 0.4, 0.3),
)


def latents(frames: int = 4) -> torch.Tensor:
    return torch.randn(2, 3, frames, 4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("form", [MINIFLUX, SD3, PER_CHANNEL], ids=lambda form: form.name)
@pytest.mark.parametrize("starts_clip", [True, False])
@pytest.mark.parametrize("frames", [1, 4])
def test_round_trip(form, starts_clip, frames):
    x = latents(frames)
    back = form.denormalize(form.normalize(x, starts_clip=starts_clip), starts_clip=starts_clip)
    torch.testing.assert_close(back, x)


@pytest.mark.parametrize("form", [MINIFLUX, SD3, PER_CHANNEL], ids=lambda form: form.name)
def test_a_clip_in_two_parts_equals_the_whole(form):
    x = latents()
    parts = form.normalize(x[:, :, :1]), form.normalize(x[:, :, 1:], starts_clip=False)
    assert torch.equal(torch.cat(parts, dim=2), form.normalize(x))


def test_official_numbers():
    one = torch.ones(1, 3, 2, 1, 1, dtype=torch.float64)
    rest = (1 + 0.2343) / 3.0986
    for form, first in ((MINIFLUX, (1 + 0.04) / 1.8726), (SD3, (1 - 0.1490) / 1.8415)):
        expected = torch.tensor([first, rest], dtype=torch.float64)
        torch.testing.assert_close(form.normalize(one)[0, 0, :, 0, 0], expected)
    assert TRANSFORMERS["miniflux"].latent_format is MINIFLUX and TRANSFORMERS["mmdit"].latent_format is SD3


def test_each_channel_has_its_numbers():
    x = latents()
    ours = PER_CHANNEL.normalize(x)
    for channel in range(3):
        shift, scale = PER_CHANNEL.shift[channel], PER_CHANNEL.scale[channel]
        torch.testing.assert_close(ours[:, channel, 1:], (x[:, channel, 1:] - shift) * scale)


@pytest.mark.parametrize("form", [MINIFLUX, PER_CHANNEL], ids=lambda form: form.name)
def test_a_format_survives_json(form):
    assert LatentFormat.from_dict(json.loads(json.dumps(form.to_dict()))) == form


@pytest.mark.parametrize(
    "change, words",
    [
        ({"scale": 0.0}, "scale is 0.0"),
        ({"first_shift": float("nan")}, "first_shift is nan"),
        ({"scale": (1.0, 2.0)}, "numbers for \\[2, 3\\] channels"),
        ({"colour": 1}, "unknown keys \\['colour'\\]"),
    ],
)
def test_impossible_formats_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        LatentFormat.from_dict({**PER_CHANNEL.to_dict(), **change})


def test_unknown_shapes_are_refused():
    with pytest.raises(ValueError, match="missing keys \\['first_scale'"):
        LatentFormat.from_dict({"name": "x", "shift": 0.0})
    with pytest.raises(ValueError, match="expected \\(batch, channels, frames"):
        MINIFLUX.normalize(torch.zeros(1, 3, 4, 4))
    for change in (PER_CHANNEL.normalize, PER_CHANNEL.denormalize):
        with pytest.raises(
            ValueError, match="16 channels does not fit the latent format 'own', which has numbers for 3"
        ):
            change(torch.zeros(1, 16, 2, 4, 4))


def test_fitted_colours_give_the_pictures_back():
    """Pictures that are a linear map of the latents are found exactly, whatever finer detail averages out."""
    x = latents().movedim(2, 1).flatten(0, 1)  # (8, 3, 4, 6)
    pictures = torch.einsum("nchw,ck->nkhw", x, torch.tensor(PER_CHANNEL.rgb_factors, dtype=x.dtype)) * 0.1 + 0.5
    frames = (2 * pictures - 1).repeat_interleave(8, -1).repeat_interleave(8, -2)
    factors, bias = fit_rgb(x, frames)
    form = LatentFormat("fitted", 0.0, 1.0, 0.0, 1.0, rgb_factors=factors, rgb_bias=bias)
    torch.testing.assert_close(form.preview(x), pictures.movedim(1, -1).float(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("form", [PER_CHANNEL, MINIFLUX], ids=["fitted", "false colours"])
def test_previews_stay_in_range(form):
    preview = form.preview(100 * latents()[:, :, 0])
    assert preview.shape == (2, 4, 6, 3) and preview.min() == 0 and preview.max() == 1


def test_false_colours_are_grey_for_nothing_and_differ_between_channels():
    channels = torch.eye(16).view(16, 16, 1, 1)
    assert (MINIFLUX.preview(torch.zeros(1, 16, 1, 1)) == 0.5).all()
    assert len({tuple(pixel.tolist()) for pixel in MINIFLUX.preview(channels).flatten(0, 2)}) == 16
