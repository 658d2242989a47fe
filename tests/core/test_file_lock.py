"""One process works in a folder at a time; a lock is freed with its process, however that ends."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from conftest import ROOT
from pyramid_video.models.file_lock import LockedError, file_lock

WORKER = f"""
import sys; sys.path.insert(0, {str(ROOT / "tests")!r}); import conftest; conftest.import_checkout()
from pathlib import Path
from pyramid_video.models.file_lock import file_lock
with file_lock(Path(sys.argv[1]), "training"):
    print("held", flush=True); sys.stdin.read()
"""


def start_holder(path: Path) -> subprocess.Popen:
    words = [sys.executable, "-c", WORKER, str(path)]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize("end", ["kill", "terminate", "finish"])
def test_the_second_is_told_who_has_it_and_the_end_of_the_first_frees_it(tmp_path, end):
    path = tmp_path / "run" / ".lock"
    with start_holder(path) as process:
        with pytest.raises(LockedError, match=f"run is in use: process {process.pid} on .* has been training there si"):
            with file_lock(path, "training"):
                pass
        process.stdin.close() if end == "finish" else getattr(process, end)()
        process.wait(10)
        with file_lock(path, "training"):
            assert str(os.getpid()) in path.read_text()
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff", b"{}", b"[" * 100_000, b'{"pid": 1}'])
def test_a_file_that_nobody_holds_is_no_lock_and_one_that_says_nothing_is_named_all_the_same(tmp_path, text):
    path = tmp_path / ".lock"
    path.write_bytes(text)
    with file_lock(path, "training"):
        path.write_bytes(text)
        with pytest.raises(LockedError, match="is in use: another process holds it"), file_lock(path, "training"):
            pass


def test_two_never_hold_it_though_it_is_removed_each_time(tmp_path):
    inside, most, done = [], [], []

    def work() -> None:
        while len(done) < 300:
            try:
                with file_lock(tmp_path / ".lock", "counting"):
                    inside.append(1)
                    most.append(len(inside))
                    inside.pop()
                    done.append(1)
            except LockedError:
                pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(done) >= 300 and max(most) == 1


def test_an_error_inside_frees_it(tmp_path):
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), file_lock(tmp_path / ".lock", "training"):
            _ = 1 / 0
