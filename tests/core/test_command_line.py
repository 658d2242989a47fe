"""The command line says in one sentence what is wrong, before the long work starts, and how it ended."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from pyramid_video.host import use_host
from pyramid_video.host.folders import BUNDLED
from pyramid_video.host.standalone.devices import choose_device
from pyramid_video.recipes.emoji.needed_files import check_beginning
from pyramid_video.recipes.emoji.recipe import TEXT_FILE, VAE_FILE
from pyramid_video.runner.cli import main, make_parser
from pyramid_video.runner.errors import RunnerError, WorkflowError
from pyramid_video.runner.folders import a_name, a_path, check_writable
from pyramid_video.runner.numbers import a_count, a_length, a_positive, a_seed, a_step


@pytest.fixture(autouse=True)
def forget_host():
    yield
    use_host(None)


def run(capsys, *arguments) -> tuple[int, SimpleNamespace]:
    code = main(["run", *map(str, arguments)])
    return code, capsys.readouterr()


@pytest.fixture
def workflow(tmp_path):
    path = tmp_path / "workflow.json"
    path.write_text(json.dumps({"1": {"class_type": "SaveVideo", "inputs": {}}}))
    return path


def test_an_error_is_one_sentence_and_exit_code_1(capsys, tmp_path, workflow):
    code, said = run(capsys, workflow, "--out", tmp_path / "made")
    assert code == 1 and said.out == ""
    assert said.err.startswith("pyramid-video: node 1 (SaveVideo) lacks its input 'video'")
    assert said.err.count("\n") == 1
    assert not (tmp_path / "made").exists()


def test_an_option_that_fits_nothing_is_no_news_where_a_node_is_not_known(capsys, workflow):
    workflow.write_text(json.dumps({"1": {"class_type": "KSampler", "inputs": {"steps": 9}}}))
    code, said = run(capsys, workflow, "--seed", 3)
    assert code == 1 and said.err.startswith("pyramid-video: node 1 (KSampler) is of the type 'KSampler', which needs")


def test_json_lists_all_problems(capsys, workflow):
    code, said = run(capsys, workflow, "--json")
    report = json.loads(said.out)
    assert code == 1 and report["status"] == "error" and len(report["problems"]) == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing.json"], "there is no file missing.json"),
        (["--models", "nowhere"], "--models: there is no folder nowhere"),
        (["--input", "nowhere"], "--input: there is no folder nowhere"),
        (["--seed", "1e9"], "--seed: takes a whole number from 0 to 18446744073709551615, not '1e9'"),
        (["--seed", "-1"], "--seed: takes a whole number from 0 to 18446744073709551615, not '-1'"),
        (["--steps", "1.5"], "--steps: takes a whole number from 1 on, not '1.5'"),
        (["--seconds", "nan"], "--seconds: takes a number of seconds from 0 on, not 'nan'"),
        (["--size", "-5x128"], "--size needs a value; one that begins with - is written as --size=VALUE"),
        (["--out", ""], "--out: takes a name, not an empty one"),
        (["--server", " "], "--server: takes a name, not an empty one"),
        (["--sed", "1"], "there is no option --sed; the nearest is '--seed'; see pyramid-video run --help"),
        (["--promt=a pig"], "there is no option --promt; the nearest is '--prompt'"),
        (["--prompt", "a", "pig"], "'pig' does not belong to an option; put text of several words in quotes"),
    ],
)
def test_wrong_options_are_told(capsys, workflow, arguments, words):
    file = [] if arguments[0].endswith(".json") else [workflow]
    code, said = run(capsys, *file, *arguments)
    assert code == 1 and words in said.err and said.err.count("\n") == 1 and said.out == ""
    code, said = run(capsys, *file, "--json", *arguments)
    report = json.loads(said.out)
    assert code == 1 and report["status"] == "error" and said.err == f"pyramid-video: {report['error']}\n"
    assert words in report["error"] and report["problems"] == [report["error"]]


@pytest.mark.parametrize("option", ["--steps", "--clips"])
@pytest.mark.parametrize("number", ["0", "-3", "1.5", "many"])
def test_a_training_run_needs_at_least_one_step_and_clip(capsys, tmp_path, option, number):
    folders = [word for name in ("--animations", "--run", "--out") for word in (name, str(tmp_path))]
    assert main(["train", "vae", *folders, option, number]) == 1
    said = capsys.readouterr().err
    assert f"argument {option}: takes a whole number from 1 on, not '{number}'" in said and said.count("\n") == 1


@pytest.mark.parametrize(
    ("part", "option", "parts"),
    [
        ("vae", "--begin-from", "pyramid, flow, diffusion, gan, history, text"),
        ("decoder", "--begin-from", "pyramid, flow, diffusion, gan, history, text"),
        ("pyramid", "--judge-from", "vae, decoder"),
        ("text", "--clips", "vae, pyramid, decoder, flow, diffusion, gan, finish, history"),
        ("text", "--animations", "vae, pyramid, decoder, flow, diffusion, gan, finish, history"),
    ],
)
def test_an_option_that_a_part_does_not_know_is_refused(capsys, tmp_path, part, option, parts):
    folders = [word for name in ("--animations", "--run", "--out") for word in (name, str(tmp_path))]
    assert main(["train", part, *folders, option, "1"]) == 1
    said = capsys.readouterr().err
    assert f"argument {option}: means something for {parts} only, not for {part}" in said and said.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["ru"], "argument COMMAND: takes show, nodes, models, run, train, quantise, not 'ru'; the nearest is 'run'"),
        (["train", ".", "--as", "flw"], "--as: takes lora, flow, diffusion, gan, pyramid, vae, not 'flw'; the nearest"),
        (["train", ".", "--pixels", "65"], "--pixels: takes 128, 64, not 65"),
        (["train", ".", "--pixels", "abc"], "--pixels: takes a whole number from 1 on, not 'abc'"),
        (["train", ".", "--seed", "-1"], "--seed: takes a whole number from 0 to 18446744073709551615, not '-1'"),
        (["train", "vae", "--judge-from", "-1"], "--judge-from: takes a whole number from 0 on, not '-1'"),
        (["train", "vae", "--minutes", "0"], "--minutes: takes a number above 0, not '0'"),
        (["train", ""], "FOLDER: takes a name, not an empty one"),
        (["show", ""], "FILE: takes a name, not an empty one"),
        (["quantise", "a", ""], "TO: takes a name, not an empty one"),
    ],
)
def test_an_option_says_what_it_takes(capsys, words, sentence):
    assert main(words) == 1
    said = capsys.readouterr().err
    assert sentence in said and said.count("\n") == 1


def test_every_number_and_path_of_every_command_is_read_by_the_types_that_teach():
    """argparse's own `invalid int value` says nothing, and an empty path would be the current folder."""
    (commands,) = [action for action in make_parser()._actions if isinstance(action.choices, dict)]
    found = {action.type for parser in commands.choices.values() for action in parser._actions}
    assert found == {None, a_name, a_path, a_count, a_step, a_seed, a_length, a_positive}


