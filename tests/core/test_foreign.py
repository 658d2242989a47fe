"""Graphs of other packs, newer versions and other systems."""

from __future__ import annotations

import json

import pytest
from pyramid_video.host import use_host
from pyramid_video.host.standalone.host import StandaloneHost
from pyramid_video.nodes import NODE_CLASS_MAPPINGS
from pyramid_video.nodes.training_files import leave_run, run_folder
from pyramid_video.runner.cli import make_parser
from pyramid_video.runner.errors import WorkflowError
from pyramid_video.runner.foreign import fit_in, pass_over_newer
from pyramid_video.runner.opening import change
from pyramid_video.runner.registry import node_classes, node_specs
from pyramid_video.runner.specs import spec_of_info
from pyramid_video.runner.validate import check_types, validate
from pyramid_video.runner.workflow import PACKAGE, Workflow, from_json, read_workflow

WORKFLOWS = PACKAGE / "workflows"


@pytest.fixture(autouse=True)
def host(tmp_path):
    for folder in ("models/diffusion_models/small", "input/sub", "out"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "models/diffusion_models/small/mine.safetensors").touch()
    use_host(StandaloneHost(tmp_path / "models", tmp_path / "input", tmp_path / "out", silent=True))
    yield tmp_path
    use_host(None)


def told_of(class_type: str, **meta: str) -> str:
    prompt = {"5": {"class_type": class_type, "inputs": {}, "_meta": meta}}
    with pytest.raises(WorkflowError) as caught:
        check_types(prompt, node_specs(), here=True)
    return str(caught.value)


def test_a_misspelt_type_names_the_one_that_is_meant():
    assert told_of("SaveVidoe").endswith("; the nearest is 'SaveVideo'")
    assert told_of("savevideo").endswith("; the nearest is 'SaveVideo'")


@pytest.mark.parametrize("class_type", ["Bookmark (abc)", "IPAdapterApply", "easy fullLoader", "日本"])
def test_nothing_is_near_where_nothing_is_near(class_type):
    assert "nearest" not in told_of(class_type)


def test_a_node_of_another_pack_is_said_to_be_of_that_pack():
    ui = {
        "nodes": [
            {
                "id": 5,
                "type": "ShowText|other",
                "inputs": [{"name": "text", "type": "STRING", "link": 1}],
                "properties": {"cnr_id": "comfyui-other"},
            },
            {"id": 6, "type": "PrimitiveString", "widgets_values": ["a"], "outputs": [{"type": "STRING"}]},
        ],
        "links": [[1, 6, 0, 5, 0, "STRING"]],
    }
    with pytest.raises(WorkflowError, match="of the pack 'comfyui-other'; --server runs it"):
        check_types(from_json(ui, node_specs(), "a.json").prompt, node_specs())


def test_of_a_much_used_saver_it_is_said_what_to_take_instead():
    assert "in its place use Create Video and Save Video" in told_of("VHS_VideoCombine")


@pytest.mark.parametrize("class_type", ["UNETLoader", "KSamplerAdvanced", "IPAdapterApply"])
def test_a_node_that_only_comfyui_has_is_said_to_need_it(class_type):
    words = f"is of the type '{class_type}', which needs ComfyUI; open the workflow there or use --server"
    assert words in told_of(class_type) and words in told_of(class_type, pack="comfy-core")
    with pytest.raises(WorkflowError, match=f"of the unknown type '{class_type}'"):  # of a ComfyUI that lacks it
        check_types({"5": {"class_type": class_type, "inputs": {}}}, node_specs())


@pytest.mark.parametrize("path", sorted(WORKFLOWS.glob("*.json")), ids=lambda path: path.stem)
def test_every_bundled_workflow_runs_here_or_says_that_it_needs_comfyui(path):
    try:
        check_types(read_workflow(path, node_specs()).prompt, node_specs(), here=True)
    except WorkflowError as error:
        assert all("needs ComfyUI" in problem for problem in error.problems)


