"""Workflows from strangers: whatever is in them gets a sentence, soon, and reaches nothing outside the folders."""

from __future__ import annotations

import json
import time

import pytest
import torch
from fake_nodes import CLASSES, Maker, good_prompt, specs
from pyramid_video.host.folders import LONGEST_NAME, resolve_inside
from pyramid_video.nodes.bounds import bounded
from pyramid_video.runner import workflow as workflow_module
from pyramid_video.runner.errors import LONGEST_SENTENCE, MOST_PROBLEMS, NodeError, RunnerError, WorkflowError, nearest
from pyramid_video.runner.execute import execute, explain
from pyramid_video.runner.links import needed_order
from pyramid_video.runner.naming import LONGEST_PROMPT, name_files, slug
from pyramid_video.runner.registry import node_classes
from pyramid_video.runner.texts import fill_names
from pyramid_video.runner.ui_format import MOST_INPUTS, MOST_LINKS, MOST_NODES
from pyramid_video.runner.validate import check_numbers, validate
from pyramid_video.runner.workflow import from_json, read_workflow


def refusal(data) -> WorkflowError:
    """What reading and checking a graph ends with."""
    with pytest.raises(WorkflowError) as caught:
        validate(from_json(data, specs(), "test.json").prompt, CLASSES, specs())
    return caught.value


def many(count: int, **node) -> dict:
    return {str(i): {"class_type": "Maker", "inputs": {}, **node} for i in range(count)}


def test_a_graph_of_a_million_nodes_is_not_looked_through():
    assert str(refusal(many(MOST_NODES + 1))) == f"the graph has {MOST_NODES + 1} nodes; {MOST_NODES} are the most"
    inputs = {f"x{i}": 1 for i in range(MOST_INPUTS + 1)}
    assert f"node 0 has {MOST_INPUTS + 1} inputs" in str(refusal(many(1, inputs=inputs)))


def test_of_thousands_of_faults_the_first_are_told():
    assert len(refusal(many(5000, class_type="Nope")).problems) == MOST_PROBLEMS
    keep = {"k": {"class_type": "Keep", "inputs": {"thing": ["0", 0]}}}
    assert len(refusal(many(5000, inputs={"sead": 1}) | keep).problems) == MOST_PROBLEMS


def test_words_of_any_length_are_answered_in_a_short_sentence():
    long = "x" * 5_000_000
    graphs = [many(1, class_type=long), {long: good_prompt()["1"] | {"class_type": long}}, good_prompt(), good_prompt()]
    graphs[2]["1"]["inputs"][long] = 1
    graphs[3]["3"]["inputs"]["thing"] = [long, 0]
    assert all(len(str(refusal(graph))) < LONGEST_SENTENCE + 100 for graph in graphs)
    assert nearest(long, ["a", "x" * 90]) == f"; the nearest is {'x' * 90!r}"


def test_a_title_says_nothing_to_the_terminal():
    prompt = good_prompt()
    prompt["1"]["_meta"]["title"] = "\x1b[2J\x1b]0;new title\x07\n\x9b31m"
    prompt["1"]["inputs"]["seed"] = "\x1b[2J"
    said = str(refusal(prompt))
    assert said.isprintable() and "node 1 ( [2J ]0;new title  " in said
    assert str(RunnerError("a\x1b\nb")) == "a  b"


def test_names_that_stand_twice_are_told(tmp_path):
    path = tmp_path / "twice.json"
    path.write_text('{"1": {"class_type": "Maker"}, "2": {}, "1": {"class_type": "Keep"}}')
    with pytest.raises(WorkflowError, match="the name '1' stands twice in one object"):
        read_workflow(path, specs())
    node = {"id": 1, "type": "Keep", "mode": 0, "inputs": [], "outputs": []}
    with pytest.raises(WorkflowError, match="two nodes have the id 1"):
        from_json({"nodes": [node, dict(node), node | {"id": 2}], "links": []}, specs(), "test.json")