def test_a_command_without_json_names_every_fault(capsys, tmp_path, monkeypatch):
    def fail(options):
        raise WorkflowError(["one thing", "another thing"])

    monkeypatch.setattr("pyramid_video.runner.train.train_clips", fail)
    assert main(["train", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "pyramid-video: one thing\npyramid-video: another thing\n"


@pytest.fixture
def empty_run(monkeypatch, workflow):
    """A workflow that passes every check and does nothing."""
    monkeypatch.setattr("pyramid_video.runner.validate.validate", lambda *_: [])
    return workflow


def test_an_output_folder_that_is_none_is_told_before_the_run(capsys, tmp_path, empty_run):
    (tmp_path / "file").touch()
    code, said = run(capsys, empty_run, "--out", tmp_path / "file")
    assert code == 1 and f"the output folder {tmp_path / 'file'} is a file; name a folder" in said.err
    code, said = run(capsys, empty_run, "--out", tmp_path / "file" / "sub")
    assert code == 1 and f"sub cannot be made, because {tmp_path / 'file'} is a file; name a folder" in said.err


@pytest.mark.parametrize(
    "words",
    [
        ["run", "x.json", "--models"],
        ["run", "x.json", "--input"],
        ["run", "x.json", "--out"],
        ["run", "x.json", "--prompts"],
        ["show", "x.json", "--models"],
        ["models", "--models"],
        ["train"],
        *(
            ["train", "x", f"--{name}"]
            for name in ("out", "models", "name", "model", "run", "animations", "begin-from")
        ),
        ["quantise"],
        ["quantise", "x"],
    ],
    ids=" ".join,
)
def test_an_empty_name_is_refused_and_not_taken_for_the_current_folder(capsys, words):
    assert main([*words, "", *(["y"] if words == ["quantise"] else [])]) == 1
    assert "takes a name, not an empty one" in capsys.readouterr().err


def test_a_folder_of_models_that_is_not_there_is_refused_by_every_command(capsys, tmp_path):
    for words in (["run", "x.json"], ["show", "x.json"], ["models"], ["train", str(tmp_path)]):
        assert main([*words, "--models", "nowhere"]) == 1
        assert "--models: there is no folder nowhere" in capsys.readouterr().err


def test_a_full_disk_is_told_before_the_run(capsys, tmp_path, monkeypatch, empty_run):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1 << 20))
    code, said = run(capsys, empty_run, "--out", tmp_path)
    assert code == 1 and "has only 1 MB left" in said.err


