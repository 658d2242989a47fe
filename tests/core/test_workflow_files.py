"""Every form of a workflow file gives the same graph, and changes reach both of its forms."""

from __future__ import annotations

import copy
import json
from fractions import Fraction

import pytest
import torch
from fake_nodes import good_prompt, specs
from pyramid_video.host.standalone.video import Clip, read_metadata, write_mp4
from pyramid_video.runner.errors import RunnerError, WorkflowError
from pyramid_video.runner.workflow import locate, read_workflow
from ui_files import MAKER, graph_of, read, ui_graph, ui_node, with_converted_text


def good_ui():
    """The same graph as `good_prompt`."""
    return ui_graph(
        ui_node(1, "Maker", MAKER, title="Make a"),
        ui_node(2, "Maker", ["b", 7, "fixed", 0.25, "fast", False], title="Make b"),
        ui_node(3, "Changer", ["!"], {"thing": 1, "other": 2}),
        ui_node(4, "Keep", [], {"thing": 3}, title="The end"),
        ui_node(5, "MarkdownNote", ["Read me"]),
        links=[(1, 1, 0, 3, 0), (2, 2, 0, 3, 1), (3, 3, 0, 4, 0)],
    )


def test_all_forms_give_the_same_graph():
    expected = graph_of(good_prompt())
    assert graph_of(read(good_prompt()).prompt) == expected
    assert graph_of(read({"prompt": good_prompt(), "client_id": "x"}).prompt) == expected
    assert graph_of(read(good_ui()).prompt) == expected


@pytest.mark.parametrize("node", [5, None, [], {}, "Changer"])
def test_a_node_that_is_none_is_said_to_be_damaged(node):
    with pytest.raises(WorkflowError) as caught:
        read({**good_prompt(), "3": node, "note": "a comment is nothing to run", "linked": node})
    (problem,) = caught.value.problems
    assert problem == f"node 3 is damaged: it is {node!r}, and a node is an object with class_type and inputs"
    prompt = {**good_prompt(), "linked": node}
    assert read(prompt).prompt == good_prompt()
    prompt["3"] = {"class_type": "Changer", "inputs": {"thing": ["linked", 0]}}
    with pytest.raises(WorkflowError, match="node linked is damaged"):
        read(prompt)


def test_titles_survive():
    prompt = read(good_ui()).prompt
    assert [node["_meta"]["title"] for node in prompt.values()] == ["Make a", "Make b", "Changer", "The end"]


def test_links_with_numbers_for_ids_are_understood():
    prompt = good_prompt()
    prompt["3"]["inputs"]["thing"] = [1, 0]
    assert read(prompt).prompt["3"]["inputs"]["thing"] == ["1", 0]


def test_reading_changes_nothing_of_what_was_read():
    data = good_ui()
    before = copy.deepcopy(data)
    read(data).set_value("1", "text", "changed")
    assert data == before


def test_what_the_editor_leaves_in_saved_files_is_no_input():
    prompt = good_prompt()
    prompt["4"]["inputs"] |= {"upload": "image", "video-preview": "", "audioUI": ""}
    assert read(prompt).prompt == good_prompt()


def test_seed_control_may_be_missing():
    ui = good_ui()
    ui["nodes"][0]["widgets_values"] = ["a", 7, 0.25, "fast", False]
    assert graph_of(read(ui).prompt) == graph_of(good_prompt())


def test_values_newer_than_the_file_take_their_default():
    ui = good_ui()
    ui["nodes"][0]["widgets_values"] = ["a", 7, "fixed"]
    inputs = read(ui).prompt["1"]["inputs"]
    assert inputs == {"text": "a", "seed": 7, "strength": 0.5, "mode": "slow", "on": True}


def test_values_stored_by_name():
    ui = good_ui()
    ui["nodes"][2]["widgets_values"] = {"suffix": "?", "preview": {"hidden": True}}
    assert read(ui).prompt["3"]["inputs"]["suffix"] == "?"
    assert "preview" not in read(ui).prompt["3"]["inputs"]