def test_a_file_that_is_enormous_is_not_read(tmp_path, monkeypatch):
    path = tmp_path / "large.json"
    path.write_text(json.dumps(good_prompt()))
    assert read_workflow(path, specs()).prompt
    with path.open("r+b") as file:
        file.truncate(200 << 20)
    with pytest.raises(WorkflowError, match="has 200 MB; a workflow has at most 32"):
        read_workflow(path, specs())


def test_what_else_stands_in_a_node_is_left_out():
    """ComfyUI's own files carry `is_changed` with NaN in it, which no other program reads as JSON."""
    data = good_prompt()
    data["1"]["is_changed"] = [float("nan")]
    assert from_json(data, specs(), "test.json").prompt == good_prompt()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), [1, [float("nan")]]])
def test_numbers_that_are_none_are_not_sent_to_a_server(value):
    prompt = good_prompt()
    check_numbers(prompt)
    prompt["1"]["inputs"]["strength"] = value
    with pytest.raises(WorkflowError, match=r"node 1 \(Make a\), input 'strength', takes a finite number"):
        check_numbers(prompt)


@pytest.mark.parametrize("slot", [10**400, float("inf"), "x", None])
def test_a_link_table_with_impossible_slots_is_damaged(slot):
    data = {"nodes": [], "links": [[1, 1, slot, 2, 0, "THING"]]}
    with pytest.raises(WorkflowError):
        validate(from_json(data, specs(), "test.json").prompt, CLASSES, specs())


def reroute(node_id: int, link: int) -> dict:
    sockets = {"inputs": [{"name": "", "type": "*", "link": link}], "outputs": [{"name": "", "type": "*"}]}
    return {"id": node_id, "type": "Reroute", "mode": 0, **sockets}


def keeper(node_id: int, link: int) -> dict:
    inputs = [{"name": "thing", "type": "THING", "link": link}]
    return {"id": node_id, "type": "Keep", "mode": 0, "inputs": inputs, "outputs": []}


def maker(node_id: int) -> dict:
    values = ["a", 7, "fixed", 0.25, "fast", False]
    return {"id": node_id, "type": "Maker", "mode": 0, "inputs": [], "outputs": [], "widgets_values": values}


def test_a_way_that_thousands_of_nodes_share_is_gone_once(monkeypatch):
    from pyramid_video.runner import ui_format

    length, width = 200, 5000
    nodes = [maker(0), *(reroute(i, i) for i in range(1, length + 1))]
    links = [[i, i - 1, 0, i, 0, "*"] for i in range(1, length + 1)]
    for i in range(1000, 1000 + width):
        nodes.append(keeper(i, i))
        links.append([i, length, 0, i, 0, "*"])
    steps = []
    follow = ui_format._Converter.follow
    monkeypatch.setattr(ui_format._Converter, "follow", lambda *words: steps.append(1) or follow(*words))
    prompt = from_json({"nodes": nodes, "links": links}, specs(), "test.json").prompt
    assert all(prompt[str(i)]["inputs"] == {"thing": ["0", 0]} for i in range(1000, 1000 + width))
    assert len(steps) == length + width


def test_links_and_inputs_of_a_drawn_graph_have_limits():
    links = [[i, 0, 0, 1, 0, "*"] for i in range(MOST_LINKS + 1)]
    with pytest.raises(WorkflowError, match=f"more than {MOST_LINKS} links"):
        from_json({"nodes": [], "links": links}, specs(), "test.json")
    wide = keeper(1, 1) | {"inputs": [{"name": f"x{i}", "type": "*", "link": None} for i in range(MOST_INPUTS + 1)]}
    with pytest.raises(WorkflowError, match=f"more than {MOST_INPUTS} inputs"):
        from_json({"nodes": [wide], "links": []}, specs(), "test.json")


def test_thousands_of_outputs_on_one_chain_are_put_in_order_once():
    prompt = good_prompt()
    for i in range(2000):
        prompt[f"c{i}"] = {"class_type": "Changer", "inputs": {"thing": [f"c{i - 1}" if i else "3", 0], "suffix": ""}}
        prompt[f"o{i}"] = {"class_type": "Keep", "inputs": {"thing": [f"c{i}", 0]}}
    outputs = validate(prompt, CLASSES, specs())
    order = list(needed_order(prompt, outputs))
    assert len(order) == len(prompt) == len(set(order))
    place = {node_id: i for i, node_id in enumerate(order)}
    assert all(place[f"c{i}"] < place[f"c{i + 1}"] < place[f"o{i + 1}"] for i in range(1999))


