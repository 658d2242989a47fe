"""The cache of latents: nothing is encoded twice, nothing stale is used, and a stop anywhere costs one chunk."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from PIL import Image
from pyramid_video.models.files import DISK_FULL
from pyramid_video.models.fingerprint import fingerprint
from pyramid_video.training.data import latent_cache
from pyramid_video.training.data.cache_files import CHECKSUM, DESCRIPTION
from pyramid_video.training.data.datasets import AnimationDataset
from pyramid_video.training.data.latent_cache import prepare_latents
from pyramid_video.training.data.video_folder import VideoFolder
from safetensors import safe_open
from safetensors.torch import save

SETTINGS = {"size": 32, "frames": 5, "fps": 5.0, "multiple": 16}
CAPTIONS = {"wide": "wide “quoted” 🦊\u200d\n second line", "square": "café – 猫", "tall": "plain", "tall2": "as plain"}


def write_pictures(path, width, height, colour=(255, 0, 0), count=20):
    levels = [round(i * 255 / count) for i in range(count)]
    pictures = [Image.new("RGB", (width, height), (level, *colour[1:])) for level in levels]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=100, loop=0)


def write_sprite(path, colour):
    pictures = [Image.new("RGBA", (16, 16)) for _ in range(2)]
    for shift, picture in enumerate(pictures):
        picture.paste(colour, (2 + shift, 2, 12 + shift, 12))
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=100, lossless=True)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Encoder:
    """Stands for a VAE: means over blocks of 8 pixels, every fourth frame; counts the clips it is given."""

    def __init__(self) -> None:
        self.clips, self.largest = 0, 0

    def __call__(self, videos):
        self.clips += len(videos)
        self.largest = max(self.largest, len(videos))
        return torch.nn.functional.avg_pool3d(videos[:, :, ::4], (1, 8, 8))


class Stop(Exception):
    pass


@pytest.fixture()
def videos(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    for place, (name, size) in enumerate(
        {"wide": (64, 32), "square": (32, 32), "tall": (32, 64), "tall2": (30, 60)}.items()
    ):
        write_pictures(folder / f"{name}.gif", *size, colour=(0, 50 * place, 20))
        (folder / f"{name}.txt").write_text(CAPTIONS[name], encoding="utf-8")
    return folder


@pytest.fixture()
def animations(tmp_path):
    folder = tmp_path / "animations"
    folder.mkdir()
    for name, colour in (("ball", "red"), ("leaf", "green")):
        write_sprite(folder / f"{name}.webp", colour)
    return AnimationDataset(folder, size=16, frames=5)


@pytest.fixture()
def small_chunks(monkeypatch):
    monkeypatch.setattr(latent_cache, "CHUNK_BYTES", 2 * 4 * 3 * 5 * 32 * 48)  # two or four clips


def prepare(dataset, folder, clips=8, seed=0, encoder_key="encoder", **options):
    """A set, and how many clips were encoded for it."""
    encode = options.pop("encode", None) or Encoder()
    found = prepare_latents(dataset, encode, folder, clips, seed, encoder_key, **options)
    return found, encode.clips


def same_rows(a, b) -> bool:
    pairs = zip(a.rows, b.rows, strict=True)
    return all(torch.equal(x.latent, y.latent) and (x.captions, x.label) == (y.captions, y.label) for x, y in pairs)


@pytest.mark.parametrize("kind", ("videos", "animations"))
def test_clips_are_encoded_once(kind, videos, animations, tmp_path):
    dataset = animations if kind == "animations" else VideoFolder(videos, **SETTINGS)
    made, encoded = prepare(dataset, tmp_path / "cache")
    assert encoded == made.count == 8
    reopened = (
        AnimationDataset(animations.folder, size=16, frames=5)
        if kind == "animations"
        else VideoFolder(videos, **SETTINGS)
    )
    again, encoded = prepare(reopened, tmp_path / "cache")
    assert encoded == 0 and again.key == made.key and same_rows(again, made)


def test_files_restored_with_new_times_are_the_same_data(videos, tmp_path):
    first, _ = prepare(VideoFolder(videos, **SETTINGS), tmp_path / "cache")
    for path in videos.iterdir():
        os.utime(path, ns=(1, 1))
    again, encoded = prepare(VideoFolder(videos, **SETTINGS), tmp_path / "cache")
    assert encoded == 0 and again.key == first.key and same_rows(again, first)


def rename(folder):
    for suffix in (".gif", ".txt"):
        (folder / f"wide{suffix}").rename(folder / f"wider{suffix}")


@pytest.mark.parametrize(
    "change",
    (
        {"rewritten": lambda folder: write_pictures(folder / "wide.gif", 64, 32, colour=(0, 7, 7))},
        {"removed": lambda folder: (folder / "wide.gif").unlink()},
        {"renamed": rename},
        {"recaptioned": lambda folder: (folder / "wide.txt").write_text("another caption")},
        {"size": 48},
        {"frames": 9},
        {"fps": 4.0},
        {"multiple": 8},
        {"seed": 1},
        {"clips": 12},
        {"encoder_key": "another"},
    ),
    ids=lambda change: next(iter(change)),
)
def test_what_latents_depend_on_makes_them_anew_and_going_back_costs_nothing(videos, tmp_path, change):
    usual, cache = VideoFolder(videos, **SETTINGS), tmp_path / "cache"
    first, _ = prepare(usual, cache)
    ((what, value),) = change.items()
    settings, options = dict(SETTINGS), {}
    if callable(value):
        value(videos)
    elif what in SETTINGS:
        settings[what] = value
    else:
        options[what] = value
    other, encoded = prepare(VideoFolder(videos, **settings), cache, **options)
    different = len({row.latent.numpy().tobytes() for row in other.rows})  # a clip may be drawn twice
    assert encoded == different > 0 and other.key != first.key
    if not callable(value):
        assert prepare(usual, cache)[1] == 0


@pytest.mark.parametrize(
    "change", ({"split": "test"}, {"frames": 9}, {"fps": 4.0}, {"size": 24}, {"subjects": ["leaf"]})
)
def test_animations_with_other_settings_are_other_clips(animations, change):
    options = {"size": 16, "frames": 5, **change}
    assert AnimationDataset(animations.folder, **options).fingerprint() != animations.fingerprint()
    assert AnimationDataset(animations.folder, size=16, frames=5).fingerprint() == animations.fingerprint()


def test_an_animation_drawn_anew_is_another(animations):
    write_sprite(animations.folder / "ball.webp", "blue")
    assert AnimationDataset(animations.folder, size=16, frames=5).fingerprint() != animations.fingerprint()


def test_weights_have_a_key_that_every_part_changes():
    network = torch.nn.ModuleDict({"encoder": torch.nn.Linear(2, 2), "decoder": torch.nn.Linear(2, 2)})
    both, encoder = fingerprint(network), fingerprint(network, prefixes=("encoder.",))
    with torch.no_grad():
        network["decoder"].bias[0] += 1
    assert fingerprint(network) != both and fingerprint(network, prefixes=("encoder.",)) == encoder
    assert fingerprint(network.to(torch.bfloat16), prefixes=("encoder.",)) != encoder


@pytest.mark.parametrize("kind", ("videos", "animations"))
@pytest.mark.parametrize("stop_at", (1, 5))
def test_after_a_stop_it_goes_on_and_ends_as_an_unbroken_one(kind, stop_at, videos, animations, tmp_path, small_chunks):
    dataset, seen = VideoFolder(videos, **SETTINGS), []
    if kind == "animations":
        dataset = AnimationDataset(animations.folder, size=32, frames=5)

    def stop(done, total):
        seen.append((done, total))
        if done >= stop_at:
            raise Stop

    straight, _ = prepare(dataset, tmp_path / "straight", clips=12)
    encode = Encoder()
    with pytest.raises(Stop):
        prepare(dataset, tmp_path / "broken", clips=12, encode=encode, on_clip=stop)
    assert seen[-1] == (encode.clips, 12) and stop_at <= encode.clips < 12
    before = encode.clips
    ended, _ = prepare(dataset, tmp_path / "broken", clips=12, encode=encode, on_clip=lambda *at: seen.append(at))
    assert encode.clips == 12 > before and seen[-1] == (12, 12) and same_rows(ended, straight)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system kills in another way")
def test_a_process_killed_while_writing_leaves_a_cache_that_goes_on(videos, tmp_path):
    """The process dies by SIGKILL in the middle of its second chunk, with a part of the file written."""
    script = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
import conftest
conftest.import_checkout()
import test_latent_cache as t
from pathlib import Path
write, count = Path.write_bytes, []
def die(path, data):
    count.append(path)
    if len(count) == 2:
        write(path, data[:len(data) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    return write(path, data)
Path.write_bytes = die
t.prepare(t.VideoFolder({str(videos)!r}, **t.SETTINGS), {str(tmp_path / "cache")!r})
"""
    ended = subprocess.run([sys.executable, "-c", script], env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert ended.returncode == -signal.SIGKILL
    dataset = VideoFolder(videos, **SETTINGS)
    straight, _ = prepare(dataset, tmp_path / "straight")
    found, encoded = prepare(dataset, tmp_path / "cache")
    assert 0 < encoded < 8 and same_rows(found, straight)


@pytest.mark.parametrize("reason", DISK_FULL)
def test_a_full_disk_teaches_and_loses_nothing(videos, tmp_path, monkeypatch, small_chunks, reason):
    dataset, cache, write = VideoFolder(videos, **SETTINGS), tmp_path / "cache", Path.write_bytes
    straight, _ = prepare(dataset, tmp_path / "straight")
    written = []

    def full(path, data):
        written.append(path)
        if len(written) > 2:
            write(path, data[:100])
            raise OSError(reason, os.strerror(reason))
        return write(path, data)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="disk is full.*kept.*start again") as caught:
        patch.setattr(Path, "write_bytes", full)
        prepare(dataset, cache)
    assert caught.value.errno == errno.ENOSPC
    assert sorted(path.name for path in cache.rglob("*.*")) == ["00000.safetensors", "00001.safetensors"]
    found, encoded = prepare(dataset, cache)
    assert 0 < encoded < 8 and same_rows(found, straight)


