"""Whatever answers in the place of a ComfyUI, a run ends soon, in one sentence, and leaves nothing behind."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import pytest
from pyramid_video.host import use_host
from pyramid_video.runner import connection, server_api
from pyramid_video.runner.cli import main
from test_server import FILE, INFO, SUCCESS, WORKFLOW, Stub

OK = b"HTTP/1.1 200 OK\r\n"
LIMIT_SECONDS = 20.0  # far more than it takes, on a busy machine


class Sick(Stub):
    """A stand-in that answers one path in its own way: `send(write)`, which ends when the client has gone."""

    def __init__(self, path: str, send: Callable[[Callable[[bytes], None]], None]) -> None:
        self.path, self.send = path, send
        super().__init__()

    def handler(sick):
        class Handler(Stub.handler(sick)):
            def sicken(self) -> bool:
                if not self.path.startswith(sick.path):
                    return False
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.close_connection = True
                with suppress(OSError):
                    sick.send(self.wfile.write)
                return True

            def do_GET(self) -> None:
                self.sicken() or super().do_GET()

            def do_POST(self) -> None:
                self.sicken() or super().do_POST()

        return Handler


def forever(piece: bytes, seconds: float = 0.0) -> Callable:
    def send(write) -> None:
        end = time.monotonic() + LIMIT_SECONDS
        while time.monotonic() < end:
            write(piece)
            time.sleep(seconds)

    return send


def after(head: bytes, then: Callable) -> Callable:
    def send(write) -> None:
        write(head)
        then(write)

    return send


def nothing(write) -> None:
    time.sleep(3)


def says(body: bytes, head: bytes = OK) -> Callable:
    return lambda write: write(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


BOMB = gzip.compress(bytes(64 << 20), 1)
WAYS = {
    "silent": nothing,
    "silent after the head": after(OK + b"Content-Length: 9\r\n\r\n", nothing),
    "a head that never ends": after(OK, forever(b"X-A: b\r\n", 0.05)),
    "a body byte by byte": after(OK + b"Content-Length: 999999\r\n\r\n", forever(b" ", 0.05)),
    "a body without an end": after(OK + b"Transfer-Encoding: chunked\r\n\r\n", forever(chunk(bytes(1 << 16)))),
    "a bomb": says(BOMB, OK + b"Content-Encoding: gzip\r\n"),
    "no HTTP": says(b"", b"SSH-2.0-OpenSSH_9.7\r\n"),
    "nothing at all": lambda write: None,
    "a length that is none": says(b"", OK + b"Content-Length: -5\r\n"),
    "a false gzip": says(b"{}", OK + b"Content-Encoding: gzip\r\n"),
    "itself": says(b"", b"HTTP/1.1 307 Temporary Redirect\r\nLocation: ?a\r\n"),
    "no address": says(b"", b"HTTP/1.1 301 Moved\r\nLocation: http://[\r\n"),
    "elsewhere": says(b"", b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere.invalid/\r\n"),
    "an unknown status": says(b"", b"HTTP/1.1 777 Lucky\r\n"),
    "an error with escapes": says(b"", b"HTTP/1.1 418 \x1b[2J\r\n"),
}
PATHS = ("/object_info", "/prompt", "/history", "/queue", "/view")


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    monkeypatch.setattr(server_api, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(server_api, "RETRY_SECONDS", 0.1)
    monkeypatch.setattr(connection, "RESPONSE_SECONDS", 0.4)
    monkeypatch.setattr(connection, "MOST_BYTES", 1 << 20)
    monkeypatch.setattr(connection, "MOST_FILE_BYTES", 1 << 20)
    yield
    use_host(None)


@pytest.fixture
def run(tmp_path, capsys):
    """Runs the workflow on a server; gives the exit code, the report and the seconds it took."""

    def start(stub: Stub):
        (tmp_path / "workflow.json").write_text(json.dumps(WORKFLOW))
        begun = time.monotonic()
        words = ["run", str(tmp_path / "workflow.json"), "--server", stub.url, "--out", str(tmp_path / "out"), "--json"]
        code = main(words)
        said = capsys.readouterr()
        stub.server.shutdown()
        stub.server.server_close()
        return code, json.loads(said.out), time.monotonic() - begun

    return start


@pytest.mark.parametrize(
    ("path", "way"), [(PATHS[i % len(PATHS)], way) for i, way in enumerate(WAYS)] + [(path, "silent") for path in PATHS]
)
def test_a_sick_server_is_told_soon_in_one_sentence(run, tmp_path, path, way):
    sick = Sick(path, WAYS[way])
    sick.entry = None if path == "/queue" else SUCCESS  # else nobody asks for it
    code, report, seconds = run(sick)
    assert code == 1 and seconds < LIMIT_SECONDS
    assert "unexpected" not in report["error"] and "\x1b" not in report["error"] and "\n" not in report["error"]
    assert not list(tmp_path.glob("out/**/*"))
    if path == "/view":
        assert "sub/clip_00007_.mp4" in report["error"]


STRANGE = [
    ("/object_info", [1]),
    ("/object_info", {**INFO, "Say": 3}),
    ("/object_info", {**INFO, "Say": {"input": [], "output": 4}}),
    ("/object_info", {**INFO, "Say": {"input": {"required": {"text": 5}}, "output": [["a"]]}}),
    ("/prompt", {}),
    ("/prompt", {"prompt_id": 3}),
    ("/prompt", {"prompt_id": "../../queue"}),
    ("/prompt", {"prompt_id": "p1", "node_errors": {"3": 7}}),
    ("/history", {"p1": None}),
    ("/history", {"p1": []}),
    ("/history", {"p1": {"status": "error"}}),
    ("/history", {"p1": {"status": {"status_str": "error", "messages": [3, ["execution_error"]]}}}),
    ("/history", {"p1": {"status": {"status_str": "error", "messages": [["execution_error", []], ["x"]]}}}),
    ("/history", {"p1": {"outputs": {"3": [1]}}}),
    ("/history", {"p1": {"outputs": {"3": {"images": [{**FILE, "subfolder": 3}]}}}}),
    ("/history", {"p1": {"outputs": {"3": {"images": [{**FILE, "filename": "a\u001b[2J.mp4", "subfolder": ".."}]}}}}),
    ("/queue", {}),
    ("/queue", {"queue_running": None, "queue_pending": [1]}),
    ("/queue", {"queue_running": [[]], "queue_pending": [["a"]]}),
]


@pytest.mark.parametrize(("path", "answer"), STRANGE)
def test_an_answer_of_another_shape_is_told(run, tmp_path, path, answer):
    sick = Sick(path, says(json.dumps(answer).encode()))
    sick.entry = None if path == "/queue" else SUCCESS
    code, report, _ = run(sick)
    assert "unexpected" not in report.get("error", "") and "\x1b" not in report.get("error", "")
    assert code == 1 and not list(tmp_path.glob("out/**/*"))


@pytest.mark.parametrize("entry", [{}, {"status": None, "outputs": None}, {"outputs": {"3": {"text": 4, "a": "b"}}}])
def test_a_run_without_a_file_says_so(run, entry):
    stub = Stub()
    stub.entry = entry or {"outputs": {}}
    code, report, _ = run(stub)
    assert code == 0 and report["files"] == [] and "saved no file" in report["notes"][0]


def test_ctrl_c_ends_a_batch_on_a_server_that_does_not_answer(tmp_path, monkeypatch):
    monkeypatch.setattr(connection, "RESPONSE_SECONDS", 60.0)
    monkeypatch.setattr(server_api, "CANCEL_SECONDS", 0.3)
    sick = Sick("/prompt", forever(b"", 0.05))
    (tmp_path / "workflow.json").write_text(json.dumps(WORKFLOW))
    (tmp_path / "p.jsonl").write_text('{"1.text": "a"}\n{"1.text": "b"}\n')
    is_alive, begun = threading.Thread.is_alive, time.monotonic()

    def interrupt(thread):
        if len(sick.posted) + time.monotonic() - begun > 1.0:
            raise KeyboardInterrupt
        return is_alive(thread)

    monkeypatch.setattr("pyramid_video.runner.sharing.threading.Thread.is_alive", interrupt)
    words = ["run", str(tmp_path / "workflow.json"), "--prompts", str(tmp_path / "p.jsonl"), "--server", sick.url]
    assert main([*words, "--out", str(tmp_path / "out")]) == 130
    assert time.monotonic() - begun < LIMIT_SECONDS / 2
    assert not list(tmp_path.glob("out/.making_*/*"))