@pytest.mark.parametrize(
    ("off", "words"),
    [
        ("12", "the workflow runs nothing: all of its nodes are muted or bypassed in the editor"),
        ("2", r"the workflow writes nothing: node 2 \(Save Image\) is muted or bypassed"),
    ],
)
@pytest.mark.parametrize("mode", [2, 4])
def test_a_workflow_that_writes_nothing_because_nodes_are_off_says_so(off, words, mode):
    pictures = {"name": "images", "type": "IMAGE", "link": 1}
    nodes = [
        {"id": 1, "type": "LoadImage", "widgets_values": ["a.png"], "outputs": [{"type": "IMAGE"}]},
        {"id": 2, "type": "SaveImage", "widgets_values": ["a"], "inputs": [pictures]},
        {"id": 3, "type": "MarkdownNote", "widgets_values": ["Read me"]},
    ]
    for node in nodes:
        node["mode"] = mode if str(node["id"]) in off else 0
    workflow = from_json({"nodes": nodes, "links": [[1, 1, 0, 2, 0, "IMAGE"]]}, node_specs(), "a.json")
    with pytest.raises(WorkflowError, match=words):
        change(workflow, node_specs(), make_parser().parse_args(["run", "a.json", "--size", "64x64"]))


def everywhere(**node) -> dict:
    inputs = [{"name": "VAE", "type": "VAE", "link": 1}]
    return {
        "nodes": [
            {"id": 1, "type": "PyramidVideoLoadVAE", "widgets_values": ["a"], "outputs": [{"type": "VAE"}]},
            {"id": 2, "type": "Anything Everywhere", "inputs": inputs, **node},
        ],
        "links": [[1, 1, 0, 2, 0, "VAE"]],
    }


def test_links_made_by_a_script_are_said_to_be():
    with pytest.raises(WorkflowError, match="links that exist only while the browser queues the graph"):
        from_json(everywhere(), node_specs(), "a.json")
    assert from_json(everywhere(mode=4), node_specs(), "a.json").prompt.keys() == {"1"}


def setter_graph(get: str) -> dict:
    return {
        "nodes": [
            {"id": 1, "type": "PrimitiveInt", "widgets_values": [3], "outputs": [{"type": "INT"}]},
            {
                "id": 2,
                "type": "SetNode",
                "widgets_values": ["s"],
                "inputs": [{"name": "INT", "type": "INT", "link": 1}],
            },
            {"id": 3, "type": "GetNode", "widgets_values": [get], "outputs": [{"type": "INT"}]},
            {
                "id": 4,
                "type": "PyramidVideoSampler",
                "inputs": [{"name": "seed", "type": "INT", "widget": {"name": "seed"}, "link": 2}],
            },
            {"id": 5, "type": "Label (rgthree)", "title": "hello"},
            {"id": 6, "type": "Fancy Frame (nobody knows)", "inputs": [], "outputs": []},
        ],
        "links": [[1, 1, 0, 2, 0, "INT"], [2, 3, 0, 4, 0, "INT"]],
    }


def test_set_and_get_nodes_are_followed_and_decoration_is_left_out():
    prompt = from_json(setter_graph("s"), node_specs(), "a.json").prompt
    assert prompt.keys() == {"1", "4"} and prompt["4"]["inputs"]["seed"] == ["1", 0]


def test_a_get_node_without_its_set_node_is_told():
    with pytest.raises(WorkflowError, match="comes from a Get node of 'other', but no Set node"):
        from_json(setter_graph("other"), node_specs(), "a.json")


def test_types_that_a_server_has_are_real_nodes_whatever_their_name():
    specs = node_specs() | {"GetNode": spec_of_info("GetNode", {"input": {}, "output": ["INT"]}, False)}
    assert from_json(setter_graph("other"), specs, "a.json").prompt["4"]["inputs"]["seed"] == ["3", 0]


def video(**inputs) -> dict:
    return {"1": {"class_type": "CreateVideo", "inputs": {"images": ["0", 0], "fps": 8.0, **inputs}}}


def test_what_newer_nodes_take_is_passed_over_where_it_changes_nothing():
    prompt = video(bit_depth=8)
    assert pass_over_newer(prompt, node_specs()) == [] and prompt == video()


def test_what_is_not_done_here_is_refused():
    with pytest.raises(WorkflowError, match="input 'bit_depth', is 10; here it can only be 8"):
        pass_over_newer(video(bit_depth=10), node_specs())


def test_what_nobody_knows_yet_is_passed_over_with_a_note():
    prompt = video(sharpness=0.5)
    (note,) = pass_over_newer(prompt, node_specs())
    assert prompt == video() and "input 'sharpness', is of another version of ComfyUI" in note


@pytest.mark.parametrize("inputs", [{"audoi": "x"}, {"mystery": ["2", 0]}])
def test_misspelt_names_and_links_are_not_passed_over(inputs):
    prompt = video(**inputs)
    assert pass_over_newer(prompt, node_specs()) == [] and prompt == video(**inputs)


