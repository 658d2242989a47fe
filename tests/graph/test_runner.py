"""Whole runs through the command line, with a tiny random model: what comes out, and that it comes out again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from pyramid_video.host import use_host
from pyramid_video.host.standalone.core.files import open_pictures
from pyramid_video.host.standalone.progress import Bar
from pyramid_video.host.standalone.video import read_clip, read_metadata
from pyramid_video.runner.cli import main
from tiny_models import MODEL, TEXT, TEXT_WIDTH, VAE, make_models, make_text_encoder, make_vae

ROOT = Path(__file__).resolve().parents[2]
FILE = "workflows/text_to_video.json"  # found from any folder
FAST = {  # the smallest clip: two latent frames, one step in every stage
    "PyramidVideoLoadModel.model_name": MODEL,
    "PyramidVideoLoadVAE.vae_name": VAE,
    "PyramidVideoLoadTextEncoder.text_encoder_name": TEXT,
    "PyramidVideoStages.first_steps": 1,
    "PyramidVideoStages.video_steps": 1,
    "PyramidVideoEmptyLatent.length_unit": "frames",
    "PyramidVideoEmptyLatent.frames": 5,
    "PyramidVideoEmptyLatent.width": 64,
    "PyramidVideoEmptyLatent.height": 64,
}


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    return make_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(autouse=True)
def forget_host():
    yield
    use_host(None)


@pytest.fixture
def run(tmp_path, models, capsys):
    """Runs a workflow and gives the file it wrote; `run.report` gives exit code, report and what was said instead."""

    def start(file, *options, changes=FAST) -> tuple[int, dict, str]:
        folders = ["--models", str(models), "--out", str(tmp_path / "out")]
        code = main(["run", str(file), *folders, "--json", *set_options(changes), *options])
        said = capsys.readouterr()
        return code, json.loads(said.out), said.err

    def succeed(file, *options, changes=FAST) -> Path:
        code, report, err = start(file, *options, changes=changes)
        assert code == 0, err
        (path,) = report["files"]
        return Path(path)

    succeed.report = start
    return succeed


def set_options(changes: dict) -> list[str]:
    return [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]


def frames(path: Path):
    return read_clip(path).images


def test_text_to_video_writes_the_clip_that_was_asked_for(run, tmp_path):
    path = run(FILE)
    clip = read_clip(path)
    assert clip.images.shape == (5, 64, 64, 3) and clip.frame_rate == 8
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert path.is_relative_to(tmp_path / "out") and path.name.endswith("_00001_.mp4")


def test_the_clips_of_a_batch_are_files_of_their_own(run):
    """Each is the clip that its seed makes alone, but for the rounding of a batch."""
    code, report, err = run.report(FILE, "--seed", "3", "--set", "batch_size=2")
    assert code == 0, err
    assert [Path(path).name[-10:] for path in report["files"]] == ["00001_.mp4", "00002_.mp4"]
    alone = [run(FILE, "--seed", seed) for seed in ("3", "4")]
    first, second = (frames(Path(path)) for path in report["files"])
    assert (first - frames(alone[0])).abs().mean() < 0.01 and (second - frames(alone[1])).abs().mean() < 0.01
    assert (first - second).abs().mean() > 0.05


def test_a_saved_video_runs_again_and_gives_the_same_frames(run):
    first = run(FILE, "--prompt", "a rabbit", "--seed", "5")
    second = run(first, changes={})
    assert second != first
    assert torch.equal(frames(first), frames(second))


def test_the_graph_in_a_video_is_the_changed_one_in_both_forms(run):
    metadata = read_metadata(run(FILE, "--prompt", "a rabbit", "--seed", "5"))
    prompt, ui = json.loads(metadata["prompt"]), json.loads(metadata["workflow"])
    written = {node["_meta"]["title"]: node["inputs"].get("text") for node in prompt.values()}
    assert written["Prompt"] == "a rabbit"
    (text,) = (node["widgets_values"][0] for node in ui["nodes"] if node.get("title") == "Prompt")
    assert text == "a rabbit"


def test_both_formats_give_the_same_frames(run):
    assert torch.equal(frames(run(FILE)), frames(run("workflows/api/text_to_video.json")))


def test_seed_and_prompts_decide_the_frames(run):
    plain = frames(run(FILE))
    assert torch.equal(plain, frames(run(FILE)))
    for option in (["--seed", "6"], ["--prompt", "a rabbit stays still"], ["--negative", "a tiger"]):
        assert not torch.equal(plain, frames(run(FILE, *option)))


def test_image_to_video_begins_with_the_image(run):
    path = run("workflows/image_to_video.json")
    assert frames(path).shape == (5, 64, 64, 3)


@pytest.mark.parametrize("text", ["", "tiger " * 10_000, "\U0001f42f\u202e\x00"], ids=["empty", "long", "odd"])
def test_any_prompt_runs(run, text):
    assert len(frames(run(FILE, "--prompt", text))) == 5


def test_a_prompt_that_is_cut_says_so(run):
    _, report, _ = run.report(FILE, "--prompt", "tiger " * 10_000)
    assert any("only its first 32 tokens are read" in note for note in report["notes"])


def test_a_text_encoder_that_sums_up_still_tells_what_it_cut(run, models):
    make_text_encoder(models / "text_encoders" / "short.safetensors", summary=2)
    changes = FAST | {"PyramidVideoLoadTextEncoder.text_encoder_name": "short.safetensors"}
    _, report, _ = run.report(FILE, "--prompt", "a tiger moves left", changes=changes)
    assert not any("are read" in note for note in report["notes"])
    _, report, _ = run.report(FILE, "--prompt", "tiger " * 100, changes=changes)
    assert any("only its first 32 tokens are read" in note for note in report["notes"])


def test_a_wrong_text_encoder_is_told_with_both_widths(run, models):
    make_text_encoder(models / "text_encoders" / "wide.safetensors", width=40)
    code, report, _ = run.report(
        FILE, changes=FAST | {"PyramidVideoLoadTextEncoder.text_encoder_name": "wide.safetensors"}
    )
    assert code == 1 and "text 40 wide" in report["error"] and f"text {TEXT_WIDTH} wide" in report["error"]


def test_a_wrong_vae_is_told_with_both_channel_counts(run, models):
    make_vae(models / "vae" / "thin.safetensors", latent_channels=4)
    code, report, _ = run.report(FILE, changes=FAST | {"PyramidVideoLoadVAE.vae_name": "thin.safetensors"})
    assert code == 1 and "4 channels" in report["error"] and "8 latent channels" in report["error"]


def test_a_vae_in_place_of_the_model_is_told(run, models):
    (models / "diffusion_models" / "vae.safetensors").write_bytes((models / "vae" / VAE).read_bytes())
    code, report, _ = run.report(FILE, changes=FAST | {"PyramidVideoLoadModel.model_name": "vae.safetensors"})
    assert code == 1 and "looks like a causal video VAE" in report["error"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"PyramidVideoLoadModel.model_name": "tini.safetensors"}, "the nearest is 'tiny.safetensors'"),
        ({"PyramidVideoStages.first_steps": 0}, "the least is 1"),
        ({"PyramidVideoLoadModel.model_name": "../../tiny.safetensors"}, "not one of its"),
    ],
)
def test_wrong_values_are_told(run, values, words):
    code, report, err = run.report(FILE, changes=FAST | values)
    assert code == 1 and words in report["error"] and err.count("\n") == 1


def test_an_interrupt_in_the_middle_leaves_nothing(run, tmp_path, monkeypatch):
    def interrupt(bar, value, text=None, preview=None):
        if value == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Bar, "update", interrupt)
    code, report, _ = run.report(FILE)
    assert code == 130 and report["status"] == "interrupted"
    assert list((tmp_path / "out").rglob("*.mp4")) == []
    monkeypatch.undo()
    run(FILE)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_training_run_that_is_told_to_end_keeps_the_step(tmp_path, monkeypatch, capsys, name):
    from pyramid_video.recipes.emoji import small_vae
    from pyramid_video.training.run.loop import TrainingRun, TrainSettings

    def start(folder: Path) -> TrainingRun:
        return TrainingRun({"line": torch.nn.Linear(1, 1)}, TrainSettings(steps=5), folder)

    def train(dataset, folder, settings, **_):
        run = start(folder)

        def objective(step: int, generator: torch.Generator):
            if step == 3:
                os.kill(os.getpid(), getattr(signal, name))
            return {"loss": run.modules["line"](torch.ones(1, 1)).square().mean()}

        return run.train(objective)

    monkeypatch.setattr(
        "pyramid_video.training.data.datasets.AnimationDataset", lambda *_, **__: SimpleNamespace(size=64)
    )
    monkeypatch.setattr(small_vae, "train_small_vae", train)
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)]
    folders = ["--animations", str(tmp_path), "--run", str(tmp_path / "run"), "--out", str(tmp_path / "out")]
    assert main(["train", "vae", *folders]) == 130
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)] == before
    kept = f"{tmp_path / 'run'} keeps the run after 4 steps; the same command goes on from there"
    assert capsys.readouterr().err == f"pyramid-video: interrupted: {kept}\n"
    resumed = start(tmp_path / "run")
    assert resumed.resume() and resumed.step == 4

    def end(*_, **__):
        os.kill(os.getpid(), getattr(signal, name))

    monkeypatch.setattr(small_vae, "train_small_vae", end)  # while clips are drawn, before the run is there or after
    assert main(["train", "vae", *folders]) == 130
    kept = f"{tmp_path / 'run'} keeps the run as it was saved last; the same command goes on from there"
    assert capsys.readouterr().err == f"pyramid-video: interrupted: {kept}\n"
    folders[3] = str(tmp_path / "new")
    assert main(["train", "vae", *folders]) == 130
    nothing = f"nothing of the run in {tmp_path / 'new'} was saved yet"
    assert capsys.readouterr().err == f"pyramid-video: interrupted: {nothing}\n"


def test_the_bar_names_unit_and_stage(models, tmp_path, capsys):
    assert main(["run", FILE, "--models", str(models), "--out", str(tmp_path), *set_options(FAST)]) == 0
    said = capsys.readouterr()
    assert "unit 2/2 stage 3/3: 100%" in said.err
    assert Path(said.out.strip()).is_file()


def test_a_video_goes_through_the_core_nodes(run, tmp_path):
    clip = run(FILE)
    graph = {
        "1": {"class_type": "LoadVideo", "inputs": {"file": clip.name}},
        "2": {"class_type": "GetVideoComponents", "inputs": {"video": ["1", 0]}},
        "3": {
            "class_type": "ImageScale",
            "inputs": {"image": ["2", 0], "upscale_method": "area", "width": 32, "height": 0, "crop": "disabled"},
        },
        "4": {"class_type": "CreateVideo", "inputs": {"images": ["3", 0], "fps": ["2", 2]}},
        "5": {
            "class_type": "SaveVideo",
            "inputs": {"video": ["4", 0], "filename_prefix": "%width%/clip", "format": "mp4", "codec": "h264"},
        },
        "6": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "frame"}},
    }
    file = tmp_path / "graph.json"
    file.write_text(json.dumps(graph))
    code, report, err = run.report(file, "--input", str(clip.parent), changes={})
    assert code == 0, err
    names = [Path(path).relative_to(tmp_path / "out").as_posix() for path in report["files"]]
    assert names == ["32/clip_00001_.mp4", *(f"frame_{i:05}_.png" for i in range(1, 6))]
    small = read_clip(Path(report["files"][0]))
    assert small.images.shape == (5, 32, 32, 3) and small.frame_rate == 8
    picture, mask = open_pictures(Path(report["files"][1]))
    torch.testing.assert_close(picture[0], frames(clip)[0], atol=1 / 255, rtol=0)
    assert not mask.any()


def test_models_and_nodes_are_listed(models, capsys):
    assert main(["models", "--models", str(models)]) == 0
    said = capsys.readouterr().out
    assert f"  {MODEL}: Pyramid Flow transformer (miniFLUX), " in said
    assert f"  {VAE}: causal video VAE, " in said and f"  {TEXT}: text encoder of Pyramid Video, " in said
    assert main(["nodes"]) == 0
    said = capsys.readouterr().out
    assert all(
        any(line.split()[0] == name for line in said.splitlines()) for name in ("SaveVideo", "PyramidVideoSampler")
    )


# the host behind the runner


def test_a_reader_that_has_seen_enough_hears_no_complaint():
    """`pyramid-video models | head -1` closes the pipe before all is written."""
    program = f"""
import sys
sys.path.insert(0, {str(ROOT / "tests")!r})
import conftest
conftest.import_checkout()
from pyramid_video.runner.cli import main
sys.exit(main(["models"]))
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""


def test_a_run_imports_neither_diffusers_nor_transformers_nor_the_compiler(models, tmp_path):
    words = ["run", FILE, "--models", str(models), "--out", str(tmp_path), *set_options(FAST)]
    program = f"""
import sys
sys.path.insert(0, {str(ROOT / "tests")!r})
import conftest
conftest.import_checkout()
assert "torch" not in sys.modules
from pyramid_video.runner.cli import main
from pyramid_video.host.standalone.core.files import open_pictures
from pyramid_video.runner.registry import node_specs
node_specs()
assert "torch" not in sys.modules
assert main({words!r}) == 0
heavy = {{"diffusers", "transformers", "accelerate", "torch._dynamo"}} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