@pytest.mark.parametrize("device", ["warp", "meta", "lazy", "hpu", "cpu:3", ""])
def test_a_device_that_is_not_there_is_told_before_the_run(capsys, tmp_path, empty_run, device):
    code, said = run(capsys, empty_run, "--out", tmp_path, "--device", device)
    assert code == 1 and f"the device '{device}' cannot be used here; there is" in said.err and "cpu" in said.err


@pytest.mark.parametrize("name", ["cpu", "cpu:0"])
def test_there_is_one_cpu(name):
    assert str(choose_device(name)) == "cpu"


def test_ctrl_c_is_130_without_a_traceback(capsys, tmp_path, monkeypatch, empty_run):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("pyramid_video.runner.execute.execute", interrupt)
    code, said = run(capsys, empty_run, "--out", tmp_path)
    assert code == 130 and said.err == "pyramid-video: interrupted\n"


def test_success_prints_the_paths_only(capsys, tmp_path, monkeypatch, empty_run):
    outcome = SimpleNamespace(files=[tmp_path / "a.mp4"], notes=["node 1: hello"])

    def execute(*given):
        if given[-1] is not None:
            given[-1](*outcome.notes)
        return outcome

    monkeypatch.setattr("pyramid_video.runner.execute.execute", execute)
    code, said = run(capsys, empty_run, "--out", tmp_path)
    assert (code, said.out, said.err) == (0, f"{tmp_path / 'a.mp4'}\n", "node 1: hello\n")
    _, said = run(capsys, empty_run, "--out", tmp_path, "--json")
    report = json.loads(said.out)
    assert report.pop("seconds") >= 0
    assert report == {"status": "success", "files": [str(tmp_path / "a.mp4")], "notes": ["node 1: hello"]}


@pytest.mark.parametrize(("option", "what"), [("--run", "the run's folder"), ("--out", "the output folder")])
def test_training_refuses_a_folder_that_cannot_be_written_before_it_reads_anything(capsys, tmp_path, option, what):
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    folders = {"--animations": tmp_path / "empty", "--run": tmp_path / "run", "--out": tmp_path / "out"}
    folders[option] = tmp_path / "file"
    assert main(["train", "vae", *(str(word) for pair in folders.items() for word in pair)]) == 1
    assert f"{what} {tmp_path / 'file'} is a file; name a folder" in capsys.readouterr().err


