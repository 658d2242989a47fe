"""The options of the command line change a workflow in both of its forms."""

from __future__ import annotations

import pytest
from fake_nodes import CLASSES, good_prompt, specs
from pyramid_video.runner.errors import RunnerError, WorkflowError
from pyramid_video.runner.links import check_links
from pyramid_video.runner.overrides import set_input, set_seed, set_text
from pyramid_video.runner.showing import naming
from pyramid_video.runner.validate import validate
from pyramid_video.runner.workflow import Workflow
from ui_files import MAKER, graph_of, read, ui_graph, ui_node, with_converted_text


def guided(kind="api"):
    ui = ui_graph(
        ui_node(1, "Maker", MAKER, title="Wish"),
        ui_node(2, "Maker", MAKER, title="Fear"),
        ui_node(8, "Changer", ["!"], {"thing": 1}),
        ui_node(3, "Guide", [], {"positive": 2, "negative": 3}),
        ui_node(4, "Keep", [], {"thing": 4}),
        links=[(1, 1, 0, 8, 0), (2, 8, 0, 3, 0), (3, 2, 0, 3, 1), (4, 3, 0, 4, 0)],
    )
    workflow = read(ui)
    return workflow if kind == "ui" else Workflow(workflow.prompt)


@pytest.mark.parametrize("kind", ["api", "ui"])
def test_options_reach_both_forms(kind):
    workflow = guided(kind)
    set_text(workflow, specs(), "positive", "a tiger")
    set_text(workflow, specs(), "negative", "blur")
    set_seed(workflow, 42)
    set_input(workflow, specs(), "Wish.strength=1")
    set_input(workflow, specs(), "Changer.suffix=12")
    set_input(workflow, specs(), "2.mode=slow")
    wish, fear = (workflow.prompt[key]["inputs"] for key in ("1", "2"))
    assert wish == {"text": "a tiger", "seed": 42, "strength": 1, "mode": "fast", "on": False}
    assert fear == {"text": "blur", "seed": 42, "strength": 0.25, "mode": "slow", "on": False}
    assert workflow.prompt["8"]["inputs"]["suffix"] == "12"
    if kind == "ui":
        assert graph_of(read(workflow.ui).prompt) == graph_of(workflow.prompt)


@pytest.mark.parametrize("kind", ["PrimitiveNode", "PrimitiveText"])
def test_a_linked_text_changes_where_it_is_written(kind):
    workflow = read(with_converted_text(kind))
    set_input(workflow, specs(), "Maker.text=new")
    assert workflow.ui["nodes"][0]["widgets_values"] == ["new"]
    assert graph_of(read(workflow.ui).prompt) == graph_of(workflow.prompt)


def test_a_value_for_primitives_that_hang_on_each_other_ends_their_circle():
    prompt = {key: {"class_type": "PrimitiveText", "inputs": {"value": [other, 0]}} for key, other in ("12", "21")}
    workflow = read(prompt)
    set_input(workflow, specs(), "1.value=new")
    assert [node["inputs"]["value"] for node in workflow.prompt.values()] == ["new", ["1", 0]]


def test_a_value_in_place_of_a_link_cuts_the_link():
    ui = with_converted_text("Changer")
    ui["nodes"][0]["outputs"][0]["links"] = [1]
    workflow = read(ui)
    set_input(workflow, specs(), "1.text=new")
    assert workflow.prompt["1"]["inputs"]["text"] == "new"
    assert graph_of(read(workflow.ui).prompt) == graph_of(workflow.prompt)
    assert workflow.ui["nodes"][0]["outputs"][0]["links"] == []


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("1.txet=a", r"node 1 \(Wish\) has no input 'txet'; the nearest is 'text'"),
        ("Wihs.text=a", "no node 'Wihs'; the nearest is 'Wish'"),
        ("Maker.text=a", r"'text' is an input of 2 nodes; name one by its id: 1 \(Wish\), 2 \(Fear\)"),
        ("1.text", "takes NODE.INPUT=VALUE or INPUT=VALUE"),
        ("text=1", "'text' is an input of 2 nodes"),
    ],
)
def test_options_that_fit_nothing_are_told(assignment, words):
    with pytest.raises(RunnerError, match=words):
        set_input(guided(), specs(), assignment)


@pytest.mark.parametrize(("value", "words"), [("[8,0]", "takes INT, but node 8"), ("[1, 2]", "output 2 of node 1")])
def test_a_link_may_be_set_with_a_number_for_its_node(value, words):
    workflow = guided()
    set_input(workflow, specs(), f"2.seed={value}")
    with pytest.raises(WorkflowError, match=words):
        check_links(workflow.prompt, specs())


def test_a_link_in_place_of_a_value_gives_up_the_form_of_the_editor():
    """A widget there would hold the list as a value, and the file that is made another graph than the one that ran."""
    workflow = read(with_converted_text("PrimitiveNode"))
    set_input(workflow, specs(), "1.seed=[1,1]")
    assert workflow.prompt["1"]["inputs"]["seed"] == ["1", 1] and workflow.ui is None


def test_a_list_in_a_primitive_node_is_no_link():
    ui = with_converted_text("PrimitiveNode")
    ui["nodes"][0]["widgets_values"] = [[1, 2]]
    with pytest.raises(WorkflowError, match=r"input 'text', takes text, not \{'__value__': \[1, 2\]\}"):
        validate(read(ui).prompt, CLASSES, specs())


def test_a_node_whose_type_is_empty_is_called_by_its_id():
    workflow = read({**good_prompt(), "9": {"class_type": "", "inputs": {"text": "old"}}})
    set_input(workflow, specs(), "9.text=new")
    assert workflow.prompt["9"]["inputs"] == {"text": "new"} and naming(workflow, specs())("9", "text") == "9.text"


def test_a_value_that_looks_like_endless_json_is_text():
    workflow = guided()
    set_input(workflow, specs(), "2.mode=" + "[" * 100_000)
    assert workflow.prompt["2"]["inputs"]["mode"] == "[" * 100_000


def test_options_without_a_place_are_told():
    workflow = read(good_prompt())
    with pytest.raises(RunnerError, match="--prompt: no node with a text feeds an input called 'positive'"):
        set_text(workflow, specs(), "positive", "a tiger")
    del workflow.prompt["1"], workflow.prompt["2"]
    with pytest.raises(RunnerError, match="no node of this workflow has a seed"):
        set_seed(workflow, 1)
