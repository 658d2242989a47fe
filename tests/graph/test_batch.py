"""A file of prompts: every right one is delivered once, whatever happens to servers, and every other one is named."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from fake_comfy import WORKFLOW, FakeComfy
from pyramid_video.host import use_host
from pyramid_video.models.file_lock import file_lock
from pyramid_video.runner import server_api, sharing
from pyramid_video.runner.cli import main
from pyramid_video.runner.connection import Connection


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    monkeypatch.setattr(server_api, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(server_api, "RETRY_SECONDS", 0.1)
    yield
    use_host(None)


@pytest.fixture
def servers():
    """Starts stand-ins, and ends them with the test."""
    started = []

    def start(*arguments) -> FakeComfy:
        started.append(FakeComfy(*arguments))
        return started[-1]

    yield start
    for server in started:
        if server.alive:
            server.die()


@pytest.fixture
def run(tmp_path, capsys):
    """Runs the workflow for some lines; gives the exit code and the report at the end. `clips` are the lines before."""

    def start(lines: list, *servers: FakeComfy, name: str = "prompts.jsonl"):
        (tmp_path / "workflow.json").write_text(json.dumps(WORKFLOW))
        text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
        (tmp_path / name).write_text(text, "utf-8")
        where = [word for server in servers for word in ("--server", server.url)]
        words = ["run", str(tmp_path / "workflow.json"), "--prompts", str(tmp_path / name), *where]
        code = main([*words, "--out", str(tmp_path / "out"), "--json"])
        *start.clips, report = map(json.loads, capsys.readouterr().out.splitlines())
        return code, report

    return start


def wishes(count: int) -> list[dict]:
    return [{"prompt": f"clip {i}", "seed": i} for i in range(count)]


def delivered(report: dict) -> Counter:
    """How often each prompt was delivered, by the names of the files."""
    return Counter(Path(path).name.split("_")[1] for path in report["files"])


def names(count: int, *without: int) -> dict[str, int]:
    return {f"clip-{i}": 1 for i in range(count) if i not in without}


def test_every_line_is_delivered_under_its_prompt_and_seed(run, servers, tmp_path):
    server = servers()
    code, report = run(["a tiger", "", "  a/../b: c?  "], server, name="prompts.txt")
    folder = tmp_path / "out" / "clips"
    assert code == 0 and sorted(server.ran) == ["a tiger", "a/../b: c?"]
    assert {Path(path) for path in report["files"]} == {
        folder / "made_a-tiger_seed1_00001_.mp4",
        folder / "made_a-b-c_seed1_00001_.mp4",
    }
    noted = [extra["extra_pnginfo"]["pyramid_video"] for extra in server.metadata]
    assert sorted(note["prompt"] for note in noted) == sorted(server.ran) and {note["seed"] for note in noted} == {1}


def test_bad_lines_are_named_with_their_number_and_the_others_delivered(run, servers):
    lines = [
        {"prompt": "clip 0", "seed": 3},
        "{",
        {"promt": "x"},
        {"prompt": 3},
        {"seed": True},
        [],
        {"prompt": "bad luck"},
        {"prompt": "refused"},
        {"9.text": "x"},
        {"1.txet": "x"},
        {"prompt": "clip 1", "Say.seed": 8},
    ]
    server = servers()
    code, report = run(lines, server)
    assert code == 1 and report["status"] == "error"
    assert delivered(report) == names(2)
    faults = {int(fault.split("line ")[1].split(":")[0]): fault.split(": ", 1)[1] for fault in report["problems"]}
    assert sorted(faults) == [2, 3, 4, 5, 6, 7, 8, 9, 10]
    assert faults[2].startswith("this is not valid JSON")
    assert faults[3].startswith("'promt' means nothing here; the nearest is 'prompt'; inputs are named NODE.INPUT")
    assert faults[4].startswith("'prompt' takes text, not 3")
    assert faults[5].startswith("'seed' takes a whole number, not true")
    assert faults[6].startswith("a line is an object such as")
    assert faults[7].startswith("node 2 (Guide): no bad luck (on http://")
    assert faults[8].startswith("the server refuses the workflow: refused")
    assert faults[9].startswith("there is no node '9'") and "the nearest is 'text'" in faults[10]
    assert {"prompt": "clip 1", "seed": 8} in [extra["extra_pnginfo"]["pyramid_video"] for extra in server.metadata]


def test_the_same_command_again_does_nothing_twice_and_the_rest(run, servers, tmp_path):
    server = servers()
    run([*wishes(3), {"prompt": "bad"}], server)
    assert sorted(server.ran) == ["bad", "clip 0", "clip 1", "clip 2"]
    (lost,) = (tmp_path / "out").rglob("*clip-1*")
    lost.unlink()
    with (tmp_path / "out" / "results.jsonl").open("a") as file:
        file.write('{"files": [], "ke')  # a power cut in the middle of a line
    server.ran.clear()
    code, report = run([*wishes(4), {"prompt": "bad"}], server)
    assert code == 1 and sorted(server.ran) == ["bad", "clip 1", "clip 3"]
    assert report["skipped"] == 2 and delivered(report) == names(4, 0, 2)
    server.ran.clear()
    assert run(wishes(4), server)[0] == 0 and server.ran == []


def test_lines_that_want_the_same_make_one_clip(run, servers):
    server = servers()
    _, report = run([{"prompt": "clip 0", "seed": 1}, {"seed": 1, "prompt": "clip 0"}], server)
    assert server.ran == ["clip 0"] and delivered(report) == names(1)


def test_servers_share_the_work_and_none_has_more_than_a_few_queued(run, servers):
    both = threading.Barrier(2)

    def meet(server: FakeComfy, text: str) -> None:
        if not server.ran:
            both.wait(10)  # each begins when the other does, so neither can do all alone

    first, second = servers(meet), servers(meet)
    code, report = run(wishes(12), first, second)
    assert code == 0 and delivered(report) == names(12)
    assert first.ran and second.ran and sorted(first.ran + second.ran) == sorted(f"clip {i}" for i in range(12))
    assert max(first.most_queued, second.most_queued) <= sharing.QUEUED_AT_ONCE


def until_dead(dying: FakeComfy):
    """Lets a server run nothing before another is dead."""

    def wait(server: FakeComfy, text: str) -> None:
        with dying.change:
            dying.change.wait_for(lambda: not dying.alive, 10)

    return wait


@pytest.mark.parametrize("at", [0, 3])
def test_what_a_dying_server_had_goes_to_the_other(run, servers, at):
    def die(server: FakeComfy, text: str) -> None:
        if len(server.ran) == at:
            server.die()

    dying = servers(die)

    code, report = run(wishes(12), dying, servers(until_dead(dying)))
    assert code == 0 and len(dying.ran) == at
    assert delivered(report) == names(12)
    (note,) = report["notes"]
    assert note.startswith("a server was left out: no ComfyUI answers at " + dying.url)


def test_a_server_that_is_restarted_gets_its_prompts_again(run, servers):
    def forget(server: FakeComfy, text: str) -> None:
        if len(server.ran) == 2:
            server.ran.append("restart")
            server.forget()

    server = servers(forget)
    code, report = run(wishes(6), server)
    assert code == 0 and delivered(report) == names(6)


def test_a_server_that_dies_while_its_file_is_fetched_leaves_none_behind(run, servers, tmp_path):
    dying = servers()
    view = dying.get

    def get(path: str, query: dict):
        if path == "/view":
            dying.die()
        return view(path, query)

    dying.get = get
    code, report = run(wishes(4), dying, servers(until_dead(dying)))
    assert code == 0 and delivered(report) == names(4)
    assert len(list((tmp_path / "out").rglob("*.mp4"))) == 4


def test_a_prompt_that_kills_servers_is_given_up(run, servers):
    def forget(server: FakeComfy, text: str) -> None:
        if text == "clip 1":
            with server.change:
                server.change.wait_for(lambda: server.running[0][0] in server.shown_running, 10)
            server.forget()

    code, report = run(wishes(3), servers(forget))
    assert code == 1 and delivered(report) == names(3, 1)
    (fault,) = report["problems"]
    assert "line 2: given up, as servers go down with it" in fault


def test_without_a_server_every_prompt_is_named(run, servers):
    dead = servers()
    dead.die()
    code, report = run(wishes(3), dead)
    assert code == 1 and report["files"] == [] and len(report["problems"]) == 3
    assert all("no server is left for it: no ComfyUI answers at" in fault for fault in report["problems"])


def test_a_server_without_the_nodes_is_told_before_anything_runs(run, servers):
    good, poor = servers(), servers()
    poor.get = lambda path, query: {"Write": {"input": {}, "output": []}}
    code, report = run(wishes(3), good, poor)
    assert code == 1 and "of the unknown type 'Say'" in report["error"] and poor.url in report["error"]
    assert good.ran == []


@pytest.mark.parametrize("responds", ["at once", "when all is over"])
@pytest.mark.parametrize("heard", ["at once", "while the first is taken back"])
def test_ctrl_c_takes_back_what_is_queued(run, servers, monkeypatch, responds, heard):
    """Also what the server has taken and not yet said so, and when a request to take back meets the end of others."""
    server = servers(lambda server, text: until_dead(server)(server, text))
    is_alive, stop, post, over = threading.Thread.is_alive, Connection.stop, server.post, threading.Event()

    def interrupt(thread):
        if server.pending and server.running and not over.is_set():
            over.set()
            raise KeyboardInterrupt
        return is_alive(thread)

    def late(path: str, body: dict):
        response = post(path, body)
        if path == "/prompt" and responds != "at once":
            over.wait(10)
        if path == "/queue" and heard != "at once":
            time.sleep(0.3)
        return response

    def stop_late(connection, *arguments) -> None:
        end = time.monotonic() + (0.5 if heard != "at once" else 0)
        while "/queue" not in server.posted and time.monotonic() < end:
            time.sleep(0.01)
        stop(connection, *arguments)

    server.post = late
    monkeypatch.setattr(sharing.threading.Thread, "is_alive", interrupt)
    monkeypatch.setattr(Connection, "stop", stop_late)
    code, report = run(wishes(5), server)
    assert code == 130 and report["status"] == "interrupted"
    assert server.posted.count("/queue") == 2 and server.posted.count("/interrupt") == 1


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("p.csv", b"a", "takes a .txt with a prompt in each line or a .jsonl"),
        ("p.txt", b"\xff\xfe", "is not text in UTF-8"),
        ("p.txt", b" \n\n", "has no prompts in it"),
        ("missing.txt", None, "there is no file"),
    ],
)
def test_a_file_that_is_none_is_told(tmp_path, capsys, name, content, words):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert main(["run", "text_to_video.json", "--prompts", str(tmp_path / name), "--out", str(tmp_path / "out")]) == 1
    assert words in capsys.readouterr().err


def test_several_servers_need_a_file_of_prompts(tmp_path, capsys):
    assert main(["run", "text_to_video.json", "--server", "a", "--server", "b", "--out", str(tmp_path)]) == 1
    assert "several servers share the prompts of a file" in capsys.readouterr().err


def test_each_clip_is_a_line_of_json_when_it_is_done(run, servers):
    server = servers()
    run(wishes(1), server)
    code, report = run([*wishes(2), {"prompt": "bad luck"}, {"seed": 0, "prompt": "clip 0"}], server)
    lines = {clip["line"]: clip for clip in run.clips}
    assert code == 1 and [lines[line]["status"] for line in (1, 2, 3)] == ["skipped", "success", "error"]
    assert lines[2]["prompt"] == "clip 1" and lines[2]["seed"] == 1 and lines[2]["files"] == report["files"]
    assert lines[1]["files"][0].endswith("clip-0_seed0_00001_.mp4") and "no bad luck" in lines[3]["error"]
    (note,) = report["notes"]
    assert note.startswith("line 4 wants the same as an earlier line") and len(lines) == 3


def test_two_batches_in_one_folder_do_not_make_everything_twice(run, servers, tmp_path):
    with file_lock(tmp_path / "out" / ".batch.lock", "making clips"):
        code, report = run(wishes(2), servers())
    assert (
        code == 1 and "out is in use: process" in report["error"] and report["error"].endswith("or give another --out")
    )
    assert run(wishes(2), servers())[0] == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["clips", "results.jsonl"]


def test_a_server_that_goes_is_told_at_once_and_its_lines_in_one_sentence(tmp_path, servers, capsys):
    dead = servers()
    dead.die()
    (tmp_path / "w.json").write_text(json.dumps(WORKFLOW))
    (tmp_path / "p.txt").write_text("\n".join(f"clip {i}" for i in range(26)))
    words = ["run", str(tmp_path / "w.json"), "--prompts", str(tmp_path / "p.txt"), "--out", str(tmp_path / "out")]
    assert main([*words, "--server", dead.url]) == 1
    gone, lines, summary = capsys.readouterr().err.splitlines()
    assert gone.startswith(f"pyramid-video: a server was left out: no ComfyUI answers at {dead.url}")
    assert "p.txt, lines 1-26: no server is left" in lines and summary.endswith("0 of 26 made, 0 were there, 26 failed")


def test_a_silence_is_said_once_while_it_lasts(run, servers, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(server_api, "RETRY_SECONDS", 1.0)
    server = servers()
    answer, silent = server.get, iter(range(1, 5))

    def get(path: str, query: dict) -> object:
        if path == "/queue" and next(silent, None):
            raise BrokenPipeError  # which cuts the connection
        return answer(path, query)

    server.get = get
    server.before_run = lambda server, text: time.sleep(0.3)
    (tmp_path / "w.json").write_text(json.dumps(WORKFLOW))
    assert main(["run", str(tmp_path / "w.json"), "--server", server.url, "--out", str(tmp_path / "out")]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "trying again for 1 seconds" in line]
    assert len(said) == 1 and server.url in said[0]
