"""A file of prompts without a server: the same clips as one by one, models opened once, split over processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from pyramid_video.host import use_host
from pyramid_video.host.standalone import devices
from pyramid_video.host.standalone.devices import choose_device
from pyramid_video.host.standalone.host import StandaloneHost
from pyramid_video.host.standalone.video import read_clip, read_metadata
from pyramid_video.runner.cli import main
from pyramid_video.runner.errors import RunnerError
from pyramid_video.runner.execute import execute
from pyramid_video.runner.ranks import refuse_shared_training
from pyramid_video.runner.registry import node_classes
from pyramid_video.runner.result_cache import ResultCache
from tiny_models import MODEL, TEXT, VAE, make_models

FAST = [
    f"PyramidVideoLoadModel.model_name={MODEL}",
    f"PyramidVideoLoadVAE.vae_name={VAE}",
    f"PyramidVideoLoadTextEncoder.text_encoder_name={TEXT}",
    "PyramidVideoStages.first_steps=1",
    "PyramidVideoStages.video_steps=1",
    "PyramidVideoEmptyLatent.length_unit=frames",
    "PyramidVideoEmptyLatent.frames=5",
    "PyramidVideoEmptyLatent.width=64",
    "PyramidVideoEmptyLatent.height=64",
]
LINES = [
    {"prompt": "a tiger", "seed": 1},
    {"prompt": "a tiger", "seed": 2},
    {"prompt": "a rabbit", "seed": -1},
    {"prompt": "a rabbit", "seed": 1, "7.first_frame_scale": 2.5},
    {"prompt": "a rabbit", "negative": "a tiger", "6.video_steps": 2},
]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return make_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(autouse=True)
def forget_host():
    yield
    use_host(None)


@pytest.fixture
def run(tmp_path, models, capsys):
    def start(*options: str, out: str = "out") -> tuple[int, dict]:
        sets = [word for value in FAST for word in ("--set", value)]
        words = ["run", "text_to_video.json", "--models", str(models), "--out", str(tmp_path / out), *sets]
        code = main([*words, "--json", *options])
        return code, json.loads(capsys.readouterr().out.splitlines()[-1])

    return start


@pytest.fixture
def prompts(tmp_path) -> str:
    path = tmp_path / "prompts.jsonl"
    path.write_text("\n".join(map(json.dumps, LINES)))
    return str(path)


def frames(path):
    return read_clip(Path(path)).images


def test_a_batch_gives_the_clips_of_single_runs_and_opens_its_models_once(run, prompts, monkeypatch):
    opened = []
    load = StandaloneHost.load_model
    monkeypatch.setattr(StandaloneHost, "load_model", lambda *words: opened.append(words) or load(*words))
    code, report = run("--prompts", prompts)
    assert code == 1 and report["made"] == 4 and len(opened) == 1
    (fault,) = report["problems"]
    assert "line 3: node 9" in fault and "'seed', is -1; the least is 0" in fault
    singles = [
        ["--prompt", "a tiger", "--seed", "1"],
        ["--prompt", "a tiger", "--seed", "2"],
        ["--prompt", "a rabbit", "--seed", "1", "--set", "7.first_frame_scale=2.5"],
        ["--prompt", "a rabbit", "--negative", "a tiger", "--set", "6.video_steps=2"],
    ]
    for path, options in zip(report["files"], singles, strict=True):
        single = run(*options, out="single")[1]["files"][0]
        assert torch.equal(frames(path), frames(single)), options
    assert not torch.equal(frames(report["files"][0]), frames(report["files"][1]))


def test_a_clip_says_what_it_was_made_for(run, prompts):
    _, report = run("--prompts", prompts)
    path = Path(report["files"][1])
    assert path.name == "text_to_video_a-tiger_seed2_00001_.mp4"
    assert json.loads(read_metadata(path)["pyramid_video"]) == {"prompt": "a tiger", "seed": 2}
    again = run("--prompts", prompts)[1]
    assert again["made"] == 0 and again["skipped"] == 4


def test_processes_split_the_prompts_and_any_number_of_them_goes_on(run, prompts, monkeypatch):
    monkeypatch.setattr("pyramid_video.runner.batch.wait_for_all", lambda: None)  # they run one after the other here
    parts = []
    for rank in range(2):
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setenv("RANK", str(rank))
        parts.append(run("--prompts", prompts))
    assert [part["made"] for _, part in parts] == [2, 2]
    assert [code for code, _ in parts] == [1, 0]  # the first has the broken line
    assert not set(parts[0][1]["files"]) & set(parts[1][1]["files"])
    Path(parts[1][1]["files"][0]).unlink()
    monkeypatch.delenv("WORLD_SIZE"), monkeypatch.delenv("RANK")
    _, rest = run("--prompts", prompts)
    assert rest["files"] == parts[1][1]["files"][:1] and rest["skipped"] == 3


def test_a_reader_that_has_seen_enough_leaves_the_clips_as_they_are(models, tmp_path):
    (tmp_path / "p.txt").write_text("a tiger\na rabbit\n")
    options = ["--prompts", tmp_path / "p.txt", "--models", models, "--device", "cpu", "--out", tmp_path / "out"]
    sets = [word for value in FAST for word in ("--set", value)]
    worker = write_worker(tmp_path)
    read_end, write_end = os.pipe()
    os.close(read_end)
    words = [sys.executable, worker, "run", "text_to_video.json", *options, *sets]
    done = subprocess.run(words, stdout=write_end, stderr=subprocess.PIPE, text=True)
    os.close(write_end)
    assert done.returncode == 0, done.stderr
    assert "2 of 2 made, 0 were there, 0 failed" in done.stderr and len(list((tmp_path / "out").rglob("*.mp4"))) == 2


def write_worker(folder: Path) -> Path:
    """The command line of this checkout as a file."""
    start = f"import sys; sys.path.insert(0, {str(ROOT / 'tests')!r}); import conftest; conftest.import_checkout()"
    worker = folder / "worker.py"
    worker.write_text(f"{start}\nfrom pyramid_video.runner.cli import main\nsys.exit(main())\n")
    return worker


def test_a_process_that_fails_does_not_end_the_others(models, tmp_path):
    lines = [{"seed": -1}, {"prompt": "a tiger"}, {"seed": -2}, {"prompt": "a rabbit"}]  # the first has nothing to do
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, lines)))
    worker = write_worker(tmp_path)
    words = ["run", "text_to_video.json", "--prompts", tmp_path / "p.jsonl", "--models", models, "--device", "cpu"]
    sets = [word for value in FAST for word in ("--set", value)]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", worker]
    done = subprocess.run([*launch, *words, "--out", tmp_path / "out", *sets], capture_output=True, text=True)
    *_, first, third, summary = done.stderr.splitlines()  # the launcher adds no traceback of its own
    assert done.returncode == 0 and "line 1: node 9" in first and "line 3: node 9" in third
    assert summary.endswith("2 of 4 made, 0 were there, 2 failed")
    made = [path.name.split("_")[3] for path in (tmp_path / "out").rglob("*.mp4")]
    assert sorted(made) == ["a-rabbit", "a-tiger"]


def test_several_processes_do_not_split_the_prompts_of_a_training(monkeypatch):
    prompt = {"1": {"class_type": "PyramidVideoTrainFlow", "inputs": {}}}
    refuse_shared_training(prompt, node_classes())
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RunnerError, match="train first"):
        refuse_shared_training(prompt, node_classes())


def test_processes_on_one_computer_have_a_card_each(monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setattr(devices, "accelerators", lambda: ["cuda"])
    assert choose_device(None) == torch.device("cuda:0")  # and not "cuda", which is unequal to where weights are
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert choose_device(None) == torch.device("cuda:3")
    for there, expected in ((["mps"], "mps:0"), ([], "cpu")):
        monkeypatch.setattr(devices, "accelerators", lambda there=there: there)
        assert choose_device(None) == torch.device(expected)


def step(name: str, calls: list[str], output: bool = False) -> type:
    """A node that notes that it ran, and gives its inputs' sum plus its value."""
    members = {
        "INPUT_TYPES": classmethod(lambda cls: {"required": {"value": ("INT",)}}),
        "RETURN_TYPES": ("INT",),
        "OUTPUT_NODE": output,
        "FUNCTION": "run",
        "run": lambda self, value, thing=0: calls.append(name) or (value + thing,),
    }
    return type(name, (), members)


