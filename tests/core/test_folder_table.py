"""The table of a folder of clips has a row for everything in it; captions are found however they were written."""

from __future__ import annotations

import json
import ntpath
import os
import shutil
import time
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from PIL import Image
from pyramid_video.media.files import read_text
from pyramid_video.training.data import file_names
from pyramid_video.training.data.caption_lists import read_lists
from pyramid_video.training.data.video_folder import VideoFolder

CASES = ROOT / "tests" / "cases"
CLIP = CASES / "captions" / "bom.avi"


def open_folder(folder: Path, **settings) -> VideoFolder:
    return VideoFolder(folder, **{"size": 64, "frames": 2, "fps": 8, "multiple": 16, **settings})


def rows(folder: Path, **settings) -> dict[str, str]:
    """What the table says of each file."""
    return {
        row[9:].split(": ", 1)[0]: row[:9].strip() + " " + row
        for row in open_folder(folder, **settings).table().split("\n")
    }


def put(folder: Path, *names: str, caption: str | None = "a white square") -> Path:
    """Put the clip under other names, each with a caption beside it."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CLIP, path)
        if caption is not None:
            path.with_suffix(".txt").write_text(caption, "utf-8")
    return folder


def captions(folder: Path) -> dict[str, str]:
    return {source.name: source.caption for source in open_folder(folder).kept}


def test_captions_from_windows_are_read_or_named():
    found = {source.name: source for source in open_folder(CASES / "captions").sources}
    assert not found["cp1252.avi"].caption and "is not text in UTF-8 (byte 0x" in found["cp1252.avi"].dropped
    for name in ("bom", "utf16", "double", "upper"):
        caption = found[f"{name}.avi"].caption
        assert caption and caption.isprintable() and "\ufffd" not in caption and not caption.startswith("\ufeff")


@pytest.mark.parametrize("encoding", ("utf-8", "utf-8-sig", "utf-16", "utf-32"))
def test_texts_with_a_mark_are_read(tmp_path, encoding):
    (tmp_path / "a.txt").write_bytes("Füchse \U0001f98a".encode(encoding))
    assert read_text(tmp_path, tmp_path / "a.txt", 100) == "Füchse \U0001f98a"


@pytest.mark.parametrize("content", (b"a\0b\0", "x".encode("utf-16")[:-1], "日本".encode("shift-jis"), b"\xed\xa0\x80"))
def test_other_encodings_are_named(tmp_path, content):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(ValueError, match="is not text in UTF-8"):
        read_text(tmp_path, tmp_path / "a.txt", 100)


def test_names_in_another_unicode_form_belong_together(tmp_path):
    put(tmp_path, "Caf\u00e9.avi", caption=None)
    (tmp_path / "Cafe\u0301.txt").write_text("composed and decomposed")
    put(tmp_path, "fu\u0308r.AVI", "\u1e9b\u0323.avi", caption=None)
    entries = [
        {"file": "f\u00fcr.avi", "caption": "from the list"},
        {"file": "\u017f\u0323\u0307.avi", "caption": "long s"},
    ]
    (tmp_path / "list.jsonl").write_text("\n".join(map(json.dumps, entries)))
    assert set(captions(tmp_path).values()) == {"composed and decomposed", "from the list", "long s"}


def test_names_in_other_capitals_belong_together_where_there_is_one():
    """On Windows and Macs they are the same file; elsewhere two may be there, which are not mixed up."""
    clips = "Clip1.avi", "a.avi", "A.avi", "b.avi", "c.avi"
    files = file_names.FileNames([*clips, "clip1.txt", "a.txt", "b.txt", "B.txt", "C.txt", "c.TXT.txt", "c.Txt.txt"])
    assert [files.text_of(name) for name in clips] == ["clip1.txt", "a.txt", None, "b.txt", "C.txt"]
    assert files.find("clip1.AVI") == "Clip1.avi" and files.find("B.avi") == "b.avi" and not files.find("C.txt.txt")
    assert files.locate(Path("/clips"), "", "CLIP1.avi") == ("Clip1.avi", "")


def test_paths_of_windows_in_other_capitals_lead_into_the_folder(monkeypatch):
    monkeypatch.setattr(file_names, "normcase", ntpath.normcase)
    files, folder = file_names.FileNames(["a.avi"]), Path("/Clips")
    assert files.locate(folder, "", "/clips/a.avi") == ("a.avi", "")
    assert files.locate(folder, "", "/other/a.avi")[0] is None


@pytest.mark.parametrize("case", sorted(path.name for path in (CASES / "lists").iterdir()))
def test_lists_of_other_trainers_are_read(case):
    (source,) = open_folder(CASES / "lists" / case).kept
    assert source.caption in ("x", "a white square", "a white square moves right")


@pytest.mark.parametrize(
    ("name", "text"),
    (
        ("musubi.jsonl", '{"video_path": "FOLDER/b/a.avi", "caption": "x"}'),
        ("dataset.json", '[{"media_path": "b/a.avi", "caption": "x"}]'),
        ("captions.json", '{"b/a.avi": "x"}'),
        ("captions.json", '{"b/a.avi": ["x"]}'),
        ("b/metadata.csv", "\ufefffile_name;text;fps\r\na.avi;x;8\r\n"),
        ("list.tsv", "path\tprompt\nb/a.avi\tx\n"),
        ("plain.csv", 'b/a.avi,"x"\n'),
        ("spaces.csv", 'file_name, text\nb/a.avi, "x" \n'),
        ("wide.csv", "file_name,text\nb/a.avi,x,,\n"),
        ("meta/list.jsonl", '{"video": "../b/a.avi", "text": "x"}'),
        ("windows.jsonl", '{"file_name": "B\\\\..\\\\b\\\\a.AVI", "text": "x"}'),
        ("videos.txt", "b/a.avi\n"),
    ),
)
def test_more_lists_whose_meaning_is_plain(tmp_path, name, text):
    put(tmp_path, "b/a.avi", caption=None)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text.replace("FOLDER", tmp_path.as_posix()), "utf-8")
    if name == "videos.txt":
        (tmp_path / "prompts.txt").write_text("x\n")
    dataset = open_folder(tmp_path)
    assert [source.caption for source in dataset.kept] == ["x"] and len(dataset.sources) == 1
    assert dataset.table().startswith(f"read     {name}: a list of 1 captions")


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    (
        ("c.jsonl", '{"file": "a.avi", "caption": "x", "text": "y"}', "c.jsonl, line 1: more than one of"),
        ("c.jsonl", '{"file": "a.avi", "caption": "x"}\n' + "[" * 100_000, "c.jsonl, line 2: nested too deeply"),
        ("c.json", '[{"file": "a.avi", "caption": "x"},\n {"file": 3}]', "c.json, line"),
        ("c.csv", "file_name,text\na.avi\n", "c.csv, line 2: 1 columns"),
        (
            "c.csv",
            'file_name,text\na.avi, "a cat, she says\nb.avi,a dog\n',
            "c.csv, line 3 or before: a text in double",
        ),
        ("c.csv", 'file_name,text\na.avi, "STOP" sign\nb.avi,a 5" screen\n', "c.csv, line 2 or before: .* twice"),
        (
            "c.csv",
            "file_name,text\na.avi,a cat, red\n",
            "c.csv, line 2: 3 columns instead of 2; put a text .* in double",
        ),
        ("c.csv", "a.avi,a cat\nb.avi,a dog, red\n", "c.csv, line 2: 3 columns instead of 2; put a text .* in double"),
        ("videos.txt", "a.avi\nb.avi\n", "videos.txt has 2 lines and prompts.txt has 1"),
    ),
)
def test_lists_that_cannot_be_read_are_named(tmp_path, name, text, reason):
    put(tmp_path, "a.avi")
    (tmp_path / "prompts.txt").write_text("x")
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=reason):
        open_folder(tmp_path)


@pytest.mark.parametrize("name", ("settings.json", "losses.jsonl"))
@pytest.mark.parametrize(
    "text", ('{"resolution": 64}', "[" * 100_000, '[{"file": "a.avi", "capt', "\x80", "[1, 2]", '"x"')
)
def test_other_json_is_a_row_and_stops_nothing(tmp_path, text, name):
    """Such as the log of an earlier run, where the command line trains inside the folder of the clips."""
    put(tmp_path, "a.avi")
    (tmp_path / name).write_bytes(text.encode("latin-1"))
    assert len(open_folder(tmp_path).kept) == 1
    assert f"dropped  {name}: not read as a list of captions" in rows(tmp_path)[name]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    (
        ("list.csv", "file_name,text\na.avi,B\u00e4r".encode("latin-1"), "list.csv: not read as a list.*byte 0xe4"),
        ("list.csv", b"a.avi,a cat, red\n", "list.csv: not read as a list.*line 1: 'a.avi,a cat, red'"),
        ("z.jsonl", b'{"file": "a.avi"}', "z.jsonl: not read as a list.*line 1"),
        ("list.csv", b"file_name,text\na,a cat\n", "a: named in list.csv, line 2: there is no such file"),
    ),
)
def test_the_list_that_gave_no_caption_is_named_before_the_clips_without(tmp_path, name, content, reason):
    put(tmp_path, *(f"{letter}.avi" for letter in "abcdef"), caption=None)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"no clip to learn from. {reason}"):
        open_folder(tmp_path)


def test_hidden_files_are_named_after_the_clips(tmp_path):
    """A Mac's disk has one beside each clip."""
    put(tmp_path, "cat.avi", caption=None)
    for name in (".DS_Store", "._cat.avi", "._dog.avi", ".info"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ValueError, match="no clip to learn from. cat.avi: no caption"):
        open_folder(tmp_path)


