"""The dataset draws what its captions say, holds out what it promises, and explains what it cannot use."""

from __future__ import annotations

import math
import re
import shutil
import tracemalloc

import pytest
import torch
from conftest import ROOT
from PIL import Image, ImageDraw
from pyramid_video.host import use_host
from pyramid_video.host.standalone.host import StandaloneHost
from pyramid_video.nodes import NODE_CLASS_MAPPINGS
from pyramid_video.training.data import animations
from pyramid_video.training.data.animations import load_sprite, resample
from pyramid_video.training.data.captions import (
    BACKGROUNDS,
    DOES,
    DOING,
    MOTIONS,
    SIZE_WORDS,
    SIZES,
    Combination,
    caption,
    subject_name,
)
from pyramid_video.training.data.datasets import TRAVEL, AnimationDataset, split_combinations

CASES = ROOT / "tests" / "cases" / "pictures"


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def save_animation(path, pictures, **options) -> None:
    pictures[0].save(path, save_all=True, append_images=pictures[1:], **options)


def disc(colour, side: int = 64, radius: int = 24) -> Image.Image:
    picture = Image.new("RGBA", (side, side))
    middle = side // 2
    ImageDraw.Draw(picture).ellipse((middle - radius, middle - radius, middle + radius, middle + radius), fill=colour)
    return picture


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("animations")
    grey, olive = (128, 128, 128, 255), (120, 120, 40, 255)
    save_animation(folder / "1f405.webp", [disc(grey), disc(olive)], duration=125, loop=0, lossless=True)
    save_animation(folder / "my_red-fox.png", [disc(grey), disc(olive)], duration=125, loop=0)
    save_animation(folder / "1f3ce-fe0f.gif", [disc(grey), disc(olive)], duration=120, loop=0, disposal=2)
    return folder


@pytest.fixture(scope="module")
def dataset(folder):
    return AnimationDataset(folder, split="all")


def centre(picture: torch.Tensor, background: str) -> torch.Tensor:
    """Centre (x, y) of what differs from the background in one picture (3, h, w)."""
    colour = torch.tensor(BACKGROUNDS[background]).view(3, 1, 1) / 127.5 - 1
    weight = (picture - colour).abs().sum(0)
    axis = torch.arange(len(weight)) + 0.5
    return torch.stack([(weight.sum(0) * axis).sum(), (weight.sum(1) * axis).sum()]) / weight.sum()


def test_subjects_are_named_by_unicode_or_by_the_file(dataset):
    assert dataset.subjects == ("racing car", "tiger", "my red fox")
    assert subject_name("1f31e") == "sun"
    assert subject_name("face") == "face"  # a word, though its letters are hexadecimal digits


@pytest.mark.parametrize("motion", MOTIONS)
@pytest.mark.parametrize("subject", ["tiger", "racing car", "my red fox"])
def test_the_subject_travels_the_way_it_is_told(dataset, subject, motion):
    clip = dataset.clip(Combination(subject, "white", motion, "small"), generator())
    moved = centre(clip[:, -1], "white") - centre(clip[:, 0], "white")
    torch.testing.assert_close(moved, torch.tensor(MOTIONS[motion]) * TRAVEL * dataset.size, atol=0.05, rtol=0)


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_corners_of_a_still_clip_are_the_background(dataset, background):
    clip = dataset.clip(Combination("tiger", background, "still"), generator())
    corner = (clip[:, :, 0, 0] + 1) * 127.5
    torch.testing.assert_close(corner, torch.tensor(BACKGROUNDS[background]).float()[:, None].expand_as(corner))


def test_drawn_clips_of_a_combination_differ_in_where_the_animation_begins_alone(folder):
    asked = Combination("tiger", "black", "left")
    dataset = AnimationDataset(folder, ["tiger"], split="all")
    outlines = [dataset.clip(asked, generator(seed))[0] > -1 for seed in range(4)]
    assert all(torch.equal(outline, outlines[0]) for outline in outlines)
    clips = torch.stack([dataset.clip(asked, generator(seed)) for seed in range(4)])
    assert clips.std(0).max() > 0.1


def test_a_clip_can_be_moved_by_whole_pixels(dataset):
    asked = Combination("tiger", "red", "still", "small")
    moved = dataset.clip_at(asked, 0.2, x=5, y=-3)
    torch.testing.assert_close(moved, dataset.clip_at(asked, 0.2).roll((-3, 5), (-2, -1)))


def test_sizes_are_what_they_are_called(dataset):
    for size, part in SIZES.items():
        clip = dataset.clip(Combination("tiger", "black", "still", size), generator())
        area = (clip[:, 0] > -1).any(0).sum()
        assert math.sqrt(4 * area / math.pi) == pytest.approx(part * dataset.size, rel=0.1)


