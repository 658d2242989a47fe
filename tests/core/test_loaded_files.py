"""What the runner loads and saves looks as in a player, by the same rules as data sets; saved colours are tagged."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image
from pyramid_video.host.standalone.core.files import open_pictures
from pyramid_video.host.standalone.video import Clip, read_clip, read_metadata, write_mp4
from pyramid_video.media import clips

CASES = ROOT / "tests" / "cases"


@pytest.mark.parametrize(
    ("name", "size", "seconds"),
    (
        ("phone.mp4", (64, 96), 2.0),
        ("anamorphic.mp4", (128, 96), 2.0),
        ("two.mkv", (96, 64), 3.0),
        ("delay10.gif", (96, 64), 1.2),
    ),
)
def test_a_loaded_film_has_the_size_and_length_that_a_player_shows(name, size, seconds):
    clip = read_clip(CASES / "video" / name)
    assert clip.get_dimensions() == size and clip.get_duration() == pytest.approx(seconds, abs=0.05)


def test_a_loaded_phone_film_is_upright_and_a_transparent_one_on_white():
    phone = read_clip(CASES / "video" / "phone.mp4").images[0]
    assert phone[8, 32, 0] > 0.8 > 0.2 > phone[8, 32, 2] and phone[-8, 32, 2] > 0.8
    assert (read_clip(CASES / "video" / "alpha.mov").images[0] == 1).all(-1).any()


@pytest.mark.parametrize(
    ("name", "reason"),
    (
        ("cover.mp4", "only a cover picture"),
        ("halfdata.mp4", r"breaks off after 1\.0 of 2\.0 s"),
        ("corrupt.mp4", r"cannot be decoded 1\.\d s after its start"),
    ),
)
def test_a_film_that_cannot_be_loaded_is_named_with_its_reason(name, reason):
    with pytest.raises(ValueError, match=f"{name} .*{reason}"):
        read_clip(CASES / "video" / name)


def test_pipes_are_refused_and_missing_files_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_metadata(tmp_path / "gone.mp4")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.mp4")
        for load in (read_clip, read_metadata, open_pictures):
            with pytest.raises(ValueError, match="is a pipe"):
                load(tmp_path / "pipe.mp4")


def test_loaded_pictures_keep_their_brightness_and_are_one_where_they_are_one():
    pictures = CASES / "pictures"
    images, masks = open_pictures(pictures / "gray16.png")
    assert images.shape == (1, 48, 64, 3) and images.mean() * 255 == pytest.approx(127, abs=1) and not masks.any()
    assert len(open_pictures(pictures / "stereo.jpg")[0]) == 1
    assert open_pictures(pictures / "exif6.jpg")[0].shape == (1, 64, 48, 3)
    with pytest.raises(ValueError, match="too large"):
        open_pictures(pictures / "bomb_65535x65535.gif")
    with pytest.raises(ValueError, match="truncated_tiger.gif cannot be read as a picture"):
        open_pictures(pictures / "truncated_tiger.gif")


@pytest.mark.parametrize("load", (read_clip, open_pictures))
def test_clips_that_do_not_fit_in_memory_are_refused_while_they_are_read(tmp_path, load, monkeypatch):
    monkeypatch.setattr(clips, "MOST_VALUES", 100_000)
    frames = [Image.new("RGB", (100, 100), (level, 0, 0)) for level in range(20)]
    frames[0].save(tmp_path / "many.gif", save_all=True, append_images=frames[1:], duration=100)
    with pytest.raises(ValueError, match=r"many.gif has more than \d frames of 100x100"):
        load(tmp_path / "many.gif")


@pytest.mark.parametrize(("height", "colour"), ((64, (230, 120, 30)), (720, (230, 120, 30)), (720, (20, 200, 90))))
def test_saved_clips_say_how_their_colours_are_meant(tmp_path, height, colour):
    """By the tags the colours come back, and they are the tags of what players take for granted in large films."""
    picture = (torch.tensor(colour) / 255).expand(3, height, 64, 3)
    path = tmp_path / "saved.mp4"
    write_mp4(path, Clip(picture, Fraction(8)), {})
    with av.open(str(path)) as container:
        codec = container.streams.video[0].codec_context
        next(container.decode(video=0))
        assert (codec.colorspace, codec.color_primaries, codec.color_trc, codec.color_range) == (1, 1, 13, 1)
    read = read_clip(path)
    assert read.frame_rate == 8 and read.images.shape == picture.shape
    assert (read.images[1, height // 2, 32] * 255 - torch.tensor(colour)).abs().max() <= 3


def test_grey_stays_grey_and_times_are_exact(tmp_path):
    levels = torch.linspace(0, 1, 17)
    write_mp4(tmp_path / "a.mp4", Clip(levels.view(-1, 1, 1, 1).expand(-1, 32, 32, 3), Fraction(24000, 1001)), {})
    read = read_clip(Path(tmp_path / "a.mp4"))
    assert read.frame_rate == Fraction(24000, 1001) and len(read.images) == 17
    means = read.images.mean((1, 2))
    assert (means - levels[:, None]).abs().max() < 0.012 and np.ptp(means.numpy(), axis=1).max() < 0.01


@pytest.mark.parametrize("width", (96, 160))
def test_the_same_frames_are_the_same_film(tmp_path, width):
    """x264 by itself reads memory that it never wrote, where a width is no multiple of 128 pixels."""
    colours = torch.rand(1, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    frames = torch.nn.functional.interpolate(colours, (25, 96, width), mode="trilinear")[0].permute(1, 2, 3, 0)
    films = set()
    for number in range(5):
        _ = [np.full(size, number + 1, np.uint8) for size in range(1_000, 200_000, 9_001)]  # what memory holds
        write_mp4(tmp_path / "a.mp4", Clip(frames, Fraction(8)), {})
        films.add((tmp_path / "a.mp4").read_bytes())
    assert len(films) == 1