def cut_in_half(data):
    return data[: len(data) // 2]


def flip_one_bit(data):
    return data[:-5] + bytes([data[-5] ^ 1]) + data[-4:]


def change_a_label(data):
    changed = data.replace(b".gif", b".gyf", 1)
    assert changed != data
    return changed


DAMAGES = (
    cut_in_half,
    lambda data: b"",
    lambda data: data[:9],
    lambda data: b"\xff" * 99,
    flip_one_bit,
    change_a_label,
)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("which", (0, -1))
def test_a_damaged_file_is_made_anew_alone_with_a_warning(videos, tmp_path, caplog, damage, which, small_chunks):
    dataset, cache = VideoFolder(videos, **SETTINGS), tmp_path / "cache"
    prepare(dataset, cache)
    straight, _ = prepare(dataset, tmp_path / "straight")
    path = sorted(cache.rglob("*.safetensors"))[which]
    path.write_bytes(damage(path.read_bytes()))
    found, encoded = prepare(dataset, cache)
    assert 0 < encoded < 8 and same_rows(found, straight)
    assert len(caplog.records) == 1 and path.name in caplog.text and "made anew" in caplog.text
    assert prepare(dataset, cache)[1] == 0


def test_a_cache_of_before_the_checksum_is_still_good(videos, tmp_path, caplog, small_chunks):
    dataset, cache = VideoFolder(videos, **SETTINGS), tmp_path / "cache"
    prepare(dataset, cache)
    straight, _ = prepare(dataset, tmp_path / "straight")
    for path in cache.rglob("*.safetensors"):
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name).clone() for name in file.keys() if name != CHECKSUM}
            metadata = {DESCRIPTION: file.metadata()[DESCRIPTION]}
        path.write_bytes(save(tensors, metadata))
    found, encoded = prepare(dataset, cache)
    assert encoded == 0 and same_rows(found, straight) and not caplog.records