def test_reroutes_are_followed():
    ui = ui_graph(
        ui_node(1, "Maker", MAKER),
        ui_node(2, "Reroute", [], {"thing": 1}),
        ui_node(3, "Reroute", [], {"thing": 2}),
        ui_node(4, "Keep", [], {"thing": 3}),
        links=[(1, 1, 0, 2, 0), (2, 2, 0, 3, 0), (3, 3, 0, 4, 0)],
    )
    prompt = read(ui).prompt
    assert list(prompt) == ["1", "4"] and prompt["4"]["inputs"] == {"thing": ["1", 0]}


def test_reroutes_in_a_circle_are_told():
    ui = ui_graph(
        ui_node(2, "Reroute", [], {"thing": 2}),
        ui_node(3, "Reroute", [], {"thing": 1}),
        ui_node(4, "Keep", [], {"thing": 3}),
        links=[(1, 2, 0, 3, 0), (2, 3, 0, 2, 0), (3, 3, 0, 4, 0)],
    )
    with pytest.raises(WorkflowError, match=r"node 4 \(Keep\), input 'thing' hangs on reroutes that form a cycle"):
        read(ui)


def test_a_bypassed_node_passes_on_what_it_gets():
    ui = good_ui()
    ui["nodes"][2]["mode"] = 4
    prompt = read(ui).prompt
    assert "3" not in prompt and prompt["4"]["inputs"] == {"thing": ["1", 0]}


def test_a_bypassed_node_without_a_fitting_input_passes_nothing():
    ui = good_ui()
    ui["nodes"][0]["mode"] = 4
    assert "thing" not in read(ui).prompt["3"]["inputs"]


def test_a_muted_node_is_gone_with_its_links():
    ui = good_ui()
    ui["nodes"][1]["mode"] = 2
    prompt = read(ui).prompt
    assert "2" not in prompt and prompt["3"]["inputs"] == {"thing": ["1", 0], "suffix": "!"}


def test_a_primitive_node_gives_its_value():
    prompt = read(with_converted_text("PrimitiveNode")).prompt
    assert "9" not in prompt and prompt["1"]["inputs"]["text"] == "from outside"
    assert prompt["1"]["inputs"]["seed"] == 7


def test_a_value_turned_into_an_input_is_a_link():
    prompt = read(with_converted_text("PrimitiveText")).prompt
    assert prompt["1"]["inputs"]["text"] == ["9", 0] and prompt["1"]["inputs"]["mode"] == "fast"


def with_subgraph(linked: bool):
    """Node 7 stands for a subgraph of a Changer, whose suffix is shown on the node."""
    inner = {
        "id": "5f0c",
        "name": "Twice",
        "inputs": [{"name": "thing", "type": "THING"}, {"name": "suffix", "type": "STRING"}],
        "outputs": [{"name": "THING", "type": "THING"}],
        "nodes": [ui_node(3, "Changer", ["inner"], {"thing": 1, "suffix": 2})],
        "links": [
            {"id": 1, "origin_id": -10, "origin_slot": 0, "target_id": 3, "target_slot": 0, "type": "THING"},
            {"id": 2, "origin_id": -10, "origin_slot": 1, "target_id": 3, "target_slot": 1, "type": "STRING"},
            {"id": 3, "origin_id": 3, "origin_slot": 0, "target_id": -20, "target_slot": 0, "type": "THING"},
        ],
    }
    holder = ui_node(7, "5f0c", ["outer"], {"thing": 1, "suffix": 5 if linked else None})
    ui = ui_graph(
        ui_node(1, "Maker", MAKER),
        ui_node(9, "PrimitiveText", ["linked"]),
        holder,
        ui_node(4, "Keep", [], {"thing": 2}),
        links=[(1, 1, 0, 7, 0), (2, 7, 0, 4, 0), *([(5, 9, 0, 7, 1)] if linked else [])],
    )
    return ui | {"definitions": {"subgraphs": [inner]}}


def test_a_subgraph_is_laid_open():
    prompt = read(with_subgraph(linked=False)).prompt
    assert prompt["7:3"]["inputs"] == {"thing": ["1", 0], "suffix": "outer"}
    assert prompt["4"]["inputs"] == {"thing": ["7:3", 0]}
    assert read(with_subgraph(linked=True)).prompt["7:3"]["inputs"]["suffix"] == ["9", 0]