@pytest.mark.parametrize("inside", ["", "new"])
def test_a_folder_behind_a_link_that_leads_nowhere_is_refused_before_the_work(tmp_path, inside):
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    with pytest.raises(RunnerError, match="cannot be written: No such file"):
        check_writable(tmp_path / "link" / inside)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["vae", "--animations", "nope", "--run", "run"], "--animations: there is no folder nope"),
        (["vae", "--animations", "empty", "--run", "run"], "empty holds no animations"),
        (["vae", "--animations", "broken", "--run", "run"], "broken holds no animation of 'tiger'"),
        (["empty"], "has no clip to learn from"),
        (["broken"], "has no clip to learn from"),
    ],
)
def test_training_that_is_refused_makes_no_folder(capsys, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("broken").mkdir()
    Path("broken", "a.webp").write_bytes(b"RIFF")
    before = sorted(tmp_path.rglob("*"))
    assert main(["train", *words, "--out", "new/out"]) == 1
    assert said in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_the_home_folder_is_found_where_no_shell_looked_for_it(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert a_path("~/x") == tmp_path / "x" and a_path("~nobody-has-this-name/x").parts[0] == "~nobody-has-this-name"
    for words in (["run", "x.json", "--models=~/nope"], ["models", "--models=~/nope"], ["train", "~/nope"]):
        assert main(words) == 1
        assert f"there is no folder {tmp_path / 'nope'}" in capsys.readouterr().err
    for words in (["run", "~nobody-has-this-name/x.json"], ["train", "~nobody-has-this-name/x"]):
        assert main(words) == 1
        assert "there is no" in (said := capsys.readouterr().err) and "unexpected" not in said


@pytest.fixture
def train(capsys, tmp_path, monkeypatch):
    """Trains a part of the small models in new folders, and gives what was said of it; nothing may be drawn for it."""
    monkeypatch.setattr(
        "pyramid_video.training.data.datasets.AnimationDataset", lambda *_, **__: pytest.fail("clips were drawn")
    )

    def call(part: str, *options, out=tmp_path / "out") -> str:
        animations = [] if part == "text" else ["--animations", tmp_path]
        words = ["train", part, *animations, "--run", tmp_path / "run", "--out", out, *options]
        assert main([str(word) for word in words]) == 1
        assert not (tmp_path / "run").exists()
        return capsys.readouterr().err

    return call


@pytest.mark.parametrize("part", ["pyramid", "flow", "diffusion", "gan", "history", "text"])
def test_a_part_that_begins_from_nowhere_says_so_at_once(train, tmp_path, part):
    assert "--begin-from: there is no folder nope" in train(part, "--begin-from", "nope", out=BUNDLED)
    (empty := tmp_path / "empty").mkdir()
    said = train(part, "--begin-from", empty, out=BUNDLED)
    assert f"--begin-from: there is no {empty}" in said and f"which `train {part}` begins with" in said


@pytest.mark.parametrize("part", ["decoder", "pyramid", "flow", "diffusion", "gan", "finish", "history"])
def test_a_part_without_the_files_of_the_output_says_where_to_get_them(train, tmp_path, part):
    (empty := tmp_path / "empty").mkdir()
    said = train(part, out=empty)
    assert f"first train one with `train vae`, or copy the bundled one there (models/pretrained/{VAE_FILE})" in said
    said = train(part, "--pixels", 64, out=empty)
    assert "first train one with `train vae --pixels 64`" in said and "bundled" not in said
    (empty / VAE_FILE).parent.mkdir()
    shutil.copy(BUNDLED / VAE_FILE, empty / VAE_FILE)
    assert "the recipe of 64 pixels 24: give --pixels 128" in train(part, "--pixels", 64, out=empty)
    if part != "decoder":
        assert f"there is no {empty / TEXT_FILE}, the text encoder" in train(part, out=empty)


def test_a_history_of_its_own_needs_a_pyramid(train):
    assert "give the models folder that has the pyramid as --begin-from" in train("history", out=BUNDLED)


def test_training_a_text_encoder_needs_one(train, tmp_path):
    assert "give a models folder that has one as --begin-from" in train("text")


@pytest.mark.parametrize("part", ["pyramid", "flow"])
def test_a_model_of_the_other_size_is_no_beginning(part):
    with pytest.raises(ValueError, match="is of another recipe: its .* same --pixels"):
        check_beginning(part, 64, BUNDLED, together=part == "pyramid")


def test_quantise_checks_where_it_writes_before_it_reads(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("pyramid_video.models.quantising.quantise", lambda *_: pytest.fail("the weights were read"))
    (source := tmp_path / "model.safetensors").touch()
    assert main(["quantise", str(source), str(source / "x.safetensors")]) == 1
    assert f"the folder {source} is a file; name a folder" in capsys.readouterr().err
    assert main(["quantise", str(tmp_path / "none"), str(tmp_path / "new" / "x.safetensors")]) == 1
    assert f"there is no file or folder {tmp_path / 'none'}" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