def test_data_sets_without_their_large_files_and_failed_downloads_are_named(tmp_path):
    pointer, page = "version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 1\n", "\n<!DOCTYPE html><html>"
    for name, text in (("a.mp4", pointer), ("b.mp4", page), ("c.png", pointer), ("d.gif", page)):
        put(tmp_path, name)
        (tmp_path / name).write_text(text)
    found = rows(put(tmp_path, "e.avi"))
    assert all("`git lfs pull`" in found[name] for name in ("a.mp4", "c.png"))
    assert all("a web page" in found[name] for name in ("b.mp4", "d.gif"))


def test_half_an_emoji_is_a_letter_that_every_tokenizer_takes(tmp_path):
    put(tmp_path, "a.avi", caption=None)
    (tmp_path / "list.jsonl").write_text('{"file": "a.avi", "caption": "a \\ud83d cat \\ud83d\\ude00"}')
    assert captions(tmp_path) == {"a.avi": "a \ufffd cat \U0001f600"}


def test_what_a_list_says_of_files_that_cannot_be_used(tmp_path):
    put(tmp_path, "a.avi", "b.avi", "c.avi", caption=None)
    entries = [
        {"file": "a.avi", "caption": "one"},
        {"file": "./a.avi", "caption": "another"},
        {"file": "b.avi", "caption": ["two", "captions"]},
        {"file": "c.avi", "caption": "good"},
        {"file": "/data/d.avi", "caption": "x"},
        {"file": "../e.avi", "caption": "x"},
        {"file": "C:\\clips\\f.avi", "caption": "x"},
    ]
    (tmp_path / "list.jsonl").write_text("\n".join(map(json.dumps, entries)))
    found = rows(tmp_path)
    assert "line 1 and list.jsonl, line 2 say different things" in found["a.avi"]
    assert "has 2 captions for it; leave one" in found["b.avi"] and found["c.avi"].startswith("kept")
    assert "outside of this folder" in found["/data/d.avi"] and "leads out" in found["../e.avi"]
    assert "outside of this folder" in found["C:\\clips\\f.avi"]


