"""Files are the old one or the new one, and as readable as any other."""

from __future__ import annotations

import os

import pytest
import torch
from pyramid_video.models.files import remove_parts, write_beside
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