class Free:
    """Gives any number, so that a link carries what no widget would."""

    RETURN_TYPES = ("INT",)
    FUNCTION = "give"
    number: float = 0

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def give(self):
        return (Free.number,)


@pytest.mark.parametrize(
    ("number", "fault"),
    [
        (10**9, "is 1000000000; the most is 100"),
        (-1, "is -1; the least is 0"),
        (float("nan"), "is nan, which is not a number"),
        (float("inf"), "is inf, which is not a number"),
        (100, None),
    ],
)
def test_a_number_over_a_link_keeps_to_the_range_of_the_input(number, fault):
    classes = {**CLASSES, "Maker": bounded(type("Guarded", (Maker,), {})), "Free": Free}
    prompt = good_prompt()
    prompt["9"] = {"class_type": "Free", "inputs": {}}
    prompt["1"]["inputs"]["seed"] = ["9", 0]
    Free.number = number
    if fault is None:
        execute(prompt, ["4"], classes)
    else:
        with pytest.raises(NodeError) as caught:
            execute(prompt, ["4"], classes)
        assert str(caught.value) == f"node 1 (Make a): input 'seed' {fault}"


def test_every_block_and_core_node_looks_at_what_arrives():
    for node in node_classes().values():
        ranges = [
            (key, spec[1]["max"])
            for group in ("required", "optional")
            for key, spec in node.INPUT_TYPES().get(group, {}).items()
            if spec[0] in ("INT", "FLOAT") and len(spec) > 1 and "max" in spec[1]
        ]
        for key, most in ranges:
            run = getattr(node(), node.FUNCTION)
            others = {other: None for other in node.INPUT_TYPES().get("required", {})}
            with pytest.raises(ValueError, match=f"input '{key}' is .*; the most is"):
                run(**others | {key: most * 2})


def test_pictures_that_no_memory_holds_are_put_in_words():
    with pytest.raises(RuntimeError) as caught:
        torch.zeros(1 << 40, 1 << 20)
    assert explain(caught.value) == "the computer ran out of memory; make the video smaller or shorter"


@pytest.mark.parametrize(
    "name",
    [
        "a" * (LONGEST_NAME + 1),
        "é" * LONGEST_NAME,
        "a/" * 2000 + "b",
        "a\x1b[2Jb",
        "a\nb",
        "a\x7fb",
        "sub/C:\0x",
        "half \ud800.mp4",
    ],
)
def test_names_that_no_folder_holds_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match="usable name|too long") as caught:
        resolve_inside(tmp_path, name)
    assert len(str(caught.value)) < 300 and str(caught.value).isprintable()


@pytest.mark.parametrize(
    "text",
    [
        "../../etc/passwd",
        "C:\\Windows\\x",
        "\\\\server\\share",
        "a\0b\x1b[2J\n",
        "%date% %year%/../..",
        "x [output]",
        "虎" * 500,
        "\ud800 \u202e.mp4",
        "CON",
        "." * 300,
        "-rf ~",
    ],
)
def test_a_prompt_in_a_file_name_is_letters_and_digits(tmp_path, text):
    name = slug(text)
    assert len(name.encode()) <= LONGEST_PROMPT and all(letter.isalnum() or letter == "-" for letter in name)
    assert not name.startswith("-")
    prompt = {"1": {"class_type": "Keep", "inputs": {"filename_prefix": "video/clip"}}}
    workflow = workflow_module.Workflow(prompt)
    name_files(workflow, specs(), text, 7)
    prefix = prompt["1"]["inputs"]["filename_prefix"]
    assert resolve_inside(tmp_path, prefix).parent == tmp_path / "video"
    assert prefix.startswith("video/clip_") and prefix.endswith("_seed7")