def test_everything_in_the_folder_has_a_row(tmp_path):
    outside = put(tmp_path / "outside", "film.avi")
    folder = put(tmp_path / "clips", "good.avi")
    for name in ("linked.avi", "caption.avi"):
        (folder / name).symlink_to(outside / "film.avi") if name == "linked.avi" else put(folder, name, caption=None)
    (folder / "caption.txt").symlink_to(outside / "film.txt")
    (folder / "further").symlink_to(outside)
    (folder / "nowhere.mp4").symlink_to(tmp_path / "gone.mp4")
    (folder / "round.mp4").symlink_to(folder / "round.mp4")
    (folder / "inside.avi").symlink_to(folder / "good.avi")
    (folder / "inside.txt").write_text("a link inside")
    for name in (
        "notes.txt",
        "project.prproj",
        "film.heic",
        "Thumbs.db",
        ".DS_Store",
        "noending",
        "sound.wav",
        "two\nlines.xyz",
    ):
        (folder / name).write_bytes(b"x")
    for name in ("linked", "nowhere", "round"):
        (folder / f"{name}.txt").write_text("x")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "many.mp4").write_bytes(b"x")
    found = rows(folder)
    reasons = {
        "linked.avi": "a link that leads out of the folder",
        "caption.avi": "its caption caption.txt is a link that leads out of the folder",
        "further": "a link to a folder",
        "nowhere.mp4": "cannot be opened",
        "round.mp4": "",
        "notes.txt": "no clip of its name",
        "project.prproj": ".prproj files are not read",
        "film.heic": ".heic files are not read",
        "Thumbs.db": ".db files are not read",
        ".DS_Store": "hidden",
        ".cache": "hidden",
        "noending": "without an ending are not read",
        "sound.wav": ".wav files are not read",
        "two lines.xyz": ".xyz files are not read",
    }
    for name, reason in reasons.items():
        assert found[name].startswith("dropped") and reason in found[name]
    assert {name for name, row in found.items() if row.startswith("kept")} == {"good.avi", "inside.avi"}
    assert len(found) == len(reasons) + 2