def test_a_chunk_in_the_place_of_another_is_not_taken_for_it(videos, tmp_path, caplog):
    dataset = VideoFolder(videos, **SETTINGS)
    straight, _ = prepare(dataset, tmp_path / "cache")
    first, *_, last = sorted((tmp_path / "cache" / straight.key).iterdir())
    lengths = [sum(row.latent.shape == straight.rows[i].latent.shape for row in straight.rows) for i in (0, -1)]
    assert lengths[0] != lengths[1]
    os.replace(last, first)
    found, encoded = prepare(dataset, tmp_path / "cache")
    assert encoded == sum(lengths) and same_rows(found, straight) and "instead of" in caplog.text


@pytest.mark.parametrize(("clips", "each"), ((1, 1), (4, 1), (5, 2), (8, 2), (9, 3)))
def test_every_file_has_equally_many_clips(videos, tmp_path, clips, each, small_chunks):
    found, _ = prepare(VideoFolder(videos, **SETTINGS), tmp_path, clips)
    assert Counter(row.label for row in found.rows) == {f"{name}.gif": each for name in CAPTIONS}
    assert found.count == 4 * each


def test_clips_of_one_long_file_begin_anywhere(videos, tmp_path):
    found, _ = prepare(VideoFolder(videos, **SETTINGS), tmp_path, 16, seed=2)  # of 12 places two may be drawn twice
    starts = [float(row.latent[0, 0].mean()) for row in found.rows if row.label == "square.gif"]
    assert len(set(starts)) == 4


