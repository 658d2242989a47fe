"""The client in the documentation: it fetches every clip, waits for none that will not come, and shows no traceback."""

from __future__ import annotations

import subprocess
import sys

import pytest
from conftest import ROOT
from test_server import SUCCESS, Stub

CLIENT = ROOT / "workflows" / "api" / "client.py"


@pytest.fixture
def stub():
    stub = Stub()
    yield stub
    stub.server.shutdown()
    stub.server.server_close()


@pytest.fixture
def client(tmp_path):
    def run(url: str) -> subprocess.CompletedProcess:
        words = [sys.executable, str(CLIENT), url, "a tiger", "7"]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert "Traceback" not in done.stderr
        return done

    return run


@pytest.mark.parametrize("end", ["", "/", "/#"])
def test_a_clip_is_fetched_also_when_the_server_remembers_it(client, stub, tmp_path, end):
    stub.entry = {**SUCCESS, "outputs": {"10": {"images": [{"filename": "x", "type": "temp"}]}, **SUCCESS["outputs"]}}
    done = client(stub.url + end)
    assert (done.returncode, done.stdout, done.stderr) == (0, "clip_00007_.mp4\n", "")
    assert (tmp_path / "clip_00007_.mp4").read_bytes() == b"video of clip_00007_.mp4"
    (body,) = stub.bodies("/prompt")
    assert body["client_id"] and body["prompt"]["4"]["inputs"]["text"] == "a tiger"


def failed(**data) -> dict:
    return {"status": {"status_str": "error", "messages": [["execution_error", data]]}, "outputs": {}}


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (None, "it was deleted from the queue"),
        ({**SUCCESS, "outputs": {}}, "made no file"),
        (failed(exception_message="too large"), "too large"),
        (failed(), "interrupted"),
    ],
)
def test_a_clip_that_does_not_come_is_told(client, stub, entry, words):
    stub.entry, stub.queued = entry, False
    done = client(stub.url)
    assert done.returncode == 1 and words in done.stderr and done.stdout == ""


def test_a_server_that_is_not_there_or_is_another_is_told(client, stub, monkeypatch):
    assert "no server answers at http://127.0.0.1:9" in client("http://127.0.0.1:9").stderr
    monkeypatch.setattr(stub, "post", lambda path, body: (200, b"<html>"))
    assert "is not ComfyUI" in client(stub.url).stderr
    monkeypatch.setattr(stub, "post", lambda path, body: (400, {"error": "bad graph"}))
    assert "answers 400 to /prompt" in client(stub.url).stderr