def test_films_of_all_endings_are_read_or_named(tmp_path):
    endings = ("mpg", "wmv", "ts", "flv", "mts", "3gp", "AVI")
    put(tmp_path, *(f"x{ending}.{ending}" for ending in endings), "x.jpg", "own.avi")
    found = rows(tmp_path)
    assert len(found) == len(endings) + 2
    assert [name for name, row in found.items() if row.startswith("dropped")] == ["x.jpg"]
    assert "cannot be read as a picture" in found["x.jpg"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_pipes_and_devices_are_never_waited_for(tmp_path):
    put(tmp_path, "good.avi", "b.avi")
    for name in ("pipe.mp4", "list.json", "b.txt"):
        (tmp_path / name).unlink(missing_ok=True)
        os.mkfifo(tmp_path / name)
    (tmp_path / "pipe.txt").write_text("x")
    (tmp_path / "endless.mp4").symlink_to("/dev/zero")
    (tmp_path / "endless.txt").write_text("x")
    begin = time.monotonic()
    found = rows(tmp_path)
    assert time.monotonic() - begin < 5
    assert "is a pipe, a device" in found["pipe.mp4"] and "is a pipe, a device" in found["list.json"]
    assert "its caption b.txt is a pipe" in found["b.avi"] and "leads out" in found["endless.mp4"]


def test_large_texts_are_refused_before_they_are_read(tmp_path):
    put(tmp_path, "good.avi", "large.avi")
    with open(tmp_path / "large.txt", "wb") as file:
        file.truncate(1 << 34)
    with open(tmp_path / "large.json", "wb") as file:
        file.truncate(1 << 34)
    found = rows(tmp_path)
    assert "bytes large; at most" in found["large.avi"] and "bytes large; at most" in found["large.json"]


def test_names_that_are_no_text_are_rows(tmp_path):
    put(tmp_path, "good.avi")
    try:
        shutil.copy(CLIP, os.fsencode(tmp_path) + b"/caf\xe9.avi")
    except OSError:
        pytest.skip("this file system takes names in UTF-8 only")
    table = open_folder(tmp_path).table()
    assert "its name is not text in UTF-8" in table and table.encode()


def test_one_frame_learns_from_pictures(tmp_path):
    for name in ("la.png", "exif6.jpg", "stereo.jpg"):
        shutil.copy(CASES / "pictures" / name, tmp_path / name)
        (tmp_path / name).with_suffix(".txt").write_text(f"the picture {name}")
    Image.new("RGB", (40, 30), "red").save(tmp_path / "red.bmp")
    (tmp_path / "red.txt").write_text("red")
    put(tmp_path, "film.avi")
    dataset = open_folder(tmp_path, frames=1)
    assert len(dataset.kept) == 5 and "a picture; used as " in dataset.table()
    videos, words, names = dataset.sample(torch.Generator().manual_seed(1), 3)
    assert videos.shape[:3] == (3, 3, 1) and len(words) == len(names) == 3
    red = next(source for source in dataset.kept if source.name == "red.bmp")
    clip = dataset.clip(red, torch.Generator())
    torch.testing.assert_close(clip.mean((1, 2, 3)), torch.tensor([1.0, -1.0, -1.0]), rtol=0, atol=0.02)
    assert "frames = 1 learns from pictures" in rows(tmp_path)["red.bmp"]


def test_pictures_like_threads_are_refused(tmp_path):
    put(tmp_path, "film.avi")
    Image.new("RGB", (20000, 10)).save(tmp_path / "thread.png")
    (tmp_path / "thread.txt").write_text("a thread")
    assert "times as wide as high" in rows(tmp_path, frames=1)["thread.png"]


def test_films_with_flaws_are_used_where_they_are_good(caplog):
    """Clips never stand still where the data end, and never stop a run; what is wrong is said."""
    dataset = open_folder(CASES / "video", frames=5, fps=10)
    found = {source.name: source for source in dataset.sources}
    assert (
        "breaks off after 1.0 of 2.0 s" in found["halfdata.mp4"].note and "only a cover" in found["cover.mp4"].dropped
    )
    assert found["delay10.gif"].info.seconds == pytest.approx(1.2) and not found["long90min.mp4"].dropped
    (corrupt,) = (source for source in dataset.kept if source.name == "corrupt.mp4")
    clip, used = dataset.usable_clip([corrupt], 0, 0.5)
    assert used is corrupt and clip.shape[1] == 5 and "corrupt.mp4 cannot be decoded 1." in caplog.text
    again, _ = dataset.usable_clip([corrupt], 0, 0.5)
    assert torch.equal(clip, again)


def test_when_a_file_goes_bad_the_next_one_is_taken(tmp_path):
    put(tmp_path, "a.avi", "b.avi")
    dataset = open_folder(tmp_path)
    (tmp_path / "a.avi").write_bytes(b"gone")
    videos, _, names = dataset.sample(torch.Generator().manual_seed(0), 4)
    assert set(names) == {"b.avi"} and len(videos) == 4
    (tmp_path / "b.avi").unlink()
    with pytest.raises(ValueError, match="a.avi|b.avi"):
        dataset.sample(torch.Generator().manual_seed(0), 4)


def test_the_same_bytes_with_new_times_are_the_same_data(tmp_path):
    put(tmp_path, "a.avi", "b.avi")
    first = open_folder(tmp_path).fingerprint()
    os.utime(tmp_path / "a.avi", (1, 1))
    assert open_folder(tmp_path).fingerprint() == first
    found = (tmp_path / "a.avi").stat()
    content = bytearray((tmp_path / "a.avi").read_bytes())
    content[-3] ^= 1
    (tmp_path / "a.avi").write_bytes(content)
    os.utime(tmp_path / "a.avi", ns=(found.st_atime_ns, found.st_mtime_ns))
    assert open_folder(tmp_path).fingerprint() != first


def test_no_list_is_opened_twice(tmp_path):
    put(tmp_path, "a.avi", caption=None)
    (tmp_path / "videos.txt").write_text("a.avi")
    (tmp_path / "captions.txt").write_text("x")
    assert read_lists(tmp_path, ["a.avi", "captions.txt", "videos.txt"]).captions["a.avi"].caption == "x"
