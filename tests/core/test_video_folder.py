"""A folder of videos: frames at the right time, every file accounted for, and reasons that help."""

from __future__ import annotations

import errno
import json
import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from pyramid_video.host import use_host
from pyramid_video.host.standalone.host import StandaloneHost
from pyramid_video.host.standalone.video import Clip, write_mp4
from pyramid_video.media.clips import clip_frames_at, inspect_clip
from pyramid_video.nodes import NODE_CLASS_MAPPINGS
from pyramid_video.training.data import folder_files, video_folder
from pyramid_video.training.data.buckets import fill, make_buckets, more_buckets, nearest_bucket
from pyramid_video.training.data.video_folder import VideoFolder

FPS = 10


def grey_ramp(count: int, height: int, width: int) -> torch.Tensor:
    """Frames `(f, h, w, 3)` in 0..1, each brighter than the one before by the same step."""
    return torch.linspace(0.1, 0.9, count).view(-1, 1, 1, 1).expand(-1, height, width, 3).contiguous()


def write_video(path, count=30, height=48, width=64, fps=FPS):
    write_mp4(path, Clip(grey_ramp(count, height, width), Fraction(fps)), {})


def write_pictures(path, count=10, milliseconds=100):
    levels = (grey_ramp(count, 1, 1).flatten(1)[:, 0] * 255).round().int().tolist()
    pictures = [Image.new("RGB", (40, 60), (level,) * 3) for level in levels]
    options = {"lossless": True} if path.suffix == ".webp" else {}
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=milliseconds, loop=0, **options)


def probe(path):
    return inspect_clip(path.parent, path)


def read_frames(path, times) -> torch.Tensor:
    """Frames `(n, h, w, 3)` as bytes."""
    return torch.from_numpy(np.stack(list(clip_frames_at(path.parent, path, times))))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture()
def folder(tmp_path):
    write_video(tmp_path / "wide.mp4", width=128)
    write_video(tmp_path / "square.mp4", width=48)
    write_video(tmp_path / "short.mp4", count=8)
    (tmp_path / "sub").mkdir()
    write_pictures(tmp_path / "sub" / "tall.webp", count=30)
    for name in ("wide", "square", "short", "sub/tall"):
        (tmp_path / f"{name}.txt").write_text(f"  a\n {name} clip ")
    return tmp_path


@pytest.mark.parametrize("name", ("clip.mp4", "clip.gif", "clip.webp", "clip.png"))
def test_frames_are_those_shown_at_their_times(tmp_path, name):
    """Brightness is linear in time, so it tells which frame was taken; after the end the last one stays."""
    path, count = tmp_path / name, 10
    write_video(path, count) if name.endswith("mp4") else write_pictures(path, count)
    found = probe(path)
    assert (found.fps, found.seconds) == (pytest.approx(FPS), pytest.approx(count / FPS))
    indices = [0, 1, 1, 4, 7, 9, 9]
    times = [0.0, 0.11, 0.19, 0.42, 0.78, 0.95, 1.7]
    shown = read_frames(path, times).float().mean((1, 2, 3)) / 255
    torch.testing.assert_close(shown, torch.linspace(0.1, 0.9, count)[indices], rtol=0, atol=0.02)


def test_the_header_of_a_clip_is_read_once_until_the_file_changes(folder, monkeypatch):
    read = []
    monkeypatch.setattr(
        folder_files, "inspect_clip", lambda top, path: read.append(path.name) or inspect_clip(top, path)
    )
    options = {"frames": 17, "fps": FPS, "multiple": 16}
    tables = {VideoFolder(folder, size, **options).table() for size in (64, 64, 32)}
    assert sorted(read) == ["short.mp4", "square.mp4", "tall.webp", "wide.mp4"] and len(tables) == 2
    write_video(folder / "square.mp4", count=9)
    assert "0.90 s long" in VideoFolder(folder, 64, **options).table()
    assert read[4:] == ["square.mp4"]


def test_a_caption_that_cannot_be_read_costs_one_file_and_not_the_folder(folder, monkeypatch):
    opened = os.open

    def locked(path, *given, **named):
        if Path(path).name == "wide.txt":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, *given, **named)

    monkeypatch.setattr(os, "open", locked)
    dataset = VideoFolder(folder, size=64, frames=17, fps=FPS, multiple=16)
    assert "dropped  wide.mp4: its caption cannot be read (Permission denied)" in dataset.table()
    assert {source.name for source in dataset.kept} == {"square.mp4", "sub/tall.webp"}


