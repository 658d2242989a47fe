"""What a batch made is delivered once, whatever kills it and whenever; what is written down is on the disk."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from pyramid_video.host import use_host
from pyramid_video.host.standalone.host import StandaloneHost
from pyramid_video.runner.batch import run_batch
from pyramid_video.runner.contents import Contents
from pyramid_video.runner.delivery import Batch, finish_killed, in_short
from pyramid_video.runner.errors import RunnerError, WorkflowError
from pyramid_video.runner.execute import Outcome
from pyramid_video.runner.jobs import Job, read_jobs
from pyramid_video.runner.results import Results, key_of
from pyramid_video.runner.specs import spec_of_info
from pyramid_video.runner.staging import staged
from pyramid_video.runner.workflow import Workflow

KEY = "a key"
CLIPS = {"clips/tiger_00001_.mp4": b"a tiger", "first_00001_.png": b"a picture"}


def batch_in(out: Path) -> Batch:
    return Batch(SimpleNamespace(prompts=Path("p.txt"), json=False, debug=False, out=out, server=[]), [Job(1)])


def make(out: Path) -> None:
    """What a run does: its files are written, and then delivered."""
    batch = batch_in(out)
    with staged(out) as staging:
        outcome = Outcome()
        for name, content in CLIPS.items():
            folder, _, file = name.rpartition("/")
            outcome.files.append(staging.add(out / folder, file.split("_")[0], Path(file).suffix))
            outcome.files[-1].write_bytes(content)
        batch.deliver(Job(1), KEY, Workflow({}, made_for={"prompt": "a tiger"}), outcome, staging)


def made(out: Path) -> dict[str, bytes]:
    files = [path for path in out.rglob("*") if path.is_file() and path.name != "results.jsonl"]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files}


def kill_at(step: int, out: Path) -> bool:
    """Make clips in a process that dies at the `step`-th thing it does to files; says whether it lived to the end."""
    child = os.fork()
    if not child:
        left = iter(range(step))
        words = ("open", "os.", "shutil.", "tempfile.")
        sys.addaudithook(lambda event, _: event.startswith(words) and next(left, None) is None and os._exit(9))
        try:
            make(out)
        except BaseException:
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 9)
    return code == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows does not fork")
@pytest.mark.parametrize("links", [True, False], ids=["hard links", "no hard links"])
def test_a_batch_that_is_killed_anywhere_has_made_its_clips_once(tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(PermissionError("no links here")))
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # a kill loses nothing that was written
    step, finished, again = 0, False, 0
    while not finished:
        out = tmp_path / str(step)
        out.mkdir()
        finished = kill_at(step, out)
        finish_killed(out)
        if not Results(out).has(KEY):
            again += 1
            make(out)
        assert made(out) == CLIPS and len(Results(out).files) == 1, step
        step += 1
    assert step > 30 and 0 < again < step - 10


def test_a_plan_that_leads_away_is_not_followed(tmp_path):
    out, away = tmp_path / "out", tmp_path / "away.mp4"
    for number, name in enumerate(["../away.mp4", str(away)]):
        folder = out / f".making_{number}"
        folder.mkdir(parents=True)
        (folder / "0.mp4").write_bytes(b"x")
        move = {"from": "0.mp4", "to": name, "bytes": 1, "name": ["../away", ".mp4"]}
        (folder / "plan.json").write_text(json.dumps({"entry": {"key": KEY}, "moves": [move]}))
    (out / ".making_link").symlink_to(tmp_path)
    for text in ("{", "[]", "null", '{"entry": 1, "moves": []}', "[" * 100_000):
        folder = out / f".making_text{len(text)}"
        folder.mkdir(exist_ok=True)
        (folder / "plan.json").write_text(text)
    finish_killed(out)
    assert not away.exists() and [path.name for path in out.iterdir()] == [".making_link"]


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs Linux to name what is synced")
def test_content_then_name_then_folder_then_the_record(tmp_path, monkeypatch):
    done, sync, link = [], os.fsync, os.link
    at = lambda path: Path(path).name.split(".")[-1] or "folder"  # noqa: E731
    monkeypatch.setattr(
        os, "fsync", lambda fd: (done.append(f"sync {at(os.readlink(f'/proc/self/fd/{fd}'))}"), sync(fd))
    )
    monkeypatch.setattr(os, "link", lambda a, b: (done.append(f"name {at(b)}"), link(a, b)))
    out = tmp_path / "out"
    out.mkdir()
    (out / "results.jsonl").write_text("")
    make(out)
    content = [done.index("sync mp4"), done.index("sync png")]
    names = [i for i, word in enumerate(done) if word.startswith("name")]
    folders = [i for i, word in enumerate(done) if word in ("sync clips", "sync out")]
    record = done.index("sync jsonl")
    assert max(content) < done.index("sync part") < min(names) and max(names) < max(folders) < record == len(done) - 1


@pytest.mark.parametrize("change", [b"", b"a tige", b"a tiger and more", None], ids=["empty", "short", "long", "gone"])
def test_what_is_recorded_is_looked_at_before_it_is_believed(tmp_path, change):
    make(tmp_path)
    assert Results(tmp_path).has(KEY)
    clip = tmp_path / "clips" / "tiger_00001_.mp4"
    clip.unlink() if change is None else clip.write_bytes(change)
    assert not Results(tmp_path).has(KEY)


def test_lines_of_older_versions_are_believed_where_their_files_hold_something(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"a clip")
    (tmp_path / "b.mp4").write_bytes(b"")
    lines = [{"files": [f"{name}.mp4"], "key": name} for name in "ab"]
    strange = [
        3,
        {},
        {"key": 3, "files": []},
        {"key": "c", "files": [3]},
        {"key": "d", "files": ["a.mp4"], "bytes": []},
    ]
    (tmp_path / "results.jsonl").write_text("\n".join(map(json.dumps, lines + strange)) + "\n{")
    results = Results(tmp_path)
    assert results.has("a") and not results.has("b") and not results.has("c") and not results.has("d")


@pytest.fixture
def host(tmp_path):
    host = StandaloneHost(models=tmp_path / "models", inputs=tmp_path / "in", output=tmp_path / "out")
    use_host(host)
    for folder in ("in", "models/loras"):
        (tmp_path / folder).mkdir(parents=True)
    yield host
    use_host(None)


@pytest.mark.parametrize(
    ("kind", "file"),
    [("image", "in/a.png"), ("file", "in/a.mp4"), ("audio", "in/a.wav"), ("lora_name", "models/loras/a.safetensors")],
)
def test_another_file_of_the_same_name_is_another_graph(tmp_path, host, kind, file):
    choices = [Path(file).name, "pyramid_video_small.safetensors"]
    options = {"image": {"image_upload": True}, "file": {"video_upload": True}, "audio": {"audio_upload": True}}.get(
        kind, {}
    )
    specs = {"Load": spec_of_info("Load", {"input": {"required": {kind: [choices, options]}}}, True)}
    graph = Workflow({"1": {"class_type": "Load", "inputs": {kind: choices[0]}}})
    path, keys = tmp_path / file, []
    for content in (b"one" * 100_000, b"two" * 100_000, b"one" * 100_000):
        path.write_bytes(content)
        os.utime(path, (1, len(keys)))  # new times, and the same bytes in the end
        keys.append(key_of(graph, specs, Contents()))
    assert keys[0] == keys[2] != keys[1]
    bundled = Workflow({"1": {"class_type": "Load", "inputs": {kind: choices[1]}}})
    assert key_of(bundled, specs, Contents()) == key_of(bundled, {}, Contents()), (
        "what comes with the pack has its name"
    )


def test_a_note_of_many_lines_is_printed_once(tmp_path, capsys):
    batch = batch_in(tmp_path)
    for line, notes in ((1, ["small", "small"]), (2, ["small"]), (3, ["small", "new word"])):
        with staged(tmp_path) as staging:
            batch.deliver(Job(line), str(line), Workflow({}), Outcome(notes=notes), staging)
    assert [text for text in capsys.readouterr().err.splitlines() if "of" not in text] == [
        "line 1: small",
        "line 3: new word",
    ]
    assert len(batch.report()["notes"]) == 5


def test_every_fault_of_a_line_is_in_the_report(tmp_path, capsys):
    batch = batch_in(tmp_path)
    batch.silent = True
    batch.fail(Job(1), WorkflowError(["too wide", "too high"]), "http://one")
    line = json.loads(capsys.readouterr().out)
    assert line["problems"] == ["too wide (on http://one)", "too high (on http://one)"]
    assert batch.report()["problems"] == [f"p.txt, line 1: {problem}" for problem in line["problems"]]


def test_a_prompt_beside_lines_that_are_prompts_is_refused(tmp_path):
    options = SimpleNamespace(prompts=Path("p.txt"), prompt="a tiger", out=tmp_path / "out")
    with pytest.raises(RunnerError, match=r"--prompt has no effect: each line of p.txt is a prompt"):
        run_batch(options)


def test_equal_lines_are_said(tmp_path):
    path = tmp_path / "p.txt"
    path.write_text("a tiger\n\na rabbit\na tiger\n a tiger \n")
    jobs, repeated = read_jobs(path)
    assert [job.line for job in jobs] == [1, 3] and repeated == [4, 5]


def test_lines_that_fail_alike_are_one_sentence():
    faults = {1: "no server", 2: "no server", 3: "bad seed", 4: "no server", 9: "no server"}
    assert list(in_short(faults)) == ["lines 1-2, 4, 9: no server", "line 3: bad seed"]
