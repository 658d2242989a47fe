"""Files are the old one or the new one, and as readable as any other."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from pyramid_video.host.folders import ModelFolders
from pyramid_video.models import files
from pyramid_video.models.files import publish, remove_parts, write_beside, write_new
from safetensors.torch import save_file


@pytest.fixture(params=[0o022, 0o027, 0o077])
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def write_privately(path) -> None:
    """As programs do that make a temporary file and rename it."""
    other = path.with_suffix(".tmp")
    os.close(os.open(other, os.O_CREAT | os.O_WRONLY, 0o600))
    other.replace(path)


WRITERS = {
    "plain": lambda path: path.write_bytes(b"x"),
    "private": write_privately,
    "torch": lambda path: torch.save({}, path),
    "safetensors": lambda path: save_file({"a": torch.zeros(2)}, path),
}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
def test_new_files_have_the_usual_permissions(tmp_path, umask, writer):
    for _ in range(2):  # new, then over an old one
        with write_beside(tmp_path / "file.bin") as part:
            writer(part)
        assert (tmp_path / "file.bin").stat().st_mode & 0o777 == 0o666 & ~umask
    assert [path.name for path in tmp_path.iterdir()] == ["file.bin"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    with pytest.raises(OSError, match="full"), write_beside(path) as part:
        part.write_bytes(b"half of the n")
        raise OSError("the disk is full")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


WAYS = {
    "write_beside": lambda path: write_whole(path, b"new"),
    "write_new": lambda path: write_new(path, lambda part: part.write_bytes(b"new")),
    "publish": lambda path: publish(write_whole(path.with_name("made"), b"new"), path.parent, "file", ".bin"),
}


def write_whole(path: Path, content: bytes) -> Path:
    with write_beside(path) as part:
        part.write_bytes(content)
    return path


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("held", [("replace",), ("link", "replace"), ("unlink",)], ids="+".join)
def test_a_scanner_of_windows_that_holds_a_file_for_a_moment_stops_no_write(tmp_path, monkeypatch, way, held):
    monkeypatch.setattr(files, "PATIENCE", 2.0)
    once = set(held)

    def refusing(name, work):
        def call(*arguments, **options):
            if name in once:
                once.discard(name)
                raise PermissionError(13, "The process cannot access the file")
            return work(*arguments, **options)

        return call

    for name in ("replace", "link"):
        monkeypatch.setattr(os, name, refusing(name, getattr(os, name)))
    monkeypatch.setattr(Path, "unlink", refusing("unlink", Path.unlink))
    way(tmp_path / "file.bin")
    monkeypatch.undo()
    (made,) = tmp_path.iterdir()
    assert made.read_bytes() == b"new"


def test_a_file_that_stays_in_use_is_an_error_after_a_while(tmp_path, monkeypatch):
    def refuse(*_):
        tries.append(1)
        raise PermissionError(13, "The process cannot access the file")

    monkeypatch.setattr(os, "replace", refuse)
    for patience, least in ((0.0, 1), (0.2, 2)):
        tries = []
        monkeypatch.setattr(files, "PATIENCE", patience)
        with pytest.raises(PermissionError):
            write_whole(tmp_path / "file.bin", b"new")
        assert len(tries) >= least and (patience or len(tries) == 1)
    assert names(tmp_path) == []


def test_two_who_write_one_file_at_once_each_publish_all_of_theirs(tmp_path):
    path = tmp_path / "file.bin"  # one process here, as in two threads, or in two containers with the same number
    with write_beside(path) as second:
        with write_beside(path) as first:
            second.write_text("second, its first half")
            first.write_text("first")
        assert path.read_text() == "first"
        with second.open("a") as file:
            file.write(" and its other half")
    assert path.read_text() == "second, its first half and its other half" and names(tmp_path) == ["file.bin"]


def test_what_a_killed_writer_left_is_removed(tmp_path, monkeypatch):
    path = tmp_path / "file.bin"
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)  # a kill removes nothing
    with pytest.raises(OSError, match="killed"), write_beside(path):
        raise OSError("killed")
    monkeypatch.undo()
    assert len(names(tmp_path)) == 1
    remove_parts(path)
    assert names(tmp_path) == []


def test_parts_of_killed_writers_are_removed_and_nothing_else(tmp_path):
    kept = ["a[1].pt", ".a1.pt.7.part", ".a[1].json.7.part", "a[1].pt.7.part"]
    for name in [*kept, ".a[1].pt.7.part", ".a[1].pt.12345.part"]:
        (tmp_path / name).touch()
    remove_parts(tmp_path / "a[1].pt", older_than=60)
    assert len(list(tmp_path.iterdir())) == 6  # somebody may be writing them
    remove_parts(tmp_path / "a[1].pt")
    assert {path.name for path in tmp_path.iterdir()} == set(kept)


@pytest.fixture
def calls(monkeypatch) -> list[str]:
    """What is done to files, in order: `sync NAME`, `link NAME`, `replace NAME`."""
    done: list[str] = []
    really = {name: getattr(os, name) for name in ("open", "fsync", "link", "replace")}

    def note(word: str, place: int):
        def call(*arguments):
            done.append(f"{word} {Path(arguments[place]).name}")
            return really[word](*arguments)

        return call

    def fsync(descriptor: int) -> None:
        done.append(f"sync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")
        really["fsync"](descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "link", note("link", 1))
    monkeypatch.setattr(os, "replace", note("replace", 1))
    return done


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs Linux to name what is synced")
def test_content_is_on_the_disk_before_its_name_and_the_name_before_the_caller_goes_on(tmp_path, calls):
    with write_beside(tmp_path / "new" / "run" / "file.bin") as part:
        part.write_bytes(b"x")
    assert calls == [f"sync {folder}" for folder in ("new", tmp_path.name)] + [
        f"sync {part.name}",
        "replace file.bin",
        "sync run",
    ]
    calls.clear()
    (tmp_path / "made").write_bytes(b"x")
    publish(tmp_path / "made", tmp_path / "new", "clip", ".mp4")
    assert calls == ["sync made", "link clip_00001_.mp4", "sync new"]


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "no hard links"])
def test_no_published_file_is_overwritten_however_many_come_at_once(tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(PermissionError("no links here")))
    folder = tmp_path / "out"
    folder.mkdir()

    def work(worker: int) -> None:
        for i in range(20):
            unfinished = tmp_path / f"{worker}"
            unfinished.write_text(f"{worker} {i}")
            publish(unfinished, folder, "clip", ".txt")

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    texts = sorted(path.read_text() for path in folder.iterdir())
    assert texts == sorted(f"{worker} {i}" for worker in range(4) for i in range(20))


def test_what_a_kill_leaves_is_in_no_list_of_models(tmp_path):
    long_name = "ü" * 117 + ".safetensors"  # as long as a name may be
    with write_beside(tmp_path / "vae" / long_name) as part:
        part.write_bytes(b"half of the w")
        assert len(part.name.encode()) < 255 and part.name[0] == "." and part.suffix == ".part"
        (tmp_path / "vae" / ".left by an older version.safetensors").touch()
        assert all("pyramid_video_small" in name for name in ModelFolders.below(tmp_path).list("vae"))
    assert long_name in ModelFolders.below(tmp_path).list("vae")


def no_links(*_):
    raise OSError("Operation not permitted")


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("links", [True, False], ids=["", "without hard links"])
def test_a_new_file_replaces_none_and_nothing_is_kept_twice(tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(os, "link", no_links)

    def save(text: str) -> str:
        return write_new(tmp_path / "a.bin", lambda part: part.write_text(text)).name

    assert [save(text) for text in "aabbab"] == [
        "a.bin",
        "a.bin",
        *2 * ["a_00002_.bin"],
        "a_00003_.bin",
        "a_00004_.bin",
    ]
    assert names(tmp_path) == ["a.bin", "a_00002_.bin", "a_00003_.bin", "a_00004_.bin"]
    assert [path.read_text() for path in sorted(tmp_path.iterdir())] == ["a", "b", "a", "b"]
    (tmp_path / "a_00003_.bin").unlink()  # by somebody who needs the place
    assert save("c") == "a_00003_.bin" and (tmp_path / "a_00004_.bin").read_text() == "b"


@pytest.mark.parametrize("links", [True, False], ids=["", "without hard links"])
def test_many_who_save_under_one_name_at_once_lose_nothing(tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    with ThreadPoolExecutor(8) as pool:
        texts = [str(number) for number in range(40)]
        made = pool.map(lambda text: write_new(tmp_path / "a.bin", lambda part: part.write_text(text)), texts)
        assert [path.read_text() for path in made] == texts
    assert len(names(tmp_path)) == 40


def test_a_new_file_that_cannot_be_written_leaves_nothing(tmp_path):
    def fail(part) -> None:
        part.write_bytes(b"half")
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        write_new(tmp_path / "a.bin", fail)
    assert names(tmp_path) == []