def test_a_batch_has_one_size_and_all_clips_are_seen_equally_often(videos, tmp_path):
    found, _ = prepare(VideoFolder(videos, **SETTINGS), tmp_path)
    generator, seen, draws = seeded(), Counter(), 1500
    for _ in range(draws):
        latents, captions = found.sample(generator, 2)
        shapes = {row.latent.shape for row in found.rows if row.captions[0] in captions}
        assert shapes == {latents.shape[1:]}
        seen.update(captions)
    assert set(seen) == {" ".join(text.split()) for text in CAPTIONS.values()}
    expected = 2 * draws / 4
    assert all(abs(count - expected) < 5 * (2 * expected) ** 0.5 for count in seen.values())  # draws come in twos


def test_captions_belong_to_their_clips_whatever_they_are_written_in(videos, tmp_path):
    dataset = VideoFolder(videos, **SETTINGS)
    rows = [{"file": "wide.gif", "caption": 'half a pair \ud83d, "quotes", \\n, \u2028 and 🧑‍🚀'}]
    (videos / "list.jsonl").write_text("\n".join(map(json.dumps, rows)))
    dataset = VideoFolder(videos, **SETTINGS)
    known = {source.name: source.caption for source in dataset.kept}
    assert "half a pair \ufffd," in known["wide.gif"]
    assert "🧑‍🚀" in known["wide.gif"] and known["square.gif"] == "café – 猫"
    for _ in range(2):
        found, _ = prepare(dataset, tmp_path / "cache")
        assert all(set(row.captions) == {known[row.label]} for row in found.rows)


def test_draws_are_told_by_the_generator_and_may_be_more_than_there_are(videos, tmp_path):
    found, _ = prepare(VideoFolder(videos, **SETTINGS), tmp_path)
    (latents, captions), (same, words) = (found.sample(seeded(4), 50) for _ in range(2))
    assert len(latents) == len(captions) == 50 > found.count
    assert torch.equal(latents, same) and captions == words
    with pytest.raises(ValueError, match="batch of 0 clips.*1 or more"):
        found.sample(seeded(), 0)