def test_a_server_is_asked_what_its_nodes_take():
    newer = {"input": {"required": {"images": ["IMAGE"], "fps": ["FLOAT"], "bit_depth": ["INT", {"default": 8}]}}}
    prompt = video(bit_depth=10)
    pass_over_newer(prompt, {"CreateVideo": spec_of_info("CreateVideo", newer, True)})
    assert prompt == video(bit_depth=10)


@pytest.mark.parametrize(
    ("written", "listed"),
    [("small\\mine.safetensors", "small/mine.safetensors"), ("small/mine.safetensors", "small/mine.safetensors")],
)
def test_the_path_of_a_model_may_come_from_another_system(written, listed):
    prompt = {"1": {"class_type": "PyramidVideoLoadModel", "inputs": {"model_name": written}}}
    fit_in(workflow := Workflow(prompt), node_specs())
    assert workflow.prompt["1"]["inputs"]["model_name"] == listed


def test_the_path_of_a_model_is_written_as_the_server_lists_it():
    info = {"input": {"required": {"model_name": [["small\\mine.safetensors"]]}}}
    prompt = {"1": {"class_type": "Load", "inputs": {"model_name": "small/mine.safetensors"}}}
    fit_in(Workflow(prompt), {"Load": spec_of_info("Load", info, True)})
    assert prompt["1"]["inputs"]["model_name"] == "small\\mine.safetensors"


@pytest.mark.parametrize(
    ("name", "place"),
    [("a.png", "input"), ("a.png [input]", "input"), ("b.png [output]", "out"), ("a.png[input]", "input")],
)
def test_endings_say_in_which_folder_a_file_lies(host, name, place):
    from pyramid_video.host import get_host

    (host / "input/a.png").touch()
    (host / "out/b.png").touch()
    assert get_host().input_file(name).parent == host / place


def test_a_file_in_the_temp_folder_is_said_to_be_gone():
    from pyramid_video.host import get_host

    with pytest.raises(FileNotFoundError, match="lay in the temp folder of a ComfyUI"):
        get_host().input_file("a.png [temp]")


def test_a_graph_that_only_shows_pictures_is_refused():
    prompt = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    with pytest.raises(WorkflowError, match=r"saves nothing: node 2 \(PreviewImage\) only shows pictures"):
        validate(prompt, node_classes(), node_specs())


@pytest.mark.parametrize("name", [name for name, node in NODE_CLASS_MAPPINGS.items() if hasattr(node, "IS_CHANGED")])
def test_what_says_that_a_node_changed_can_stand_in_a_file(name):
    for names in ({}, {"folder": None, "run_name": None}, {"folder": "not_there", "run_name": "../x"}):
        assert json.dumps(NODE_CLASS_MAPPINGS[name].IS_CHANGED(**names), allow_nan=False)


@pytest.mark.parametrize("block", ["PyramidVideoFolderDataset", "PyramidVideoAnimationDataset"])
def test_a_folder_of_clips_is_the_same_until_a_file_comes_goes_or_changes(host, block):
    changed = NODE_CLASS_MAPPINGS[block].IS_CHANGED
    clips = host / "input" / "clips"
    clips.mkdir()
    (clips / "link.mp4").symlink_to("nowhere")
    seen = []
    for act in (lambda: None, (clips / "a.txt").touch, lambda: (clips / "a.txt").write_text("x")):
        act()
        seen.append(changed(folder="clips", size=64))
        assert changed(folder="clips") == seen[-1]
    (clips / "a.txt").unlink()
    assert len(set(seen)) == 3 and changed(folder="clips") == seen[0]


def test_a_run_is_trained_again_only_where_its_folder_is_not_as_it_was_left(host):
    changed = NODE_CLASS_MAPPINGS["PyramidVideoTrainLoRA"].IS_CHANGED
    folder, said = run_folder("mine"), []

    def trains() -> bool:
        """Queue the graph: a host runs the block unless it says what it said before."""
        now = changed(run_name="mine")
        again = now not in said
        said.append(now)
        if again:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "state.pt").write_text("trained")
            leave_run(folder)
        return again

    def empty() -> None:
        (folder / "state.pt").unlink()
        folder.rmdir()

    assert trains() and not trains(), "what the block itself has written is nothing new"
    for do in (empty, empty, (folder / "state.pt").unlink, (folder / "losses.csv").touch):
        do()
        assert trains() and not trains(), "once for each change by others"
    assert said == sorted(said), "a value that came back would meet what a host kept under it"