def test_a_subgraph_inside_itself_is_told():
    ui = with_subgraph(linked=False)
    ui["definitions"]["subgraphs"][0]["nodes"].append(ui_node(8, "5f0c", []))
    with pytest.raises(WorkflowError, match="'Twice' contains itself"):
        read(ui)


def doubling_subgraphs(depth: int) -> dict:
    """Subgraphs that each use the next one twice, the last of them two Makers."""
    kinds = [f"graph {i}" for i in range(depth)]
    subgraphs = [
        {"id": kind, "nodes": [ui_node(1, inner, MAKER), ui_node(2, inner, MAKER)], "links": []}
        for kind, inner in zip(kinds, [*kinds[1:], "Maker"], strict=True)
    ]
    return ui_graph(ui_node(1, kinds[0]), links=[]) | {"definitions": {"subgraphs": subgraphs}}


def test_subgraphs_that_double_end_at_a_limit():
    assert len(read(doubling_subgraphs(11)).prompt) == 2**11
    with pytest.raises(WorkflowError, match="more than 10000 nodes when all its subgraphs"):
        read(doubling_subgraphs(30))


def reroutes(count: int) -> dict:
    nodes = [ui_node(i, "Reroute", [], {"thing": i}) for i in range(1, count + 1)]
    return ui_graph(
        ui_node(0, "Maker", MAKER),
        *nodes,
        ui_node(count + 1, "Keep", [], {"thing": count + 1}),
        links=[(i, i - 1, 0, i, 0) for i in range(1, count + 2)],
    )


def nested(depth: int) -> list:
    value: list = []
    for _ in range(depth):
        value = [value]
    return value


def test_a_hundred_reroutes_in_a_row_are_no_harm():
    assert read(reroutes(100)).prompt["101"]["inputs"] == {"thing": ["0", 0]}


@pytest.mark.parametrize(
    "data",
    [
        reroutes(2000),
        {"1": {"class_type": "Maker", "inputs": {"text": nested(900)}}},
        good_ui() | {"extra": nested(900)},
    ],
    ids=["reroutes", "API values", "UI values"],
)
def test_what_is_nested_too_deeply_is_told(data):
    with pytest.raises(WorkflowError, match="test.json is nested too deeply"):
        read(data)


def test_a_value_of_a_subgraph_changes_where_it_is_shown():
    workflow = read(with_subgraph(linked=False))
    workflow.set_value("7:3", "suffix", "new")
    assert graph_of(read(workflow.ui).prompt) == graph_of(workflow.prompt)
    assert workflow.ui["nodes"][2]["widgets_values"] == ["new"]


def test_a_link_that_is_not_in_the_file_is_told():
    ui = good_ui()
    del ui["links"][0]
    with pytest.raises(
        WorkflowError, match=r"node 3 \(Changer\), input 'thing' names link 1, which is not in the file"
    ):
        read(ui)


def test_a_link_from_a_node_that_is_not_in_the_file_is_told():
    ui = good_ui()
    del ui["nodes"][0]
    with pytest.raises(WorkflowError, match=r"node 3 \(Changer\), input 'thing' is linked to node 1, which is not in"):
        read(ui)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({}, "is not a workflow"),
        ([], "is not a workflow"),
        (3, "is not a workflow"),
        ({"a": 1}, "is not a workflow"),
        ({"1": {"class_type": "Maker", "inputs": []}}, "inputs of node 1 are not"),
        ({"1": {"class_type": "Maker"}, "2": {"inputs": {}}}, "node 2 has no class_type"),
        ({"1": {"class_type": ["Maker"]}}, "the class_type of node 1 is not a name"),
        ({"1": {"class_type": None}}, "the class_type of node 1 is not a name"),
        ({"1": {"class_type": "Maker", "_meta": ["x"]}}, "the _meta of node 1 is not a set of names and values"),
        ({"1": {"class_type": "Maker", "_meta": {"title": ["x"]}}}, "the title of node 1 is not text"),
        ({"nodes": [{"id": 1, "type": "Maker", "title": {"a": 1}}]}, "is damaged"),
        ({"nodes": [{"id": 1, "type": ["Maker"]}]}, "is damaged"),
        ({"nodes": [{"id": 1, "type": 5, "title": "five"}]}, "is damaged"),
        ({"nodes": [{"id": 1}]}, "is damaged"),
        ({"nodes": [], "links": [[1]]}, "is damaged"),
        ({"nodes": ["x"]}, "is damaged"),
        ({"nodes": [{"id": 1, "type": "Maker", "widgets_values": "abc"}]}, "is damaged"),
        ({"nodes": [{"id": 1, "type": "Maker", "inputs": [{"name": 1, "link": None}]}]}, "is damaged"),
        ({"nodes": [{"id": 1, "type": "Maker", "inputs": [{"name": "text", "widget": {"name": 1}}]}]}, "is damaged"),
        ({"nodes": [], "definitions": {"subgraphs": [1]}}, "is damaged"),
    ],
)
def test_what_is_no_workflow_is_told(data, words):
    with pytest.raises(WorkflowError, match=words):
        read(data)


