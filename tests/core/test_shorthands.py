"""The options for what is changed most, and `show`, which says what can be set."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from pyramid_video.host import use_host
from pyramid_video.host.standalone.host import StandaloneHost
from pyramid_video.runner.cli import main, make_parser
from pyramid_video.runner.errors import RunnerError, WorkflowError
from pyramid_video.runner.jobs import Job
from pyramid_video.runner.opening import change
from pyramid_video.runner.overrides import find_input, set_input
from pyramid_video.runner.registry import node_classes, node_specs
from pyramid_video.runner.shorthands import set_seconds, set_size, set_steps, use_loras
from pyramid_video.runner.showing import described, naming
from pyramid_video.runner.specs import spec_of_info
from pyramid_video.runner.validate import range_faults, validate
from pyramid_video.runner.workflow import Workflow, is_link, read_workflow

FOLDER = Path(__file__).resolve().parents[2] / "workflows"
BUNDLED = sorted(path.stem for path in FOLDER.glob("*.json"))


@pytest.fixture(autouse=True)
def host(tmp_path):
    (tmp_path / "loras").mkdir()
    (tmp_path / "loras/tiger.safetensors").touch()
    use_host(StandaloneHost(tmp_path, silent=True))
    yield
    use_host(None)


def bundled(name: str) -> Workflow:
    return read_workflow(FOLDER / f"{name}.json", node_specs())


def inputs(workflow: Workflow, class_type: str) -> dict:
    (node,) = [node for node in workflow.prompt.values() if node["class_type"] == class_type]
    return node["inputs"]


@pytest.mark.parametrize("name", BUNDLED)
def test_every_value_of_every_workflow_has_a_name_that_sets_it(name):
    workflow, specs = bundled(name), node_specs()
    for block in described(workflow, specs)["blocks"]:
        for entry in block["inputs"]:
            if "set" in entry:
                called, _, input_name = entry["set"].rpartition(".")
                assert find_input(workflow, specs, called, input_name)[0] == block["id"]
                assert not called.isdigit(), f"{entry['set']} of {name} needs a title"


def test_seconds_size_and_steps_reach_the_blocks_that_draw():
    workflow, specs = bundled("text_to_video"), node_specs()
    set_seconds(workflow, specs, 4)
    set_size(workflow, specs, "128x96")
    set_steps(workflow, specs, 8)
    latent, stages = inputs(workflow, "PyramidVideoEmptyLatent"), inputs(workflow, "PyramidVideoStages")
    assert (latent["seconds"], latent["length_unit"], latent["width"], latent["height"]) == (4, "seconds", 128, 96)
    assert (stages["first_steps"], stages["video_steps"]) == (8, 4)
    assert read_again(workflow).prompt == workflow.prompt


def read_again(workflow: Workflow) -> Workflow:
    from pyramid_video.runner.workflow import from_json

    return from_json(workflow.ui, node_specs(), "again")


def test_steps_of_a_training_are_not_those_of_its_sampler():
    workflow, specs = bundled("train_lora"), node_specs()
    before = inputs(workflow, "PyramidVideoTrainingSettings")["steps"]
    set_steps(workflow, specs, 3)
    assert inputs(workflow, "PyramidVideoFlowSampler")["steps"] == 3
    assert inputs(workflow, "PyramidVideoTrainingSettings")["steps"] == before


@pytest.mark.parametrize("size", ["64", "64x", "axb", "64x64x64", "--1x5", ""])
def test_a_size_that_is_none_is_told(size):
    with pytest.raises(RunnerError, match="--size takes WIDTHxHEIGHT such as 128x128"):
        set_size(bundled("text_to_video"), node_specs(), size)


@pytest.mark.parametrize(("size", "bound"), [("1000000x64", "the most is 4096"), ("-5x64", "the least is 16")])
def test_a_size_out_of_range_is_told_the_range(size, bound):
    workflow = bundled("text_to_video")
    set_size(workflow, node_specs(), size)
    with pytest.raises(WorkflowError, match=f"input 'width', is {size[:-3]}; {bound}"):
        validate(workflow.prompt, node_classes(), node_specs())


def test_an_input_that_comes_over_a_wire_in_all_nodes_but_one_needs_no_name():
    workflow = bundled("text_to_video")
    set_input(workflow, node_specs(), "fps=12")
    assert inputs(workflow, "PyramidVideoEmptyLatent")["fps"] == 12
    assert is_link(inputs(workflow, "CreateVideo")["fps"])


def changed(*words: str) -> Workflow:
    workflow = bundled("text_to_video")
    change(workflow, node_specs(), make_parser().parse_args(["run", "text_to_video.json", *words]))
    return workflow


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--seconds 1 --set length_unit=frames", "--seconds has no effect: length_unit of node 8 .* is 'frames'"),
        ("--set frames=9", "--set frames has no effect: length_unit of node 8 .* is 'seconds'; for frames it has to"),
        ("--seed 1 --set seed=2", "--seed has no effect: --set seed sets the same"),
        ("--size 64x64 --set width=80 --set height=80", "--size has .*: --set width and --set height set the same"),
    ],
)
def test_options_that_undo_each_other_are_refused(words, sentence):
    with pytest.raises(RunnerError, match=sentence):
        changed(*words.split())


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"prompt": "a pig", "Prompt.text": "a cow"}, "'prompt' has no effect: 'Prompt.text' sets the same"),
        ({"8.seconds": 2, "8.length_unit": "frames"}, "'8.seconds' has no effect: length_unit of node 8 .*'frames'"),
    ],
)
def test_a_line_that_undoes_itself_is_refused(settings, sentence):
    with pytest.raises(RunnerError, match=sentence):
        Job(1, settings).changed(bundled("text_to_video"), node_specs())


def test_options_that_add_to_each_other_are_not():
    stages = inputs(changed("--steps", "8", "--set", "first_steps=9"), "PyramidVideoStages")
    assert (stages["first_steps"], stages["video_steps"]) == (9, 4)
    again = changed("--seconds", "1", "--set", "seed=2", "--set", "9.seed=3")
    assert inputs(again, "PyramidVideoSampler")["seed"] == 3, "of two --set the later one wins"
    assert inputs(changed("--set", "frames=9", "--set", "length_unit=frames"), "PyramidVideoEmptyLatent")["frames"] == 9


def test_an_option_without_a_block_is_told():
    with pytest.raises(RunnerError, match="--seconds: no block of this workflow has it"):
        set_seconds(bundled("train_vae"), node_specs(), 2)


def test_an_option_whose_block_is_muted_is_told(tmp_path, capsys):
    ui = json.loads((FOLDER / "text_to_video.json").read_text("utf-8"))
    next(node for node in ui["nodes"] if node["type"] == "PyramidVideoEmptyLatent")["mode"] = 2
    (tmp_path / "muted.json").write_text(json.dumps(ui))
    with pytest.raises(RunnerError, match=r"--size: no block .*; node 8 \(Empty video latent\) is muted or bypassed"):
        set_size(read_workflow(tmp_path / "muted.json", node_specs()), node_specs(), "64x64")
    assert main(["show", str(tmp_path / "muted.json")]) == 0
    assert "Muted or bypassed, so that they do not run: node 8 (Empty video latent)\n" in capsys.readouterr().out


def test_a_lora_is_put_behind_the_model():
    workflow, specs = bundled("text_to_video"), node_specs()
    use_loras(workflow, specs, ["tiger:0.5", "tiger.safetensors"])
    loaders = [i for i, node in workflow.prompt.items() if node["class_type"] == "LoraLoaderModelOnly"]
    first, second = (workflow.prompt[i]["inputs"] for i in loaders)
    assert (first["lora_name"], first["strength_model"], second["strength_model"]) == ("tiger.safetensors", 0.5, 1.0)
    ends = [node["inputs"]["model"] for node in workflow.prompt.values() if is_link(node["inputs"].get("model"))]
    assert sorted(ends) == sorted([["1", 0], [loaders[0], 0], [loaders[1], 0]])  # a chain that ends in the sampler


def test_a_strength_that_is_no_number_is_said_where_the_lora_is_known():
    with pytest.raises(RunnerError, match=r"--lora tiger:strong: 'strong' is not a number.*tiger:0.8"):
        use_loras(bundled("text_to_video"), node_specs(), ["tiger:strong"])


def test_a_lora_where_it_could_go_to_several_models_is_told():
    with pytest.raises(RunnerError, match="opens 4 models"):
        use_loras(bundled("compare_families"), node_specs(), ["tiger"])


@pytest.mark.parametrize("target", ["seconds", "Empty video latent.seconds", "empty VIDEO latent.seconds", "8.seconds"])
def test_an_input_is_named_by_title_type_id_or_alone(target):
    workflow = bundled("text_to_video")
    set_input(workflow, node_specs(), f"{target}=3")
    set_input(workflow, node_specs(), f"PyramidVideoEmptyLatent.fps={target.count('.') + 5}")
    latent = inputs(workflow, "PyramidVideoEmptyLatent")
    assert (latent["seconds"], latent["fps"]) == (3, target.count(".") + 5)


def test_an_input_of_several_nodes_names_them():
    with pytest.raises(RunnerError, match=r"'text' is an input of 2 nodes.*: 4 \(Prompt\), 5 \(Negative prompt\)"):
        set_input(bundled("text_to_video"), node_specs(), "text=a")


def test_show_prints_what_can_be_set(capsys):
    assert main(["show", str(FOLDER / "text_to_video.json")]) == 0
    out = capsys.readouterr().out
    assert "    Prompt.text = a pig moving left on a blue background   (text)\n" in out
    assert "--prompt sets Prompt.text" in out and "model  <-  node 1 (Load video model)" in out
    assert main(["show", str(FOLDER / "text_to_video.json"), "--json"]) == 0
    blocks = json.loads(capsys.readouterr().out)["blocks"]
    assert len(blocks) == 12
    (unit,) = [entry for block in blocks for entry in block["inputs"] if entry["name"] == "length_unit"]
    assert unit["choices"] == ["seconds", "frames"]


def test_show_knows_what_it_does_not_know(capsys, tmp_path):
    (tmp_path / "a.json").write_text(
        json.dumps({"7": {"class_type": "Strange", "inputs": {"a": [1, 2, 3], "b": ["x", 0]}}})
    )
    assert main(["show", str(tmp_path / "a.json")]) == 0
    out = capsys.readouterr().out
    assert "Strange  [Strange, id 7]  (not known here)" in out and "Strange.a = [1, 2, 3]" in out


def test_the_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0 and re.fullmatch(r"pyramid-video \d+\.\d+\.\d+\n", capsys.readouterr().out)


def test_what_is_unknown_is_followed_by_what_there_is():
    workflow, specs = bundled("text_to_video"), node_specs()
    with pytest.raises(RunnerError, match=r"no input 'foo'; there are 'add_.*more \(`pyramid-video show` lists them\)"):
        set_input(workflow, specs, "foo=1")
    with pytest.raises(RunnerError, match=r"no input 'foo'; there are 'codec', 'filename_prefix', 'format', 'video'$"):
        set_input(workflow, specs, "SaveVideo.foo=1")
    many = spec_of_info("Many", {"input": {"required": {"model": [[f"model {i}" for i in range(10)]]}}}, True)
    (fault,) = range_faults(many.inputs["model"], "zebra")
    assert "one of its 10 choices; there are 'model 0', " in fault
    assert fault.endswith("and 2 more (`pyramid-video show --json` lists them)")


def test_the_shortest_name_is_the_one_that_is_shown():
    workflow, specs = bundled("text_to_video"), node_specs()
    assert naming(workflow, specs)("4", "text") == "Prompt.text"