def test_a_list_of_a_million_things_is_no_envelope_that_is_searched_for_long():
    begun = time.monotonic()
    with pytest.raises(WorkflowError, match="is not a workflow"):
        from_json([["x"]] * 1_000_000, specs(), "test.json")
    assert time.monotonic() - begun < 20


def test_the_border_of_a_subgraph_has_a_limit():
    graph = {"id": "g", "name": "wide", "nodes": [], "inputs": [{"name": "a"}] * (MOST_INPUTS + 1)}
    with pytest.raises(WorkflowError, match="the subgraph 'wide' has more than"):
        from_json({"nodes": [{"id": 1, "type": "g"}], "definitions": {"subgraphs": [graph]}}, specs(), "test.json")


def nested(depth: int, width: int) -> dict:
    """Subgraphs in each other, each with `width` inputs that all lead to texts in the innermost."""
    names = [f"x{i}" for i in range(width)]
    graphs = []
    for level in range(depth):
        last = level == depth - 1
        widget = {"name": "text", "type": "STRING", "widget": {"name": "text"}}
        nodes = [
            maker(i)
            | {"inputs": [widget | {"link": i}], "widgets_values": [f"text {i}", 7, "fixed", 0.25, "fast", False]}
            for i in range(width)
        ]
        holder = {"id": 1, "type": f"g{level + 1}", "inputs": []}
        holder["inputs"] = [{"name": name, "type": "STRING", "link": i} for i, name in enumerate(names)]
        links = [[i, -10, i, i if last else 1, 0 if last else i, "STRING"] for i in range(width)]
        inputs = [{"name": name, "type": "STRING"} for name in names]
        graphs.append(
            {"id": f"g{level}", "name": "g", "nodes": nodes if last else [holder], "links": links, "inputs": inputs}
        )
    return {"nodes": [{"id": 1, "type": "g0", "inputs": []}], "links": [], "definitions": {"subgraphs": graphs}}


def test_what_is_typed_into_subgraphs_in_each_other_is_looked_for_once_a_level(monkeypatch):
    from pyramid_video.runner import subgraphs, ui_format

    depth, width, steps = 5, 5, []
    typed_into = subgraphs.typed_into
    for module in (subgraphs, ui_format):
        monkeypatch.setattr(module, "typed_into", lambda *words: steps.append(1) or typed_into(*words))
    prompt = from_json(nested(depth, width), specs(), "test.json").prompt
    assert [node["inputs"]["text"] for node in prompt.values()] == [f"text {i}" for i in range(width)]
    assert len(steps) < 2 * depth
    assert len(from_json(nested(30, 30), specs(), "test.json").prompt) == 30


def test_the_names_of_all_nodes_are_looked_up_once(monkeypatch):
    from pyramid_video.runner import overrides
    from pyramid_video.runner.showing import workflow_lines

    count, steps = 300, []
    monkeypatch.setattr(overrides, "names_of", lambda *words, look=overrides.names_of: steps.append(1) or look(*words))
    prompt = many(count, inputs={"text": "a", "seed": 1})
    prompt["0"]["_meta"] = {"title": "Wish"}
    lines = list(workflow_lines(from_json(prompt, specs(), "test.json"), specs()))
    assert sum("Wish.text = a" in line for line in lines) == 1 and sum(" = a" in line for line in lines) == count
    assert len(steps) <= 2 * count


def test_names_of_files_may_have_any_number_of_placeholders():
    """Each of them was looked for in all nodes."""
    count, looks = 300, []

    class Known(dict):
        def items(self):
            looks.append(1)
            return super().items()

    workflow = workflow_module.Workflow(Known(many(count, inputs={"text": "a"}, _meta={"title": []})))
    prefix = "%Maker.text%%Nobody.text%" * 1000
    workflow.prompt["save"] = {"class_type": "SaveVideo", "inputs": {"filename_prefix": prefix}}
    fill_names(workflow)
    assert workflow.prompt["save"]["inputs"]["filename_prefix"] == "a%Nobody.text%" * 1000
    assert len(looks) == 1