def test_captions_of_animations_are_worded_in_several_ways_that_are_known_beforehand(animations, tmp_path):
    found, _ = prepare(animations, tmp_path, 1)
    generator = seeded()
    said = {found.sample(generator, 1)[1][0] for _ in range(50)}
    assert said == set(found.captions) and 1 < len(said) <= latent_cache.WORDINGS
    assert all(found.rows[0].label["subject"] in caption.lower() for caption in said)


def test_a_set_is_the_clips_that_its_seed_draws(animations, tmp_path):
    found, _ = prepare(animations, tmp_path, 5, seed=9)
    generator = seeded(9)
    for row in found.rows:
        videos, captions, combinations = animations.sample(generator, 1)
        assert torch.equal(row.latent, Encoder()(videos)[0])
        assert row.captions[0] == captions[0] and row.label == vars(combinations[0])


def test_pixels_in_memory_are_bounded(animations, tmp_path, monkeypatch):
    clip = 4 * 3 * 5 * 16 * 16
    for room, largest in ((1, 1), (9 * clip, 8)):
        monkeypatch.setattr(latent_cache, "CHUNK_BYTES", room)
        encode = Encoder()
        prepare(animations, tmp_path / str(room), 20, encode=encode)
        assert encode.largest == largest and encode.clips == 20


def test_latents_made_in_inference_mode_can_be_learned_from(animations, tmp_path):
    with torch.inference_mode():
        found, _ = prepare(animations, tmp_path, 3)
    weight = torch.ones(1, requires_grad=True)
    (found.sample(seeded(), 2)[0] * weight).square().sum().backward()
    assert weight.grad.isfinite().all() and not found.sample(seeded(), 2)[0].is_inference()


def test_bfloat16_stays_bfloat16(animations, tmp_path):
    class Narrow(Encoder):
        def __call__(self, videos):
            return super().__call__(videos).bfloat16()

    for _ in range(2):
        found, _ = prepare(animations, tmp_path, 3, encode=Narrow())
        assert found.sample(seeded(), 2)[0].dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("options", "said"),
    (
        ({"clips": 0}, "0 clips cannot be learned from.*1 or more"),
        ({"encoder_key": " "}, "encoder_key is ' '.*fingerprint"),
        (
            {"encode": lambda videos: videos[:1]},
            r"made \(1, 3, 5, 16, 16\) of videos \(3, 3, 5, 16, 16\).*\(3, channels",
        ),
        ({"encode": lambda videos: videos / 0}, "not finite of the clip.*bfloat16"),
    ),
)
def test_what_cannot_be_cached_is_refused_with_reasons(animations, tmp_path, options, said):
    usual = {"encode": Encoder(), "clips": 3, "seed": 0, "encoder_key": "encoder"}
    with pytest.raises(ValueError, match=said):
        prepare_latents(animations, folder=tmp_path / "cache", **{**usual, **options})
    assert not list(tmp_path.glob("cache/*/*"))


def test_a_file_that_is_gone_or_went_bad_is_named(videos, tmp_path):
    dataset = VideoFolder(videos, **SETTINGS)
    (videos / "wide.gif").write_bytes(b"gone")
    with pytest.raises(ValueError, match=r"wide\.gif cannot be"):
        prepare(dataset, tmp_path / "cache")
    (videos / "wide.gif").unlink()
    with pytest.raises(ValueError, match=r"wide\.gif is gone.*[Oo]pen it anew"):
        prepare(dataset, tmp_path / "cache")


def test_no_file_of_the_caches_is_a_pickle(animations, videos, tmp_path):
    prepare(animations, tmp_path / "cache", 3)
    files = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert files and all(re.fullmatch(r"\d{5}\.safetensors", path.name) for path in files)