def test_the_animation_plays_at_its_own_speed(folder):
    clip = AnimationDataset(folder, ["tiger"], frames=9, fps=8, split="all").clip(
        Combination("tiger", "black", "still"), generator()
    )
    middle = clip[2, :, 32, 32]  # blue: grey and olive take turns every eighth of a second
    torch.testing.assert_close(middle[::2], middle[:1].expand(5))
    torch.testing.assert_close(middle[1::2], middle[1:2].expand(4))
    assert (middle[0] - middle[1]).abs() > 0.5


def test_drawing_keeps_the_mass_of_a_sprite_at_any_place_and_scale():
    sprite = torch.rand(3, 2, 9, 13, generator=generator())
    place = torch.tensor([4.0, 4.3, 4.77])
    drawn = resample(sprite, place, place + 1, (6.5, 8.25), (24, 24))
    mean = sprite.mean((2, 3)) * 6.5 * 8.25
    torch.testing.assert_close(drawn.sum((2, 3)), mean)


def test_whole_pixels_are_drawn_as_they_are():
    sprite = torch.rand(1, 4, 5, 7, generator=generator())
    drawn = resample(sprite, torch.tensor([2.0]), torch.tensor([-1.0]), (5, 7), (8, 8))
    torch.testing.assert_close(drawn[:, :, 2:7, :6], sprite[..., 1:])


def test_transparent_colour_does_not_leak_into_edges(tmp_path):
    picture = Image.new("RGBA", (64, 64), (255, 0, 0, 0))
    ImageDraw.Draw(picture).rectangle((16, 16, 47, 47), fill=(0, 0, 255, 255))
    picture.putpixel((0, 0), (255, 0, 0, 1))  # keeps the transparent margin in the sprite
    save_animation(tmp_path / "box.png", [picture, picture], duration=100)
    assert load_sprite(tmp_path / "box.png", 23).pixels[:, 0].max() == 0


def test_a_clip_depends_on_its_generator_alone(dataset):
    first, words, combinations = dataset.sample(generator(3), 4)
    again, same_words, same_combinations = dataset.sample(generator(3), 4)
    assert torch.equal(first, again) and words == same_words and combinations == same_combinations
    assert first.shape == (4, 3, 17, 64, 64) and first.min() >= -1 and first.max() <= 1
    assert not torch.equal(first, dataset.sample(generator(4), 4)[0])


def test_size_length_and_rate_are_free(folder):
    videos, _, _ = AnimationDataset(folder, ["tiger"], size=24, frames=5, fps=3).sample(generator(), 2)
    assert videos.shape == (2, 3, 5, 24, 24)


SUBJECTS = [f"subject {i}" for i in range(20)]


def test_a_tenth_of_every_subject_is_held_out_and_the_rest_teaches_everything():
    train, test = (split_combinations(SUBJECTS, split) for split in ("train", "test"))
    assert not set(train) & set(test)
    assert sorted(map(repr, train + test)) == sorted(map(repr, split_combinations(SUBJECTS, "all")))
    assert len(test) * 10 == len(train) + len(test) == 20 * 8 * 5 * 3
    for subject in SUBJECTS:
        taught = [c for c in train if c.subject == subject]
        assert {c.background for c in taught} == set(BACKGROUNDS)
        assert {c.motion for c in taught} == set(MOTIONS)
        assert {c.size for c in taught} == set(SIZES)
        assert sum(c.subject == subject for c in test) == 12
    for field, values in (("background", BACKGROUNDS), ("motion", MOTIONS)):
        counts = [sum(getattr(c, field) == value for c in test) for value in values]
        assert min(counts) > 0.5 * len(test) / len(values)


def test_the_split_of_a_subject_does_not_depend_on_the_others():
    alone = set(split_combinations(["subject 7"], "test"))
    assert alone == {c for c in split_combinations(reversed(SUBJECTS), "test") if c.subject == "subject 7"}


@pytest.mark.parametrize("combination", split_combinations(["elephant"], "all")[::7])
def test_captions_are_varied_and_never_name_anything_else(combination):
    rng = generator()
    captions = {caption(combination, rng) for _ in range(60)}
    assert len(captions) > 30
    motion = DOING[combination.motion] + DOES[combination.motion]
    sizes = {word for words in SIZE_WORDS.values() for word in words} - set(SIZE_WORDS[combination.size])
    for text in captions:
        words = text.lower()
        assert "elephant" in words and combination.background in words
        assert combination.motion == "still" or any(phrase in words for phrase in motion)
        assert not any(other in words for other in BACKGROUNDS if other != combination.background)
        assert not any(re.search(rf"\b{word}\b", words) for word in sizes if word)


def test_articles_fit_the_next_word():
    said = {caption(Combination("octopus", "orange", "left"), generator(seed)).lower() for seed in range(40)}
    small = {caption(Combination("octopus", "red", "up", "small"), generator(seed)).lower() for seed in range(40)}
    assert any("an octopus" in text for text in said) and any("an orange" in text for text in said)
    assert any("a small octopus" in text for text in small)
    assert not any(re.search(r"\b(a [aeiou]|an [^aeiou])", text) for text in said | small)


