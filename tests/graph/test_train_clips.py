"""`pyramid-video train FOLDER`: from a folder of clips to a file that the loaders list."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from pyramid_video.host import use_host
from pyramid_video.host.standalone.host import StandaloneHost
from pyramid_video.models import checkpoints
from pyramid_video.runner.cli import main, make_parser
from pyramid_video.runner.errors import RunnerError, WorkflowError
from pyramid_video.runner.registry import node_classes, node_specs
from pyramid_video.runner.texts import choose_texts
from pyramid_video.runner.train_clips import KINDS, adapt
from pyramid_video.runner.validate import validate
from pyramid_video.runner.workflow import locate, read_workflow
from pyramid_video.training.data.buckets import make_buckets
from tiny_models import MODEL, TEXT, VAE, make_models

BUNDLED_FLOW = "pyramid_video_small_flow.safetensors"
CAPTIONS = ("a red ball on the left", "a blue ball on the right")
TINY = ("--set", f"Load video VAE.vae_name={VAE}", "--set", f"Load text encoder.text_encoder_name={TEXT}")
QUICK = ("--steps", "1", "--clips", "2", "--batch", "8", "--device", "cpu")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return make_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Two animations with captions, in a folder that is nobody's input folder."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("somewhere") / "my clips"
    folder.mkdir()
    for number, caption in enumerate(CAPTIONS):
        frames = [Image.new("RGB", (64, 64), (8 * step, 90 * number, 40)) for step in range(20)]
        frames[0].save(folder / f"{number}.webp", save_all=True, append_images=frames[1:], duration=125, lossless=True)
        (folder / f"{number}.txt").write_text(caption, "utf-8")
    return folder


def parse(*words) -> argparse.Namespace:
    return make_parser().parse_args(["train", *map(str, words)])


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_the_graph_of_its_workflow_with_the_clips_of_the_folder(models, clips, tmp_path, kind):
    use_host(StandaloneHost(models, clips.parent, tmp_path, "cpu", silent=True))
    try:
        specs = node_specs()
        workflow = read_workflow(locate(f"workflows/api/train_{kind}.json"), specs)
        adapt(workflow, specs, clips, parse(clips, "--as", kind, "--size", 128, "--steps", 7, "--name", "balls"))
        validate(workflow.prompt, node_classes(), specs)
    finally:
        use_host(None)
    inputs = {node["class_type"]: node["inputs"] for node in workflow.prompt.values()}
    assert inputs["PyramidVideoFolderDataset"]["folder"] == "my clips"
    assert inputs["PyramidVideoFolderDataset"]["size"] == 128
    assert inputs["PyramidVideoFolderDataset"]["multiple"] == (128 if kind == "lora" else 64)
    assert inputs["PyramidVideoTrainingSettings"]["steps"] == 7
    (trainer,) = [values for values in inputs.values() if "run_name" in values]
    (saved,) = [values for name, values in inputs.items() if name.startswith("PyramidVideoSaveTrained")]
    assert trainer["run_name"] == saved["name"] == "balls"
    if kind != "vae":
        assert inputs["PyramidVideoValidation"]["prompts"].split("\n") == list(CAPTIONS)
        assert inputs["PyramidVideoEmptyLatent"]["width"] == inputs["PyramidVideoEmptyLatent"]["height"] == 128


OPTIONS = ("--model", "--prompt", "--steps", "--clips", "--batch", "--size", "--seed", "--name")


@pytest.mark.parametrize("kind", KINDS)
def test_no_option_is_without_effect(models, clips, tmp_path, kind):
    """But for the prompt of a VAE, which is refused."""
    use_host(StandaloneHost(models, clips.parent, tmp_path, "cpu", silent=True))

    def graph(*words) -> dict:
        workflow = read_workflow(locate(f"workflows/api/train_{kind}.json"), node_specs())
        adapt(workflow, node_specs(), clips, parse(clips, "--as", kind, *words))
        return workflow.prompt

    try:
        usual = graph()
        for option in OPTIONS:
            assert graph(option, "96") != usual or (kind, option) == ("vae", "--prompt")
    finally:
        use_host(None)


def test_a_vae_is_trained_further_from_the_file_that_is_named(models, clips, tmp_path):
    use_host(StandaloneHost(models, clips.parent, tmp_path, "cpu", silent=True))
    try:
        workflow = read_workflow(locate("workflows/api/train_vae.json"), node_specs())
        adapt(workflow, node_specs(), clips, parse(clips, "--as", "vae", "--model", VAE))
        validate(workflow.prompt, node_classes(), node_specs())
        trainee = next(n["inputs"] for n in workflow.prompt.values() if n["class_type"] == "PyramidVideoVAETrainee")
        assert trainee["vae_name"] == VAE
        trainee["vae_name"] = "nope.safetensors"
        with pytest.raises(WorkflowError, match="vae_name.*'nope.safetensors'"):
            validate(workflow.prompt, node_classes(), node_specs())
    finally:
        use_host(None)


@pytest.mark.parametrize("words", ((), ("--size", 128)))
def test_a_lora_learns_squares(clips, tmp_path, words):
    """The small flow knows squares only; multiples of 64 would let a wide film be 192x128."""
    use_host(StandaloneHost(None, clips.parent, tmp_path, "cpu", silent=True))
    try:
        workflow = read_workflow(locate("workflows/api/train_lora.json"), node_specs())
        adapt(workflow, node_specs(), clips, parse(clips, *words))
    finally:
        use_host(None)
    (shape,) = [n["inputs"] for n in workflow.prompt.values() if n["class_type"] == "PyramidVideoFolderDataset"]
    assert make_buckets(shape["size"], shape["multiple"]) == [(128, 128)]


@pytest.mark.parametrize(("kind", "family"), [("flow", "as it is"), ("diffusion", "diffusion")])
def test_a_model_that_stays_what_it_is_keeps_its_settings(clips, tmp_path, kind, family):
    """The bundled flow has a shift of its own, which the family "flow" of the block would not have."""
    use_host(StandaloneHost(None, clips.parent, tmp_path, "cpu", silent=True))
    try:
        workflow = read_workflow(locate(f"workflows/api/train_{kind}.json"), node_specs())
        adapt(workflow, node_specs(), clips, parse(clips, "--as", kind, "--model", BUNDLED_FLOW))
    finally:
        use_host(None)
    (loader,) = [n["inputs"] for n in workflow.prompt.values() if n["class_type"] == "PyramidVideoLoadForTraining"]
    assert loader == {"model_name": BUNDLED_FLOW, "family": family}


def test_a_folder_of_clips_becomes_a_model(models, clips, tmp_path, capsys):
    words = ["train", str(clips), "--as", "flow", "--model", MODEL, "--models", str(models), "--out", str(tmp_path)]
    assert main([*words, *QUICK, *TINY]) == 0, capsys.readouterr().err
    saved = tmp_path / "diffusion_models" / "my clips.safetensors"
    assert checkpoints.inspect(saved, checkpoints.TRAINABLE).family.name == "flow"
    printed = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert printed and all(path.is_file() for path in printed)


@pytest.mark.parametrize(
    ("kind", "work", "kept"),
    [
        ("flow", "nodes.trainer_base.encode_dataset", "nothing of the run in {} was saved yet"),
        ("vae", "training.data.video_pool.draw_pool", "nothing of the run in {} was saved yet"),
        ("flow", "nodes.training_results.saved", "{} keeps the run as it was saved last"),
    ],
)
def test_a_run_that_is_stopped_before_its_first_step_or_after_its_last_says_what_is_kept(
    models, clips, tmp_path, capsys, monkeypatch, kind, work, kept
):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"pyramid_video.{work}", stop)
    words = ["train", str(clips), "--as", kind, "--models", str(models), "--out", str(tmp_path), *QUICK]
    assert main([*words, *(("--model", MODEL, *TINY) if kind == "flow" else ())]) == 130
    said = kept.format(tmp_path / "training" / "my clips")
    assert f"pyramid-video: interrupted: {said}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["nowhere"], "there is no folder nowhere"),
        (["vea", "--animations", "x"], "nearest is 'vae'"),
        (["vae", "--animations", "x", "--out", "y"], "--run is not given"),
        ([".", "--begin-from", "x"], "--begin-from: means something for a part of the pack's small models only"),
        (["vae", "--animations", "x", "--as", "lora"], "--as: means something for a folder of clips only"),
        ([".", "--batch", "0"], "takes a whole number from 1 on"),
        ([".", "--as", "vae", "--prompt", "a pig"], "--prompt: a VAE reads no text"),
        ([".", "--prompt", " "], "--prompt: is empty; leave it out"),
        ([__file__], f"{__file__} is a file; give the folder with the clips"),
        ([".", "--models", __file__], f"--models: {__file__} is a file; name a folder"),
    ],
)
def test_what_does_not_fit_together_is_said(words, reason, capsys):
    assert main(["train", *words]) == 1
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize("kind", KINDS)
def test_an_option_that_set_undoes_is_refused_and_leaves_nothing(models, clips, tmp_path, kind, capsys):
    pairs = {
        "--size=96": ["Video folder dataset.size=128"],
        "--steps=5": ["Training settings.steps=9"],
        "--batch=2": ["batch=3"],
        "--seed=1": ["run_seed=2"],
        "--clips=4": ["clips=5"],
        "--name=a": ["run_name=b", "name=c"],
        f"--model={MODEL}": ["vae_name=x" if kind == "vae" else "Load for training.model_name=x"],
        "--prompt=a": ["Prompt.text=b"],
    }
    words = ["train", str(clips), "--as", kind, "--models", str(models), "--out", str(tmp_path / "out")]
    for option, sets in [("FOLDER", ["folder=other"]), *pairs.items()]:
        if (kind, option) == ("vae", "--prompt=a"):
            continue
        assignments = [word for text in sets for word in ("--set", text)]
        assert main([*words, *([] if option == "FOLDER" else [option]), *assignments]) == 1
        others = " and ".join(f"--set {text.partition('=')[0]}" for text in sets)
        said = f"{option.partition('=')[0]} has no effect: {others} set{'s' if len(sets) == 1 else ''} the same"
        assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def adapted(folder, models, out, *words):
    """The workflow of a LoRA as it runs with these words."""
    use_host(StandaloneHost(models, folder.parent, out, "cpu", silent=True))
    try:
        workflow = read_workflow(locate("workflows/api/train_lora.json"), node_specs())
        adapt(workflow, node_specs(), folder, parse(folder, *words))
        choose_texts(workflow, node_specs())
    finally:
        use_host(None)
    return {node["_meta"]["title"]: node["inputs"] for node in workflow.prompt.values()}


def test_set_decides_which_clips_are_long_enough_before_their_captions_are_read(models, clips, tmp_path):
    from PIL import Image

    pictures = tmp_path / "pictures"
    pictures.mkdir()
    Image.new("RGB", (64, 64)).save(pictures / "a.png")
    (pictures / "a.txt").write_text("a black square", "utf-8")
    with pytest.raises(ValueError, match="frames = 1 learns from pictures"):
        adapted(pictures, models, tmp_path)
    inputs = adapted(pictures, models, tmp_path, "--set", "Video folder dataset.frames=1")
    assert inputs["Video folder dataset"]["frames"] == 1
    assert inputs["Validation"]["prompts"] == inputs["Prompt"]["text"] == "a black square"


def test_what_set_says_is_shown_instead_of_captions(models, clips, tmp_path):
    inputs = adapted(clips, models, tmp_path, "--set", "Validation.prompts=this", "--set", "Prompt.text=that")
    assert (inputs["Validation"]["prompts"], inputs["Prompt"]["text"]) == ("this", "that")


@pytest.mark.parametrize("value", ["all", "0", "1e400"])
def test_a_length_of_clips_that_is_none_is_refused_as_a_value_of_its_block(models, clips, tmp_path, value):
    with pytest.raises(WorkflowError, match=r"node 1 \(Video folder dataset\), input 'frames', (takes|is)"):
        adapted(clips, models, tmp_path, "--set", f"Video folder dataset.frames={value}")


@pytest.mark.parametrize("name", ["size", "frames", "fps", "multiple"])
def test_a_link_for_what_decides_over_clips_is_refused(models, clips, tmp_path, name):
    with pytest.raises(RunnerError, match=rf"'{name}' of node 1 \(Video folder dataset\).*not the link \['2', 0\]"):
        adapted(clips, models, tmp_path, "--set", f"Video folder dataset.{name}=[2,0]")


@pytest.mark.parametrize("caption", ["a {red|blue} ball", "and/or // this", "http://a.b /* c */"])
def test_a_caption_is_shown_as_it_is_learned(models, clips, tmp_path, caption):
    """Braces and strokes mean choices and comments in a prompt only."""
    folder = tmp_path / "one"
    folder.mkdir()
    (folder / "0.webp").write_bytes((clips / "0.webp").read_bytes())
    (folder / "0.txt").write_text(caption, "utf-8")
    assert adapted(folder, models, tmp_path)["Prompt"]["text"] == caption


def test_without_the_recipes_that_pip_leaves_out_the_command_says_where_they_are(tmp_path, monkeypatch, capsys):
    for name in [name for name in sys.modules if name.startswith("pyramid_video.recipes")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyramid_video.recipes", None)  # as if the folder were not there
    folders = ["--animations", str(tmp_path), "--run", str(tmp_path / "run"), "--out", str(tmp_path / "out")]
    assert main(["train", "vae", *folders]) == 1
    said = capsys.readouterr().err
    assert "`train vae` makes the pack's own small models, whose recipe pip does not install: clone the repo" in said


def test_a_folder_without_clips_is_refused_before_anything_is_loaded(tmp_path, capsys):
    assert main(["train", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert "no clip to learn from" in capsys.readouterr().err


def test_help_comes_without_loading_torch():
    program = f"""
import sys
sys.path.insert(0, {str(ROOT / "tests")!r})
import conftest
conftest.import_checkout()
from pyramid_video.runner.cli import main
try:
    main(["train", "--help"])
except SystemExit:
    pass
assert "torch" not in sys.modules
"""
    assert subprocess.run([sys.executable, "-c", program], stdout=subprocess.DEVNULL).returncode == 0


@pytest.mark.parametrize(("model", "whole"), [(MODEL, True), (BUNDLED_FLOW, False), (None, False), ("nope", True)])
def test_a_lora_for_a_pyramid_learns_from_whole_clips(models, clips, tmp_path, model, whole):
    """The workflow shows the flow a part of each; a file that is not there gets the sentence of its loader."""
    use_host(StandaloneHost(models, clips.parent, tmp_path, "cpu", silent=True))
    try:
        workflow = read_workflow(locate("workflows/api/train_lora.json"), node_specs())
        adapt(workflow, node_specs(), clips, parse(clips, *(["--model", model] if model else [])))
    finally:
        use_host(None)
    (trainer,) = [n["inputs"] for n in workflow.prompt.values() if n["class_type"] == "PyramidVideoTrainLoRA"]
    assert (trainer["token_share"] == 1) == (trainer["time_shift"] == 0) == whole
