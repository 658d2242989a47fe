"""A graph means what the editor makes of it: the same prompts as real editors send, old and new ones."""

from __future__ import annotations

import copy
import json
from datetime import datetime
from functools import cache
from pathlib import Path

import pytest
from pyramid_video.runner.registry import node_specs
from pyramid_video.runner.specs import spec_of_info
from pyramid_video.runner.texts import choose_texts, fill_names
from pyramid_video.runner.workflow import from_json

FOLDER = Path(__file__).parent / "editor"
CASES = sorted(path.name.removesuffix(".ui.json") for path in FOLDER.glob("*_*.ui.json"))
# Inputs that our blocks got after the recording.
YOUNGER = {"PyramidVideoGuidance": {"guided_stages": 0, "coarse_guidance": 1.0}}
BUTTONS = ("upload", "audioUI")  # old editors send the value of a button too
RECORDED = datetime(2026, 11, 28, 11, 51)  # when the editor filled in the dates of `texts`


@cache
def specs_of(case: str) -> dict:
    age = "old" if case.startswith("old_") else "new"
    info = json.loads((FOLDER / f"{age}.object_info.json").read_text())
    return {**node_specs(), **{name: spec_of_info(name, entry, False) for name, entry in info.items()}}


def ui_of(case: str) -> dict:
    return json.loads((FOLDER / f"{case}.ui.json").read_text())


def sent_by_editor(case: str) -> dict:
    prompt = json.loads((FOLDER / f"{case}.expected.api.json").read_text())
    inputs = {node_id: YOUNGER.get(node["class_type"], {}) | node["inputs"] for node_id, node in prompt.items()}
    return {
        node_id: (prompt[node_id]["class_type"], {name: value for name, value in each.items() if name not in BUTTONS})
        for node_id, each in inputs.items()
    }


def nodes_of(prompt: dict) -> dict:
    return {node_id: (node["class_type"], node["inputs"]) for node_id, node in prompt.items()}


@pytest.mark.parametrize("case", CASES)
def test_the_same_prompt_as_the_editor(case):
    assert nodes_of(from_json(ui_of(case), specs_of(case), case).prompt) == sent_by_editor(case)


@pytest.mark.parametrize("case", ["mid_proxies", "mid_pmixed", "mid_nested", "new_subgraph_two_instances"])
def test_a_value_is_changed_where_the_editor_shows_it(case):
    workflow = from_json(ui_of(case), specs_of(case), case)
    for node_id, name in workflow.places:
        if name == "text":
            changed = copy.deepcopy(workflow)
            changed.set_value(node_id, name, "another text")
            again = from_json(changed.ui, specs_of(case), case)
            assert again.prompt[node_id]["inputs"]["text"] == "another text"
            assert again.prompt == changed.prompt


def test_a_value_that_two_uses_of_a_subgraph_share_is_changed_in_one_only():
    workflow = from_json(ui_of("new_nested"), specs_of("new_nested"), "nested")
    node_id, other = (i for i, node in workflow.prompt.items() if node["class_type"] == "PyramidVideoEncodePrompt")
    workflow.set_value(node_id, "add_quality_words", False)
    assert workflow.prompt[other]["inputs"]["add_quality_words"] is True
    assert workflow.ui is None  # it has one place for both


@pytest.mark.parametrize("without", [("widgets_values",), ("widgets_values_named",), ()])
def test_widgets_are_read_by_their_names_as_by_their_order(without):
    ui = ui_of("new_core_widgets")
    for node in ui["nodes"]:
        for key in without:
            node.pop(key, None)
    prompt = from_json(ui, specs_of("new_core_widgets"), "widgets").prompt
    assert nodes_of(prompt) == sent_by_editor("new_core_widgets")


def test_widgets_are_read_when_the_values_for_the_editor_are_left_out():
    ui = ui_of("new_core_widgets")
    for node in ui["nodes"]:
        named = node.pop("widgets_values_named", {})
        node["widgets_values"] = [value for name, value in named.items() if not name.startswith("control_")]
    prompt = from_json(ui, specs_of("new_core_widgets"), "widgets").prompt
    assert nodes_of(prompt) == sent_by_editor("new_core_widgets")


def test_choices_comments_and_names_of_files():
    """In the recorded graph all choices of a text are the same, so that chance has no say."""
    workflow = from_json(ui_of("texts"), specs_of("texts"), "texts")
    choose_texts(workflow, specs_of("texts"))
    fill_names(workflow, RECORDED)
    assert nodes_of(workflow.prompt) == sent_by_editor("texts")


def test_an_input_of_a_subgraph_without_a_value_has_that_of_the_widget_it_leads_to():
    """As the editor does it for all that hang on the input, sockets without a widget too."""
    widget = {"name": "width", "type": "INT", "widget": {"name": "width"}, "link": 1}
    graph = {
        "id": "g",
        "inputs": [{"name": "width", "type": "INT"}],
        "nodes": [
            {"id": 1, "type": "Maker", "inputs": [widget], "widgets_values": [1024]},
            {"id": 2, "type": "Shower", "inputs": [{"name": "source", "type": "*", "link": 2}]},
        ],
        "links": [
            {"id": link, "origin_id": -10, "origin_slot": 0, "target_id": link, "target_slot": 0} for link in (1, 2)
        ],
    }
    holders = [{"id": 3, "type": "g", "inputs": []}, {"id": 4, "type": "g", "inputs": [], "widgets_values": [64]}]
    prompt = from_json({"nodes": holders, "definitions": {"subgraphs": [graph]}}, {}, "test").prompt
    found = {node_id: list(node["inputs"].values()) for node_id, node in prompt.items()}
    assert found == {"3:1": [1024], "3:2": [1024], "4:1": [64], "4:2": [64]}
