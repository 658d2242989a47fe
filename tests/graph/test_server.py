"""Queueing on a server: a small stand-in that answers as ComfyUI does, so that every turn of a run can be provoked."""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from conftest import ROOT
from pyramid_video.host import use_host
from pyramid_video.runner import server_api
from pyramid_video.runner.cli import main
from pyramid_video.runner.connection import Connection, quoted
from pyramid_video.runner.server import Server

INFO = {
    "Say": {
        "input": {"required": {"text": ["STRING", {"multiline": True}]}},
        "output": ["THING"],
        "display_name": "Say it",
    },
    "LoadImage": {"input": {"required": {"image": [["there.png"], {"image_upload": True}]}}, "output": ["IMAGE"]},
    "Guide": {"input": {"required": {"positive": ["THING"]}, "optional": {"extra": ["THING"]}}, "output": ["THING"]},
    "Grow": {"input": {"required": {"rows": ["COMFY_AUTOGROW_V3", {}]}, "optional": {"row_1": ["*"]}}, "output": ["*"]},
    "Match": {"input": {"required": {"thing": ["COMFY_MATCHTYPE_V3", {}]}}, "output": ["COMFY_MATCHTYPE_V3"]},
    "Write": {"input": {"required": {"thing": ["THING"]}}, "output": [], "output_node": True},
}
WORKFLOW = {
    "1": {"class_type": "Say", "inputs": {"text": "old"}},
    "2": {"class_type": "Guide", "inputs": {"positive": ["1", 0]}},
    "3": {"class_type": "Write", "inputs": {"thing": ["2", 0]}, "_meta": {"title": "The end"}},
}
FILE = {"filename": "clip_00007_.mp4", "subfolder": "sub", "type": "output"}
SUCCESS = {
    "status": {"status_str": "success", "messages": []},
    "outputs": {"3": {"images": [FILE], "animated": [True]}},
}


class Stub:
    """What the stand-in was asked, and what it answers; it speaks no websocket, so runs are polled."""

    def __init__(self) -> None:
        self.inputs: dict[str, bytes] = {}  # files in the server's input folder
        self.posted: list[tuple[str, object]] = []
        self.entry: dict | None = SUCCESS
        self.refusal: tuple[int, dict] | None = None
        self.queued = True
        self.cuts: dict[str, int] = {}  # how many answers to a path still break off in the middle
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def get(self, path: str, query: dict) -> object:
        if path == "/object_info":
            return INFO
        if path == "/history/p1":
            return {"p1": self.entry} if self.entry else {}
        if path == "/queue":
            return {"queue_running": [[0, "p1"]] if self.queued else [], "queue_pending": []}
        if path == "/view":
            return b"video of " + query["filename"][0].encode()
        return None

    def post(self, path: str, body: bytes) -> tuple[int, object]:
        self.posted.append((path, body if path == "/upload/image" else json.loads(body)))
        if path == "/prompt":
            return self.refusal or (200, {"prompt_id": "p1", "number": 1, "node_errors": {}})
        return (200, self.store(body)) if path == "/upload/image" else (200, {})

    def store(self, body: bytes) -> dict:
        """Keep an uploaded file; another file of that name stays, and the new one gets a number."""
        parts = re.split(rb"\r?\n?--%s(?:--)?\r\n" % body[2 : body.index(b"\r\n")], body)
        fields = {}
        for head, content in (part.split(b"\r\n\r\n", 1) for part in parts if part):
            words = dict(re.findall(r'(\w+)="((?:\\.|[^"\\])*)"', head.decode()))
            fields[words["name"]] = (re.sub(r"\\(.)", r"\1", words.get("filename", "")), content)
        (name, content), subfolder = fields["image"], fields["subfolder"][1].decode()
        stem, _, suffix = name.rpartition(".")
        names = [name, *(f"{stem} ({i}).{suffix}" for i in range(1, 9))]
        name = next(name for name in names if self.inputs.get(f"{subfolder}/{name}", content) == content)
        self.inputs[f"{subfolder}/{name}"] = content
        return {"name": name, "subfolder": subfolder, "type": "input"}

    def bodies(self, path: str) -> list:
        return [body for asked, body in self.posted if asked == path]

    def handler(stub):
        class Handler(BaseHTTPRequestHandler):
            def answer(self, code: int, data: object) -> None:
                content = data if isinstance(data, bytes) else json.dumps(data).encode()
                cut = stub.cuts.get(self.path, 0)
                stub.cuts |= {self.path: cut - 1} if cut else {}
                self.send_response(404 if data is None else code)
                self.send_header("Content-Length", str(len(content) + 9 * bool(cut)))
                self.end_headers()
                self.wfile.write(content)

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                self.answer(200, stub.get(parts.path, parse_qs(parts.query)))

            def do_POST(self) -> None:
                self.answer(*stub.post(self.path, self.rfile.read(int(self.headers["Content-Length"]))))

            def log_message(self, *_) -> None:
                pass

        return Handler