@pytest.mark.parametrize("ending", ("gif", "webp", "png"))
def test_animated_pictures_keep_their_own_speed(tmp_path, ending):
    """Pictures of 40 ms are 25 a second, in whatever format; the clip that starts at 0 shows them where they belong."""
    write_pictures(tmp_path / f"quick.{ending}", count=20, milliseconds=40)
    found = probe(tmp_path / f"quick.{ending}")
    assert (found.fps, found.seconds) == (pytest.approx(25), pytest.approx(0.8))
    shown = read_frames(tmp_path / f"quick.{ending}", [0.0, 0.1, 0.42, 0.79]).float().mean((1, 2, 3)) / 255
    torch.testing.assert_close(shown, torch.linspace(0.1, 0.9, 20)[[0, 2, 10, 19]], rtol=0, atol=0.02)


def test_every_file_is_in_the_table_with_its_reason(folder):
    (folder / "wordless.mp4").write_bytes((folder / "wide.mp4").read_bytes())
    (folder / "broken.mp4").write_bytes(b"not a video at all")
    (folder / "cut.mp4").write_bytes((folder / "wide.mp4").read_bytes()[:300])
    (folder / "chatty.mp4").write_bytes((folder / "wide.mp4").read_bytes())
    Image.new("RGB", (8, 8)).save(folder / "still.png")
    for name, text in (("broken", "x"), ("cut", "x"), ("still", "x"), ("chatty", "word " * 2000), ("empty", " ")):
        (folder / f"{name}.txt").write_text(text)
    (folder / "empty.mp4").write_bytes((folder / "wide.mp4").read_bytes())
    dataset = VideoFolder(folder, size=64, frames=17, fps=FPS, multiple=16)
    dropped = {source.name: source.dropped for source in dataset.sources if source.dropped}
    assert {source.name for source in dataset.kept} == {"wide.mp4", "square.mp4", "sub/tall.webp"}
    assert "0.80 s long; 17 frames at 10 fps take 1.60 s" in dropped["short.mp4"]
    assert "write one into wordless.txt beside it" in dropped["wordless.mp4"] and "no caption" in dropped["empty.mp4"]
    assert "cannot be read as a video" in dropped["broken.mp4"] and "cut.mp4" in dropped
    assert "not an animation" in dropped["still.png"] and "at most 4000" in dropped["chatty.mp4"]
    rows = dataset.table().splitlines()
    assert len(rows) == len(dataset.sources) == 10
    assert [row.split()[0] for row in rows] == ["dropped"] * 7 + ["kept"] * 3  # what is missing is seen first


def test_clips_keep_their_aspect_and_carry_their_own_caption(folder):
    dataset = VideoFolder(folder, size=64, frames=9, fps=5, multiple=16)
    shapes = {source.name: source.bucket for source in dataset.kept}
    assert shapes["square.mp4"] == (64, 64)
    assert shapes["wide.mp4"][1] >= 2 * shapes["wide.mp4"][0] and shapes["sub/tall.webp"][0] > 64
    generator, seen = seeded(), {}
    for _ in range(30):
        videos, captions, names = dataset.sample(generator, 2)
        assert videos.shape[:3] == (2, 3, 9) and videos.abs().max() <= 1
        for caption, name in zip(captions, names, strict=True):
            assert caption == f"a {name.split('.')[0]} clip" and shapes[name] == videos.shape[3:]
            seen[name] = seen.get(name, 0) + 1
    assert set(seen) == set(shapes)


def test_a_clip_runs_at_the_speed_asked_for_from_anywhere_in_the_file(folder):
    dataset = VideoFolder(folder, size=32, frames=9, fps=5, multiple=32)
    source = next(source for source in dataset.kept if source.name == "square.mp4")
    per_second = 2 * 0.8 / 29 * FPS  # in -1..1
    starts = []
    for seed in range(8):
        levels = dataset.clip(source, seeded(seed)).mean((0, 2, 3))
        starts.append(float(levels[0]))
        assert (levels[-1] - levels[0]) / (8 / 5) == pytest.approx(per_second, rel=0.1)
    assert max(starts) - min(starts) > 0.2


@pytest.mark.parametrize("fps", (24, 25, 30, 60))
@pytest.mark.parametrize("ending", ("mp4", "mkv", "avi", "ts", "flv", "wmv"))
def test_a_film_as_long_as_the_clip_is_long_enough(tmp_path, ending, fps):
    """Containers round times to milliseconds; what is short by a frame of the clip is left out."""
    for name, count in (("whole", 2 * fps), ("less", 2 * fps - fps // 8)):
        with av.open(tmp_path / f"{name}.{ending}", "w") as file:
            stream = file.add_stream("wmv2" if ending == "wmv" else "libx264", rate=fps)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for index in range(count):
                frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), index, np.uint8))
                frame.pts, frame.time_base = index, Fraction(1, fps)
                file.mux(stream.encode(frame))
            file.mux(stream.encode(None))
        (tmp_path / f"{name}.txt").write_text("a film")
    dropped = {source.name: source.dropped for source in VideoFolder(tmp_path, 64, 17, 8.0).sources}
    assert not dropped[f"whole.{ending}"] and "take 2.00 s" in dropped[f"less.{ending}"]