def test_bad_input_is_explained(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        AnimationDataset(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="no animations.*webp"):
        AnimationDataset(tmp_path)
    with pytest.raises(ValueError, match="'tigger'.*nearest.*tiger"):
        AnimationDataset(folder, ["tigger"])
    with pytest.raises(ValueError, match="empty"):
        AnimationDataset(folder, [])
    with pytest.raises(ValueError, match="8 pixels.*16"):
        AnimationDataset(folder, size=8)
    with pytest.raises(ValueError, match="0 frames"):
        AnimationDataset(folder, frames=0)
    with pytest.raises(ValueError, match="'valid'.*train, test, all"):
        AnimationDataset(folder, split="valid")
    with pytest.raises(ValueError, match="'pink'.*red, orange"):
        Combination("tiger", "pink", "up")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("broken.webp", b"RIFF and nothing more", "cannot be read"),
        ("solid.png", (255, 0, 0, 255), "no transparent background"),
        ("empty.png", (255, 0, 0, 0), "transparent everywhere"),
    ],
)
def test_a_bad_file_is_named(tmp_path, name, content, message):
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    else:
        Image.new("RGBA", (20, 20), content).save(tmp_path / name)
    with pytest.raises(ValueError, match=f"{name}.*{message}"):
        AnimationDataset(tmp_path)


def test_one_bad_animation_is_left_out_with_its_reason(folder, tmp_path):
    for path in (*folder.iterdir(), CASES / "bomb_65535x65535.gif", CASES / "truncated_tiger.gif"):
        shutil.copy(path, tmp_path)
    (tmp_path / "outside.gif").symlink_to(folder / "1f3ce-fe0f.gif")
    dataset = AnimationDataset(tmp_path)
    assert dataset.subjects == ("racing car", "tiger", "my red fox") and len(dataset.left_out) == 3
    for name, reason in (
        ("bomb", "too large"),
        ("truncated", "cannot be read"),
        ("outside", "leads out of the folder"),
    ):
        assert any(name in line and reason in line for line in dataset.left_out)
    with pytest.raises(ValueError, match="truncated_tiger.gif cannot be read"):
        AnimationDataset(tmp_path, ["truncated tiger", "tiger"])


def test_files_that_name_nothing_are_no_subjects(folder, tmp_path):
    """A hidden file, as Macs put beside each of another disk, and a name without a letter."""
    for name in ("fox.png", "._fox.png", "_.png", "- -.gif"):
        shutil.copy(folder / "my_red-fox.png", tmp_path / name)
    assert AnimationDataset(tmp_path, size=32).subjects == ("fox",)
    (tmp_path / "fox.png").unlink()
    with pytest.raises(FileNotFoundError, match="holds no animations"):
        AnimationDataset(tmp_path, size=32)


@pytest.mark.parametrize("kept", (0, animations.KEPT_BYTES))
def test_a_large_animation_is_not_in_memory_at_once(tmp_path, kept, monkeypatch):
    monkeypatch.setattr(animations, "KEPT_BYTES", kept)
    pictures = [disc((level, 0, 0, 255), 200, 60) for level in range(0, 240, 4)]
    save_animation(tmp_path / "ball.gif", pictures, duration=100, disposal=2)
    tracemalloc.start()
    sprite = load_sprite(tmp_path / "ball.gif", 40)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    whole = 60 * 200 * 200 * 4
    assert sprite.pixels.shape == (60, 4, 40, 40) and (peak < whole / 5 if not kept else peak > whole / 2)


def test_blocks_open_and_show_a_dataset(folder):
    use_host(StandaloneHost(inputs=folder.parent, silent=True))
    try:
        answer = NODE_CLASS_MAPPINGS["PyramidVideoAnimationDataset"]().open(
            folder.name, "Tiger,\nmy red fox\n", 32, 5, 8.0, "test"
        )
        (dataset,) = answer["result"]
        assert dataset.subjects == ("tiger", "my red fox") and "24 combinations" in answer["ui"]["text"][0]
        images, captions = NODE_CLASS_MAPPINGS["PyramidVideoDatasetPreview"]().preview(dataset, 3, 7)["result"]
        videos, words, _ = dataset.sample(generator(7), 3)
        assert images.shape == (15, 32, 32, 3) and captions.split("\n") == words
        torch.testing.assert_close(images[5], (videos[1, :, 0].movedim(0, -1) + 1) / 2)
        with pytest.raises(ValueError, match="outside"):
            NODE_CLASS_MAPPINGS["PyramidVideoAnimationDataset"]().open("..", "", 32, 5, 8.0, "test")
    finally:
        use_host(None)