@pytest.fixture
def stub(monkeypatch):
    monkeypatch.setattr(server_api, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(server_api, "RETRY_SECONDS", 0.1)
    stub = Stub()
    yield stub
    stub.server.shutdown()
    stub.server.server_close()
    use_host(None)


@pytest.fixture
def run(stub, tmp_path, capsys):
    def start(*options, workflow=WORKFLOW):
        path = tmp_path / "workflow.json"
        path.write_text(json.dumps(workflow))
        code = main(["run", str(path), "--server", stub.url, "--out", str(tmp_path / "out"), "--json", *options])
        said = capsys.readouterr()
        return code, json.loads(said.out), said.err

    return start


def test_a_run_queues_the_changed_graph_and_fetches_the_result(run, stub, tmp_path):
    code, report, _ = run("--prompt", "new")
    (queued,) = stub.bodies("/prompt")
    assert code == 0 and queued["prompt"]["1"]["inputs"]["text"] == "new"
    saved = tmp_path / "out" / "sub" / "clip_00001_.mp4"
    assert report["files"] == [str(saved)] and saved.read_bytes() == b"video of clip_00007_.mp4"


def test_fetched_files_overwrite_nothing(run, tmp_path):
    run()
    _, report, _ = run()
    assert report["files"] == [str(tmp_path / "out" / "sub" / "clip_00002_.mp4")]


def test_a_file_that_would_leave_the_folder_is_not_fetched(run, stub, tmp_path):
    away = FILE | {"subfolder": "../away"}
    stub.entry = SUCCESS | {"outputs": {"3": {"images": [away]}}}
    code, report, _ = run()
    assert code == 1 and "points outside" in report["error"]
    assert not (tmp_path / "away").exists()


@pytest.mark.parametrize("name", ["a./../../away/evil", "a.x/y", "noending", "a.", 5])
def test_a_file_whose_ending_would_leave_the_folder_is_not_written(run, stub, tmp_path, name):
    (tmp_path / "away").mkdir()
    stub.entry = SUCCESS | {"outputs": {"3": {"images": [FILE | {"filename": name}]}}}
    code, report, _ = run()
    assert code == 1 and "which is not a usable name" in report["error"]
    assert not list((tmp_path / "away").iterdir()) and not list((tmp_path / "out").rglob("*.*"))


def test_an_unknown_node_is_told_before_queueing(run, stub):
    workflow = WORKFLOW | {"4": {"class_type": "Wirte", "inputs": {}}}
    code, report, _ = run(workflow=workflow)
    assert code == 1 and report["error"] == "node 4 (Wirte) is of the unknown type 'Wirte'; the nearest is 'Write'"
    assert stub.bodies("/prompt") == []


# where to change the right graph, to what, and the sentence that says so, as of a graph that runs here
WRONG = [
    ("2.inputs.extar", ["1", 0], "node 2 (Guide) has no input 'extar'; the nearest is 'extra'"),
    ("2.inputs.positive", ["12", 0], "node 2 (Guide), input 'positive', is linked to node 12, which does not exist"),
    (
        "2.inputs.unlisted",
        ["12", 0],
        "node 2 (Guide), input 'unlisted', is linked to node 12, which does not exist",
    ),
    (
        "2.inputs.positive",
        ["1", 1],
        "node 2 (Guide), input 'positive', is linked to output 1 of node 1 (Say), which has 1 output",
    ),
    (
        "2.inputs.positive",
        ["4", 0],
        "node 2 (Guide), input 'positive', takes THING, but node 4 (LoadImage) gives IMAGE",
    ),
    (
        "2.inputs.extra",
        ["2", 0],
        "the links form a cycle: node 2 (Guide) needs node 2 (Guide)",
    ),
    ("4.inputs.other", ["1", 0], "node 4 (LoadImage) has no input 'other'"),
]


@pytest.mark.parametrize(("place", "value", "sentence"), WRONG, ids=[sentence for *_, sentence in WRONG])
def test_a_broken_graph_is_told_before_anything_is_sent(run, stub, place, value, sentence):
    workflow = json.loads(json.dumps(WORKFLOW)) | {"4": {"class_type": "LoadImage", "inputs": {"image": "there.png"}}}
    node_id, _, name = place.split(".")
    workflow[node_id]["inputs"][name] = value
    code, report, _ = run(workflow=workflow)
    assert code == 1 and report["problems"] == [sentence]
    assert stub.posted == []


@pytest.mark.parametrize(
    "node",
    [
        {"class_type": "Grow", "inputs": {"rows.row0": ["1", 0], "rows.row1": "b"}},
        {"class_type": "Grow", "inputs": {"row_2": ["1", 0]}},
        {"class_type": "Grow", "inputs": {"rows.row0": ["5", 3]}},
        {"class_type": "Say", "inputs": {"text": "a", "button": None}},
        {"class_type": "LoadImage", "inputs": {"image": "there.png", "upload": "image"}},
    ],
    ids=["rows that grow", "rows that differ in their number", "outputs that grow", "a button", "an upload button"],
)
def test_what_a_node_takes_beyond_its_list_is_left_to_the_server(run, stub, node):
    grown = {"5": {"class_type": "Match", "inputs": {"thing": ["1", 0]}}, "6": node}
    assert run(workflow=WORKFLOW | grown)[0] == 0


FAULT = {"3": {"errors": [{"message": "Required input is missing", "details": "thing"}], "class_type": "Write"}}


@pytest.mark.parametrize(
    ("refusal", "sentence"),
    [
        (
            (400, {"error": {"message": "bad"}, "node_errors": FAULT}),
            "node 3 (The end): Required input is missing (thing)",
        ),
        ((400, {"error": {"message": "no outputs"}, "node_errors": {}}), "the server refuses the workflow: no outputs"),
        ((200, {"prompt_id": "p1", "node_errors": FAULT}), "node 3 (The end): Required input is missing (thing)"),
    ],
)
def test_a_refusal_names_the_node(run, stub, refusal, sentence):
    stub.refusal = refusal
    code, report, _ = run()
    assert code == 1 and report["error"] == sentence
    if refusal[0] == 200:  # it was queued without its bad branch, which nobody asked for
        assert stub.bodies("/queue") == [{"delete": ["p1"]}]


def failed(event: str, **data) -> dict:
    return {"status": {"status_str": "error", "messages": [["execution_start", {}], [event, data]]}, "outputs": {}}


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        (failed("execution_error", node_id="3", exception_message="too\nlarge\n"), "node 3 (The end): too large"),
        (failed("execution_interrupted", node_id="3"), "the run was interrupted on the server"),
    ],
)
def test_a_failure_on_the_server_is_one_sentence(run, stub, entry, sentence):
    stub.entry = entry
    code, report, err = run()
    assert code == 1 and report["error"] == sentence and err == f"pyramid-video: {sentence}\n"