def test_what_is_done_to_a_file_is_said(folder):
    notes = {s.name: s.note for s in VideoFolder(folder, size=64, frames=9, fps=4, multiple=64).kept}
    assert "one frame in 2.5" in notes["square.mp4"] and "enlarged 1.3 times" in notes["square.mp4"]
    assert "% cut off at the edges" in notes["wide.mp4"]
    assert "frames repeat" in VideoFolder(folder, size=64, frames=9, fps=20, multiple=64).kept[0].note


def test_the_same_generator_draws_the_same_clips(folder):
    dataset = VideoFolder(folder, size=32, frames=5, fps=5, multiple=16)
    first, again = (dataset.sample(seeded(3), 2) for _ in range(2))
    assert torch.equal(first[0], again[0]) and first[1:] == again[1:]


def test_captions_in_one_list_come_before_files_and_name_what_is_missing(folder):
    rows = [{"file": "wide.mp4", "caption": "from the list"}, {"file": "gone.mp4", "caption": "x"}]
    (folder / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    sources = {source.name: source for source in VideoFolder(folder, frames=9, fps=5).sources}
    assert sources["wide.mp4"].caption == "from the list" and sources["square.mp4"].caption == "a square clip"
    assert "no such file" in sources["gone.mp4"].dropped


@pytest.mark.parametrize(
    "line", ("not json", '["wide.mp4", "x"]', '{"file": "wide.mp4"}', '{"file": 1, "caption": "x"}')
)
def test_a_list_that_cannot_be_read_is_told_by_line(folder, line):
    (folder / "captions.jsonl").write_text('{"file": "wide.mp4", "caption": "x"}\n' + line)
    with pytest.raises(ValueError, match="captions.jsonl, line 2"):
        VideoFolder(folder)


def test_folders_without_clips_are_refused_with_reasons(tmp_path, folder):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        VideoFolder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds no video"):
        (tmp_path / "void").mkdir()
        VideoFolder(tmp_path / "void")
    with pytest.raises(ValueError, match="short.mp4: 0.80 s long"):
        VideoFolder(folder, frames=241, fps=10)
    with pytest.raises(ValueError, match="above 0"):
        VideoFolder(folder, frames=0)


def test_reading_files_for_their_key_is_counted_and_can_be_stopped(folder, monkeypatch):
    clips, asked, read = VideoFolder(folder, frames=2, fps=FPS), [], []
    hashed = folder_files.hash_content
    monkeypatch.setattr(folder_files, "hash_content", lambda *given: read.append(given[1]) or hashed(*given))

    def stop(done: int, total: int) -> None:
        asked.append((done, total))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        clips.fingerprint(stop)
    assert asked == [(0, len(clips.kept))] and read == [clips.kept[0].name]
    counted: list[tuple[int, int]] = []
    key = clips.fingerprint(lambda *done: counted.append(done))
    assert counted == sorted(counted) and counted[-1] == (len(clips.kept), len(clips.kept))
    assert len(read) == 1 + len(clips.kept) and clips.fingerprint() == key
    assert len(read) == 1 + len(clips.kept), "each file is read once while it stays as it is"


def test_a_link_out_of_the_folder_is_left_alone(tmp_path, folder):
    inner = folder / "inner"
    inner.mkdir()
    (inner / "link.mp4").symlink_to(folder / "wide.mp4")
    (inner / "link.txt").write_text("x")
    with pytest.raises(ValueError, match=r"link\.mp4: is a link that leads out of the folder"):
        VideoFolder(inner)


def test_a_file_that_went_bad_is_named(folder):
    dataset = VideoFolder(folder, frames=9, fps=5)
    (folder / "wide.mp4").write_bytes(b"gone")
    source = next(source for source in dataset.kept if source.name == "wide.mp4")
    with pytest.raises(ValueError, match=r"wide\.mp4 cannot be read as a video"):
        dataset.clip(source, seeded())


def test_the_block_shows_the_table_and_stays_in_the_input_folder(folder):
    use_host(StandaloneHost(inputs=folder.parent, silent=True))
    try:
        block = NODE_CLASS_MAPPINGS["PyramidVideoFolderDataset"]()
        answer = block.open(folder.name, 64, 17, 10.0, 16)
        dataset, table = answer["result"]
        assert answer["ui"]["text"] == [f"3 of 4 files are used.\n{table}"] and "dropped  short.mp4" in table
        images, captions = NODE_CLASS_MAPPINGS["PyramidVideoDatasetPreview"]().preview(dataset, 2, 7)["result"]
        assert len(images) == 2 * 17 and len(captions.splitlines()) == 2
        with pytest.raises(ValueError, match="outside"):
            block.open("..", 64, 17, 10.0, 16)
    finally:
        use_host(None)


def test_a_size_of_another_area_is_other_data(folder, monkeypatch):
    """What was kept of a clip in its former size is not taken for it; where no size changes, nothing is new."""

    def key(multiple):
        return VideoFolder(folder, size=128, frames=9, fps=5, multiple=multiple).fingerprint()

    now = {multiple: key(multiple) for multiple in (64, 128)}
    monkeypatch.setattr(video_folder, "more_buckets", lambda size, multiple: [])
    assert key(128) == now[128] and key(64) != now[64]


def test_of_a_long_table_the_beginning_is_shown(folder):
    for number in range(3000):
        (folder / f"{number}.dat").touch()
    use_host(StandaloneHost(inputs=folder.parent, silent=True))
    try:
        answer = NODE_CLASS_MAPPINGS["PyramidVideoFolderDataset"]().open(folder.name, 64, 17, 10.0, 16)
    finally:
        use_host(None)
    (text,), (_, table) = answer["ui"]["text"], answer["result"]
    assert table.count("\n") == 3003 and text.startswith("3 of 3004 files are used.\ndropped  0.dat")
    assert text.count("\n") == 41 and text.endswith("\nand 2964 more, see 'table'")


@pytest.mark.parametrize(("size", "multiple"), ((64, 64), (256, 64), (512, 64), (100, 16)))
def test_buckets_have_about_the_same_area_in_both_directions(size, multiple):
    buckets = make_buckets(size, multiple)
    assert set(buckets) == {(w, h) for h, w in buckets}
    for height, width in buckets:
        assert height % multiple == width % multiple == 0 and 1 / 3 <= width / height <= 3
        if size >= 4 * multiple:
            assert height * width == pytest.approx(size * size, rel=0.35)
        elif size >= multiple:
            assert 2 / 3 <= height * width / size**2 <= 3 / 2
    assert nearest_bucket(300, 100, buckets)[0] >= nearest_bucket(100, 100, buckets)[0]


@pytest.mark.parametrize("multiple", (16, 32, 64))
def test_no_picture_loses_what_a_size_in_range_would_keep(multiple):
    """At most 8 % more than the best; where that holds of the sizes of nearest area, it is one of them, as ever."""
    for size in range(64, 1025, 32):
        buckets, more = make_buckets(size, multiple), more_buckets(size, multiple)
        for aspect in (2.39, 16 / 9, 3 / 2, 4 / 3, 1, 3 / 4, 9 / 16):

            def lost(bucket, aspect=aspect):
                return 1 - min(bucket[1] / bucket[0] / aspect, aspect * bucket[0] / bucket[1])

            usual = nearest_bucket(1000, 1000 * aspect, buckets)
            chosen = nearest_bucket(1000, 1000 * aspect, buckets, more)
            best = min(map(lost, (usual, *more)))
            assert lost(chosen) <= best + 0.08 + 1e-9
            assert chosen == usual or lost(usual) > best + 0.08
            if chosen not in buckets:
                assert 2 / 3 - 1e-9 <= chosen[0] * chosen[1] / size**2 <= 3 / 2 + 1e-9


def test_wide_films_and_squares_keep_their_picture_at_small_sizes():
    def chosen(size, height, width):
        return nearest_bucket(height, width, make_buckets(size, 64), more_buckets(size, 64))

    assert chosen(128, 360, 640) == (128, 192) and chosen(128, 640, 360) == (192, 128)
    assert chosen(160, 256, 256) == (192, 192) and chosen(360, 256, 256) == (384, 384)


def test_filling_keeps_the_middle_and_the_proportions():
    picture = torch.full((1, 3, 40, 80), -1.0)
    picture[:, :, 10:30, 30:50] = 1
    filled = fill(picture, (20, 20))
    assert filled.shape == (1, 3, 20, 20)
    torch.testing.assert_close(filled.flip(3), filled, rtol=0, atol=1e-4)
    assert ((filled > 0).float().mean((1, 2, 3)) - 0.25).abs() < 0.03  # 20x20 of the middle 40x40