def test_the_next_run_gets_what_it_shares_and_the_rest_is_let_go():
    calls: list[str] = []
    classes = {name: step(name, calls, name == "End") for name in ("Load", "Text", "Sample", "End")}

    def graph(text: int) -> dict:
        return {
            "1": {"class_type": "Load", "inputs": {"value": 1}},
            "2": {"class_type": "Text", "inputs": {"value": text, "thing": ["1", 0]}},
            "3": {"class_type": "Sample", "inputs": {"value": 0, "thing": ["2", 0]}},
            "4": {"class_type": "End", "inputs": {"value": 0, "thing": ["3", 0]}},
        }

    cache = ResultCache()
    cache.expect(graph(2), ["4"], classes)
    execute(graph(1), ["4"], classes, cache=cache)
    assert calls == ["Load", "Text", "Sample", "End"] and list(cache.results.values()) == [([1],)]
    calls.clear()
    cache.expect(graph(2), ["4"], classes)
    execute(graph(2), ["4"], classes, cache=cache)
    assert calls == ["Text", "Sample", "End"]
    assert sorted(cache.results.values()) == [([1],), ([3],), ([3],)]
    calls.clear()
    execute(graph(2), ["4"], classes, cache=cache)
    assert calls == ["End"], "what writes files runs each time"