def test_a_prompt_that_the_server_forgot_is_told(run, stub):
    stub.entry, stub.queued = None, False
    code, report, _ = run()
    assert code == 1 and "no longer knows this prompt" in report["error"]


def test_ctrl_c_interrupts_this_prompt_and_no_other(run, stub, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    stub.entry = None
    monkeypatch.setattr(Server, "follow", interrupt)
    code, report, _ = run()
    assert code == 130 and report["status"] == "interrupted"
    assert stub.bodies("/queue") == [{"delete": ["p1"]}] and stub.bodies("/interrupt") == [{"prompt_id": "p1"}]


def test_ctrl_c_leaves_another_run_alone(run, stub, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    stub.queued = False
    monkeypatch.setattr(Server, "follow", interrupt)
    assert run()[0] == 130 and stub.bodies("/interrupt") == []


@pytest.fixture
def run_with_picture(run, tmp_path):
    """Runs the workflow with a picture of that name beside it; the files of this machine are there.png's neighbours."""

    def start(name: str, *files: str, **more):
        for file in files:
            path = tmp_path / "in" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"pixels")
        workflow = WORKFLOW | {"4": {"class_type": "LoadImage", "inputs": {"image": name}}}
        return run("--input", str(tmp_path / "in"), workflow=workflow, **more)

    return start


@pytest.mark.parametrize(("name", "count"), [("there.png", 0), ("mine.png", 1), ("missing.png", 0)])
def test_input_files_go_along_when_the_server_lacks_them(run_with_picture, stub, name, count):
    assert run_with_picture(name, "mine.png")[0] == 0
    assert stub.inputs == ({"/mine.png": b"pixels"} if count else {})


@pytest.mark.parametrize("name", ["my cat.png", "größe.png", "100%25.png", 'a "b".png', "sub/deep/x.png"])
def test_an_input_file_keeps_its_name_and_folder(run_with_picture, stub, name):
    assert run_with_picture(name, name)[0] == 0
    assert stub.inputs == {name if "/" in name else f"/{name}": b"pixels"}
    assert stub.bodies("/prompt")[0]["prompt"]["4"]["inputs"]["image"] == name


def test_no_name_ends_the_header_it_stands_in():
    assert quoted('a\r\n;".png') == 'a%0D%0A%3B".png'


def test_a_picture_that_was_changed_here_is_sent_again(run_with_picture, stub):
    """The server lists the earlier one under the same name, and keeps both."""
    stub.inputs["/there.png"] = b"what was sent earlier"
    assert run_with_picture("there.png", "there.png")[0] == 0
    assert stub.inputs["/there (1).png"] == b"pixels"
    assert stub.bodies("/prompt")[0]["prompt"]["4"]["inputs"]["image"] == "there (1).png"


def test_the_graph_names_the_file_that_the_server_made_of_it(run_with_picture, stub):
    stub.inputs["sub/x.png"] = b"another picture"
    assert run_with_picture("sub/x.png", "sub/x.png")[0] == 0
    assert stub.inputs == {"sub/x.png": b"another picture", "sub/x (1).png": b"pixels"}
    assert stub.bodies("/prompt")[0]["prompt"]["4"]["inputs"]["image"] == "sub/x (1).png"


def test_a_refused_input_file_is_told(run_with_picture, stub, monkeypatch):
    monkeypatch.setattr(stub, "post", lambda path, body: (400, b""))
    code, report, _ = run_with_picture("mine.png", "mine.png")
    assert code == 1 and report["error"] == f"the server at {stub.url} does not take the input file mine.png"


def test_no_server_is_told(tmp_path, capsys):
    path = tmp_path / "workflow.json"
    path.write_text(json.dumps(WORKFLOW))
    assert main(["run", str(path), "--server", "127.0.0.1:9", "--out", str(tmp_path)]) == 1
    assert "no ComfyUI answers at http://127.0.0.1:9" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("url", "reason"),
    [("http://x:abc", "Invalid URL: port can't be converted to integer"), ("http://a b", "it names no host")],
)
def test_an_address_that_is_none_is_told(tmp_path, capsys, url, reason):
    path = tmp_path / "workflow.json"
    path.write_text(json.dumps(WORKFLOW))
    assert main(["run", str(path), "--server", url, "--out", str(tmp_path)]) == 1
    assert (
        capsys.readouterr().err == f"pyramid-video: {url} is not an address such as http://127.0.0.1:8188: {reason}\n"
    )


