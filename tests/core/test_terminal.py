"""Printing never decides over work: what cannot be written is dropped, and nobody counts it as failed."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest
from conftest import ROOT
from pyramid_video.host.standalone.progress import Bar
from pyramid_video.runner.terminal import unfailing_output

SPEAKER = f"""
import sys; sys.path.insert(0, {str(ROOT / "tests")!r}); import conftest; conftest.import_checkout()
import logging
from pyramid_video.host.standalone.progress import Bar
from pyramid_video.runner.terminal import unfailing_output
with unfailing_output():
    bar = Bar(9, silent=False)
    for i in range(1, 10):
        print("clips/虎.mp4", "x" * 20_000, flush=True)
        print("1 of 2: 虎", file=sys.stderr)
        bar.update(i, "虎")
        logging.warning("虎 %s", "x" * 20_000)
open(sys.argv[1], "w").write("worked")
"""


def closed_pipe() -> int:
    reading, writing = os.pipe()
    os.close(reading)
    return writing


def full_pipe() -> int:
    """A pipe that takes no more, and does not make its writer wait; its other end stays open."""
    _, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, b"x" * 4096)
    except BlockingIOError:
        return writing


def gone_terminal() -> int:
    """A terminal whose window was closed."""
    ours, theirs = os.openpty()
    os.close(ours)
    return theirs


def full_disk() -> int:
    return os.open("/dev/full", os.O_WRONLY)


@pytest.mark.skipif(os.name == "nt", reason="these streams are Unix's")
@pytest.mark.parametrize("stream", [closed_pipe, full_pipe, gone_terminal, full_disk])
def test_work_goes_on_and_ends_well_wherever_its_words_go(tmp_path, stream):
    descriptor = stream()
    done = subprocess.run(
        [sys.executable, "-c", SPEAKER, tmp_path / "done"],
        stdout=descriptor,
        stderr=descriptor,
        env={**os.environ, "PYTHONIOENCODING": "cp1252"},
        timeout=60,
    )
    os.close(descriptor)
    assert done.returncode == 0 and (tmp_path / "done").read_text() == "worked"


def test_letters_that_a_console_lacks_are_spelt(monkeypatch):
    console = io.TextIOWrapper(io.BytesIO(), "cp1252", newline="\n")
    monkeypatch.setattr(sys, "stdout", console)
    with unfailing_output():
        print("clips/été-虎.mp4")
    assert console.buffer.getvalue() == "clips/été-\\u864e.mp4\n".encode("cp1252")


@pytest.mark.parametrize("stream", [None, io.StringIO()], ids=["never open", "closed"])
def test_streams_that_are_not_there_take_nothing(monkeypatch, stream):
    if stream is not None:
        stream.close()
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, stream)
    with unfailing_output():
        print("clip.mp4", flush=True)
        print("done", file=sys.stderr)
        Bar(9, silent=False).update(1, "sampling")
    assert (sys.stdout, sys.stderr) == (stream, stream)
