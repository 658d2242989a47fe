"""A sentence names the nearest known name only where that one may be meant."""

from __future__ import annotations

import pytest
from pyramid_video.models.near_names import near_name, near_or_known

SMALL = [f"pyramid_video_small{family}.safetensors" for family in ("", "_flow", "_diffusion", "_gan")]


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("nope.mp4", ["fake.mp4"]),
        ("dir.png", ["zero.png"]),
        ("dir.safetensors", ["zero.safetensors"]),
        ("pyramid_video_small_vae.safetensors", SMALL),
        ("pyramd_video_small_vae.safetensors", SMALL),
        ("PyramidVideoFoo", ["PyramidVideoGAN"]),
        ("99", ["9"]),
        ("wan2.1", ["wan2.2"]),
        ("transformer_384p", ["transformer_768p"]),
        ("snake", ["snail", "sun"]),
    ],
)
def test_what_names_share_does_not_bring_them_near(name, known):
    assert near_name(name, known) is None
    assert near_or_known(name, known).startswith("; there ")


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("pyramid_video_small_gna.safetensors", SMALL[3]),
        ("pyramid_video_smal.safetensors", SMALL[0]),
        ("pyramid_video_small_flwo", SMALL[1]),
        ("pyramd_video_small_difusion.safetensors", SMALL[2]),
        ("PyramidVideoSmall.safetensors", SMALL[0]),
        ("cat.png", "cat.jpg"),
        ("olny.png", "only.png"),
        ("tigre", "tiger"),
        ("vea", "vae"),
        ("savevideo", "SaveVideo"),
        ("PyramidVideoLodaVAE", "PyramidVideoLoadVAE"),
        ("first_step", "first_steps"),
        ("transformer", "transformer_768p"),
        ("--promt", "--prompt"),
    ],
)
def test_a_misspelt_name_is_known(name, known):
    others = [*SMALL, "zebra.png", "LoadVideo", "PyramidVideoLoadModel", "video_steps", "--seed"]
    assert near_name(name, [known, *others]) == known