def test_a_byte_order_mark_is_no_harm(tmp_path):
    path = tmp_path / "windows.json"
    path.write_text(json.dumps(good_prompt()), "utf-8-sig")
    assert graph_of(read_workflow(path, specs()).prompt) == graph_of(good_prompt())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "not valid JSON"),
        (b"\xff\xfe\x00", "not text in UTF-8; a workflow is"),
        (b"", "not valid"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"prompt":' * 800 + b"{}" + b"}" * 800, "broken.json is"),
    ],
    ids=["half", "bytes", "empty", "lists in lists", "prompts in prompts"],
)
def test_broken_files_are_told(tmp_path, content, words):
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    with pytest.raises(WorkflowError, match=words):
        read_workflow(path, specs())


def test_a_missing_file_names_the_nearest_bundled_one():
    with pytest.raises(
        RunnerError, match=r"there is no file text_to_vide.json; the nearest is 'workflows/text_to_video"
    ):
        locate("text_to_vide.json")
    with pytest.raises(RunnerError, match=r"there is no file somewhere/workflows/nothing.json$"):
        locate("somewhere/workflows/nothing.json")  # a path that all have in common brings no two names near


@pytest.mark.parametrize(
    "name", ["text_to_video.json", "workflows/text_to_video.json", "workflows/api/text_to_video.json"]
)
def test_bundled_workflows_are_found_from_anywhere(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert locate(name).is_file()


def video(path, **metadata):
    clip = Clip(torch.zeros(2, 16, 16, 3), Fraction(8))
    write_mp4(path, clip, {key: json.dumps(value) for key, value in metadata.items()})
    return path


def test_a_video_gives_back_its_graph(tmp_path):
    path = video(tmp_path / "both.mp4", prompt=good_prompt(), workflow=good_ui())
    workflow = read_workflow(path, specs())
    assert workflow.prompt == read(good_prompt()).prompt
    assert workflow.ui == good_ui()
    only_ui = read_workflow(video(tmp_path / "ui.mp4", workflow=good_ui()), specs())
    assert graph_of(only_ui.prompt) == graph_of(good_prompt())


def test_the_prompt_of_a_video_is_what_ran(tmp_path):
    changed = good_prompt()
    changed["1"]["inputs"]["text"] = "what ran"
    workflow = read_workflow(video(tmp_path / "a.mp4", prompt=changed, workflow=good_ui()), specs())
    assert workflow.prompt["1"]["inputs"]["text"] == "what ran"


def test_metadata_of_any_length_and_script_survives(tmp_path):
    text = "a tiger \U0001f42f = {x}; #\\ \n" * 5000
    path = video(tmp_path / "long.mp4", prompt={"text": text})
    assert json.loads(read_metadata(path)["prompt"]) == {"text": text}


def test_a_video_without_a_graph_is_told(tmp_path):
    with pytest.raises(WorkflowError, match="carries no workflow"):
        read_workflow(video(tmp_path / "none.mp4"), specs())
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(ValueError, match="cannot be read as a video"):
        read_workflow(tmp_path / "text.mp4", specs())


def test_a_graph_in_a_video_that_is_nested_too_deeply_is_none(tmp_path):
    path = tmp_path / "deep.mp4"
    write_mp4(path, Clip(torch.zeros(2, 16, 16, 3), Fraction(8)), {"prompt": "[" * 100_000})
    with pytest.raises(WorkflowError, match="carries no workflow"):
        read_workflow(path, specs())
