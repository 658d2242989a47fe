"""Files are the old one or the new one, and as readable as any other."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
import torch
from pyramid_video.models.files import publish, remove_parts, write_beside
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


def test_parts_of_killed_writers_are_removed_and_nothing_else(tmp_path):
    kept = ["a[1].pt", ".a1.7.part.pt", ".a[1].7.part.json", "a[1].7.part.pt"]
    for name in [*kept, ".a[1].7.part.pt", ".a[1].12345.part.pt"]:
        (tmp_path / name).touch()
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
