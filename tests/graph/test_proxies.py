"""A server behind anything: redirects, credentials, a path, passing faults, lost answers, caches and proxies."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import pytest
from pyramid_video.host import use_host
from pyramid_video.runner import server_api
from pyramid_video.runner.address import TOKEN_VARIABLE, read_address
from pyramid_video.runner.cli import main
from pyramid_video.runner.errors import RunnerError
from test_server import FILE, SUCCESS, WORKFLOW, Stub

SECRET = "s3cret!"


class Front(Stub):
    """A stand-in behind a proxy with a habit: `habit(front, handler)` answers itself and says so, or lets pass."""

    def __init__(self, habit: Callable[[Front, object], bool] = lambda front, handler: False, prefix: str = "") -> None:
        self.habit, self.prefix = habit, prefix
        self.asked: Counter[str] = Counter()  # paths, without what follows the first word
        self.ids: list[str] = []  # of prompts that were taken
        super().__init__()

    def get(self, path: str, query: dict) -> object:
        if path.startswith("/history/") and path.removeprefix("/history/") in self.ids:
            return {path.removeprefix("/history/"): self.entry}
        return super().get(path, query)

    def handler(front):
        class Handler(Stub.handler(front)):
            def pass_on(self, go_on: Callable[[], None]) -> None:
                parts = urlsplit(self.path)
                if not parts.path.startswith(front.prefix + "/"):
                    return self.refuse(404)
                self.path = parts._replace(scheme="", netloc="", path=parts.path.removeprefix(front.prefix)).geturl()
                front.asked[self.path.split("/")[1].split("?")[0]] += 1
                if not front.habit(front, self):
                    go_on()

            def refuse(self, code: int, body: bytes = b"<html>no</html>", **headers: str) -> bool:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.send_response(code)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)
                return True

            def do_GET(self) -> None:
                self.pass_on(super().do_GET)

            def do_POST(self) -> None:
                query, self.query = urlsplit(self.path).query, ""
                self.pass_on(super().do_POST) if not query else self.pass_on(self.post_without_query)

            def post_without_query(self) -> None:
                self.path = urlsplit(self.path).path
                super().do_POST()

        return Handler


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    monkeypatch.setattr(server_api, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(server_api, "RETRY_SECONDS", 10.0)
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    yield
    use_host(None)


@pytest.fixture
def start():
    """Starts stand-ins, and ends them with the test."""
    started = []

    def begin(*arguments, **options) -> Front:
        started.append(Front(*arguments, **options))
        return started[-1]

    yield begin
    for front in started:
        front.server.shutdown()
        front.server.server_close()


@pytest.fixture
def run(tmp_path, capsys):
    """Runs the workflow at an address; gives the exit code and the report. What was said and left has no secret."""

    def go(url: str, *options: str, workflow: dict = WORKFLOW):
        (tmp_path / "workflow.json").write_text(json.dumps(workflow))
        words = ["run", str(tmp_path / "workflow.json"), "--server", url, "--out", str(tmp_path / "out"), *options]
        code = main([*words, "--json", "--debug"])
        said = capsys.readouterr()
        left = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
        assert SECRET not in said.out + said.err and SECRET.encode() not in left
        return code, json.loads(said.out.splitlines()[-1])

    return go


def address(front: Front, *, user: str = "", path: str = "", end: str = "") -> str:
    return front.url.replace("//", f"//{user}") + path + end


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_on_the_same_host_is_followed_and_the_post_kept(run, start, code):
    behind = start()
    location = lambda handler: f"http://127.0.0.1:{behind.server.server_port}{handler.path}"  # noqa: E731
    front = start(lambda front, handler: handler.refuse(code, b"", Location=location(handler)))
    status, report = run(front.url)
    assert status == 0 and len(report["files"]) == len(behind.bodies("/prompt")) == 1
    assert front.asked == {"object_info": 1}, "the new address is used from then on"


def test_a_redirect_takes_no_credentials_to_another_door(run, start):
    behind = start()
    place = f"http://127.0.0.1:{behind.server.server_port}/object_info"
    front = start(lambda front, handler: handler.refuse(307, b"", Location=f"{place}?token={SECRET}"))
    status, report = run(address(front, user=f"me:{SECRET}@"))
    assert status == 1 and f"redirects to {place}; name that address" in report["error"] and not behind.asked


def test_a_page_to_log_in_is_told(run, start):
    def habit(front, handler) -> bool:
        if handler.path == "/login":
            return handler.refuse(200, b"<html>\n<p>Please log in</p></html>")
        return handler.refuse(302, b"", Location="/login")

    status, report = run(start(habit).url)
    assert status == 1 and "is not ComfyUI: it shows a web page, perhaps one to log in" in report["error"]


@pytest.mark.parametrize("end", ["", "/", "//", "/#", "/#workflow=3", "#", "/?a=b"])
@pytest.mark.parametrize("path", ["", "/user/me/proxy/8188"])
def test_an_address_may_have_a_path_and_any_end(run, start, path, end):
    assert run(address(start(prefix=path), path=path, end=end))[0] == 0


def wants(header: str) -> Callable:
    return lambda front, handler: handler.headers.get("Authorization") != header and handler.refuse(401)


def test_credentials_go_along_and_are_never_shown(run, start, monkeypatch):
    basic = start(wants("Basic " + base64.b64encode(f"me:{SECRET}".encode()).decode()))
    assert run(address(basic, user=f"me:{SECRET}@"))[0] == 0
    status, report = run(address(basic, user=f"you:{SECRET}@"))
    assert status == 1 and "it wants credentials" in report["error"] and TOKEN_VARIABLE in report["error"]
    bearer = start(wants(f"Bearer {SECRET}"))
    assert run(bearer.url)[0] == 1
    monkeypatch.setenv(TOKEN_VARIABLE, SECRET)
    assert run(bearer.url)[0] == 0


def test_a_token_of_the_address_goes_with_every_request(run, start):
    def habit(front, handler) -> bool:
        return parse_qs(urlsplit(handler.path).query).get("token") != [SECRET] and handler.refuse(401)

    front = start(habit)
    assert run(address(front, end=f"/?token={SECRET}"))[0] == 0 and front.asked["view"] == 1
    front.server.shutdown()
    front.server.server_close()
    status, report = run(address(front, end=f"?token={SECRET}"))
    assert status == 1 and f"no ComfyUI answers at {front.url}" in report["error"]
    front.server = start().server  # so that it can be ended once more


@pytest.mark.parametrize(
    "url", [f"http://me:{SECRET}@x:y", f"me:{SECRET}@", f"ftp://me:{SECRET}@x", f"http://me:{SECRET}#@x"]
)
def test_an_address_that_cannot_be_read_is_shown_without_its_secrets(url):
    with pytest.raises(RunnerError, match="not an address|not the address") as caught:
        read_address(url)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("code", [408, 429, 500, 503, 524])
def test_a_passing_fault_of_any_answer_is_asked_again(run, start, tmp_path, code):
    def habit(front, handler) -> bool:
        return front.asked[handler.path.split("/")[1].split("?")[0]] <= 2 and handler.refuse(code)

    front = start(habit)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "mine.png").write_bytes(b"pixels")
    workflow = WORKFLOW | {"4": {"class_type": "LoadImage", "inputs": {"image": "mine.png"}}}
    status, report = run(front.url, "--input", str(tmp_path / "in"), workflow=workflow)
    assert status == 0 and len(report["files"]) == len(front.bodies("/prompt")) == 1
    assert {word: front.asked[word] for word in ("object_info", "upload", "prompt", "view")} == {
        "object_info": 3,
        "upload": 3,
        "prompt": 3,
        "view": 3,
    }


@pytest.mark.parametrize("lose", [lambda handler: handler.refuse(524), lambda handler: True], ids=["524", "cut"])
def test_work_that_was_taken_is_not_handed_over_again_when_the_answer_is_lost(run, start, lose):
    def habit(front, handler) -> bool:
        if handler.path != "/prompt":
            return False
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        del handler.headers["Content-Length"]
        front.ids.append(body["prompt_id"])
        return lose(handler)

    front = start(habit)
    status, report = run(front.url)
    assert status == 0 and len(front.ids) == 1 and len(report["files"]) == 1


def test_a_server_that_fails_on_a_graph_each_time_is_told(run, start, monkeypatch):
    monkeypatch.setattr(server_api, "RETRY_SECONDS", 0.1)
    status, report = run(start(lambda front, handler: handler.path == "/prompt" and handler.refuse(500)).url)
    assert status == 1 and "cannot take this workflow" in report["error"] and "answers 500" in report["error"]


def saving(prefix: str) -> dict:
    return WORKFLOW | {"3": {"class_type": "Write", "inputs": {"thing": ["2", 0], "filename_prefix": prefix}}}


def test_what_the_server_remembers_but_has_no_more_is_made_again(run, start, monkeypatch):
    cached = {"status_str": "success", "messages": [["execution_cached", {"nodes": ["1", "2", "3"]}]]}
    front = start()
    front.entry = {**SUCCESS, "status": cached}
    view = front.get

    def get(path: str, query: dict) -> object:
        prefixes = [body["prompt"]["3"]["inputs"]["filename_prefix"] for body in front.bodies("/prompt")]
        return None if path == "/view" and prefixes[-1].count("./") < 2 else view(path, query)

    monkeypatch.setattr(front, "get", get)
    # The stand-in's node has no prefix.
    monkeypatch.setattr("pyramid_video.runner.server.check_links", lambda *_: None)
    status, report = run(front.url, workflow=saving("clip"))
    sent = [body["prompt"]["3"]["inputs"]["filename_prefix"] for body in front.bodies("/prompt")]
    assert status == 0 and sent == ["clip", "./clip", "././clip"] and len(report["files"]) == 1


def test_a_file_that_is_gone_at_once_is_named(run, start):
    front = start(lambda front, handler: handler.path.startswith("/view") and handler.refuse(404))
    status, report = run(front.url)
    assert status == 1 and f"{FILE['subfolder']}/{FILE['filename']}" in report["error"]
    assert len(front.bodies("/prompt")) == 1


def test_a_proxy_of_the_environment_is_used_for_what_is_not_on_this_computer(run, start, monkeypatch):
    front = start()
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    assert run(front.url)[0] == 0
    status, report = run("http://comfy.invalid:8188")
    assert status == 1 and "comfy.invalid:8188 (through the proxy 127.0.0.1)" in report["error"]
    monkeypatch.setenv("http_proxy", "socks5://127.0.0.1:9")
    status, report = run("http://comfy.invalid:8188")
    assert status == 1 and "a proxy of the kind socks5, which is not supported" in report["error"]
    monkeypatch.setenv("http_proxy", address(front, user=f"me:{SECRET}@").partition("//")[2])
    assert run("http://comfy.invalid:8188")[0] == 0
    monkeypatch.setenv("no_proxy", "comfy.invalid")
    status, report = run("http://comfy.invalid:8188")
    assert status == 1 and "proxy" not in report["error"]