def test_an_answer_that_is_cut_short_is_asked_for_again(run, stub, monkeypatch):
    monkeypatch.setattr(server_api, "RETRY_SECONDS", 5.0)
    stub.cuts = {"/history/p1": 2}
    code, report, _ = run()
    assert code == 0 and stub.cuts == {"/history/p1": 0}


def test_a_server_that_always_cuts_its_answers_is_told(run, stub):
    stub.cuts = {"/history/p1": 1000}
    code, report, _ = run()
    assert code == 1 and report["error"] == f"no ComfyUI answers at {stub.url}: the answer broke off"


@pytest.mark.parametrize("answer", [b"", b"<html>"])
def test_a_refusal_that_does_not_explain_itself_is_told(run, stub, answer):
    stub.refusal = (400, answer)
    code, report, _ = run()
    words = "it does not say why" if answer == b"" else "is not ComfyUI"
    assert code == 1 and words in report["error"]


def test_another_kind_of_server_is_told(run, stub, monkeypatch):
    monkeypatch.setattr(stub, "get", lambda path, query: b"<html>")
    code, report, _ = run()
    assert code == 1 and report["error"] == f"what answers at {stub.url} is not ComfyUI"


@pytest.mark.parametrize("file", ["text_to_video.json", "api/text_to_video.json"], ids=["UI format", "API format"])
@pytest.mark.parametrize(
    ("there", "words"),
    [
        ({}, "does not have the Pyramid Video nodes; install them there"),
        (
            {"PyramidVideoLoadModel": {"input": {"required": {"model_name": [["a"], {}]}}, "output": ["MODEL"]}},
            "has an older Pyramid Video without PyramidVideoDecode, ",
        ),
    ],
    ids=["without the pack", "with an older one"],
)
def test_a_server_without_our_nodes_is_told_as_such(stub, tmp_path, capsys, monkeypatch, file, there, words):
    monkeypatch.setattr(stub, "get", lambda path, query: INFO | there)
    assert main(["run", str(ROOT / "workflows" / file), "--server", stub.url, "--out", str(tmp_path)]) == 1
    assert f"the server at {stub.url} {words}" in capsys.readouterr().err


def test_a_server_without_websocket_is_an_oserror(stub):
    connection = Connection(stub.url)
    with pytest.raises(OSError, match="no websocket"):
        connection.listen("x")
    connection.close()
