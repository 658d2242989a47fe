"""What is wrong with a graph, an option or the surroundings is said in one sentence before anything runs."""

from __future__ import annotations

import errno
import gc
import os
import weakref
from pathlib import Path

import pytest
import torch
from fake_nodes import CLASSES, Keep, good_prompt, specs
from pyramid_video.host import use_host
from pyramid_video.host.standalone.core import files as core_files
from pyramid_video.host.standalone.core.saving import save_as
from pyramid_video.host.standalone.host import StandaloneHost
from pyramid_video.models.files import DISK_FULL
from pyramid_video.runner.errors import NodeError, WorkflowError
from pyramid_video.runner.execute import execute
from pyramid_video.runner.links import types_match
from pyramid_video.runner.validate import validate


@pytest.fixture(autouse=True)
def host(tmp_path):
    host = StandaloneHost(output=tmp_path / "out", silent=True)
    use_host(host)
    Keep.kept.clear()
    yield host
    use_host(None)


def problems_of(prompt) -> list[str]:
    with pytest.raises(WorkflowError) as caught:
        validate(prompt, CLASSES, specs())
    return caught.value.problems


def test_a_right_graph_passes_and_names_what_to_run():
    prompt = good_prompt()
    assert validate(prompt, CLASSES, specs()) == ["4"]
    assert prompt == good_prompt()


THING, SEED = "node 3 (Changer), input 'thing', ", "node 1 (Make a), input 'seed', "
STRENGTH, MODE = "node 1 (Make a), input 'strength', ", "node 1 (Make a), input 'mode', "
FAR = "is linked to output "
PATH_OF_A_MODEL = (
    "which is a path; models have the names that `pyramid-video models` lists: put the file into one of its folders, "
    "or name a folder of yours with --models"
)
# where to change the right graph, to what, and the sentence that says so
WRONG = [
    ("3.class_type", "Chagner", "node 3 (Chagner) is of the unknown type 'Chagner'; the nearest is 'Changer'"),
    (
        "3.class_type",
        "workflow/mine",
        "node 3 (workflow/mine) is a group node; open the file in ComfyUI and ungroup it",
    ),
    ("1.inputs.sead", 3, "node 1 (Make a) has no input 'sead'; the nearest is 'seed'"),
    ("3.inputs.thing", ["34", 0], THING + "is linked to node 34, which does not exist"),
    ("3.inputs.thing", ["1", 2], THING + FAR + "2 of node 1 (Make a), which has 2 outputs"),
    ("3.inputs.thing", ["4", 0], THING + FAR + "0 of node 4 (The end), which has no outputs"),
    ("3.inputs.thing", ["1", -1], THING + FAR + "-1 of node 1 (Make a), which has 2 outputs"),
    ("3.inputs.thing", ["1", 1], THING + "takes THING, but node 1 (Make a) gives INT"),
    ("1.inputs.seed", ["2", 0], SEED + "takes INT, but node 2 (Make b) gives THING"),
    ("3.inputs.thing", None, THING + "needs a link that gives THING, not the value None"),
    ("3.inputs.thing", "a", THING + "needs a link that gives THING, not the value 'a'"),
    ("3.inputs", {"suffix": "!"}, "node 3 (Changer) lacks its input 'thing': it needs a link that gives THING"),
    ("3.inputs", {"thing": ["1", 0]}, "node 3 (Changer) lacks its input 'suffix': it needs a value"),
    ("1.inputs.seed", 101, SEED + "is 101; the most is 100"),
    ("1.inputs.seed", -1, SEED + "is -1; the least is 0"),
    ("1.inputs.seed", "many", SEED + "takes a whole number, not 'many'"),
    ("1.inputs.seed", 1.5, SEED + "takes a whole number, not 1.5"),
    ("1.inputs.seed", True, SEED + "takes a whole number, not True"),
    ("1.inputs.seed", {}, SEED + "takes a whole number, not {}"),
    ("1.inputs.strength", 1.01, STRENGTH + "is 1.01; the most is 1.0"),
    ("1.inputs.strength", float("nan"), STRENGTH + "takes a number, not nan"),
    ("1.inputs.strength", float("inf"), STRENGTH + "takes a number, not inf"),
    ("1.inputs.text", {"a": 1}, "node 1 (Make a), input 'text', takes text, not {'a': 1}"),
    ("1.inputs.on", "maybe", "node 1 (Make a), input 'on', takes true or false, not 'maybe'"),
    ("1.inputs.mode", "fats", MODE + "is 'fats', which is not one of its 2 choices; the nearest is 'fast'"),
    *(
        ("1.inputs.mode", path, f"{MODE}is {path!r}, {PATH_OF_A_MODEL}")
        for path in ("~/x.safetensors", "/x.ckpt", "C:\\x.sft", "\\\\server\\x.bin")
    ),
    ("1.inputs.mode", ["fast"], MODE + "is ['fast'], which is not one of its 2 choices; the nearest is 'fast'"),
]


@pytest.mark.parametrize(("place", "value", "expected"), WRONG, ids=[sentence for *_, sentence in WRONG])
def test_each_fault_has_its_sentence(place, value, expected):
    prompt = good_prompt()
    *parents, last = place.split(".")
    spot = prompt
    for key in parents:
        spot = spot[key]
    spot[last] = value
    sentence, *rest = problems_of(prompt)
    assert (sentence, rest) == (expected, [])


def test_a_model_of_an_official_folder_is_not_taken_for_a_small_one():
    prompt = good_prompt()
    prompt["1"]["inputs"]["mode"] = "Helios-Mid/transformer"
    (sentence,) = problems_of(prompt)
    assert "official folder Helios-Mid" in sentence and "nearest" not in sentence


def test_all_faults_are_collected_and_the_first_is_said():
    prompt = good_prompt()
    prompt["1"]["inputs"]["seed"] = 101
    prompt["2"]["inputs"]["mode"] = "x"
    with pytest.raises(WorkflowError, match=r"node 1 .*the most is 100 \(and 1 more") as caught:
        validate(prompt, CLASSES, specs())
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize(
    ("given", "taken", "fits"),
    [
        ("INT", "INT", True),
        ("INT", "FLOAT", False),
        ("INT", "FLOAT, INT", True),
        ("IMAGE,MASK", "MASK , LATENT", True),
        ("*", "INT", True),
        ("INT", "COMFY_MATCHTYPE_V3", True),
    ],
)
def test_types_fit_as_the_host_says(given, taken, fits):
    assert types_match(given, taken) is types_match(taken, given) is fits


def test_a_cycle_is_told_with_its_nodes():
    prompt = good_prompt()
    prompt["5"] = {"class_type": "Changer", "inputs": {"thing": ["3", 0], "suffix": ""}}
    prompt["3"]["inputs"]["other"] = ["5", 0]
    circle = "node 3 (Changer) needs node 5 (Changer) needs node 3 (Changer)"
    assert problems_of(prompt) == [f"the links form a cycle: {circle}"]
    prompt["3"]["inputs"]["other"] = ["3", 0]
    assert problems_of(prompt) == ["the links form a cycle: node 3 (Changer) needs node 3 (Changer)"]


def test_a_chain_of_thousands_is_neither_a_cycle_nor_too_deep():
    prompt = good_prompt()
    for i in range(3000):
        source = [str(99 + i), 0] if i else ["3", 0]
        prompt[str(100 + i)] = {"class_type": "Changer", "inputs": {"thing": source, "suffix": ""}}
    prompt["4"]["inputs"]["thing"] = ["3099", 0]
    outputs = validate(prompt, CLASSES, specs())
    execute(prompt, outputs, CLASSES)
    assert Keep.kept[0][0] == "a/7/0.25/fast/False!b/7/0.25/fast/False"


def test_a_graph_that_writes_nothing_is_told():
    prompt = good_prompt()
    del prompt["4"]
    assert problems_of(prompt) == ["the workflow writes nothing: add a node such as Save Video (SaveVideo)"]


def test_values_are_brought_to_their_types():
    prompt = good_prompt()
    prompt["1"]["inputs"] |= {"text": 12, "seed": "7", "strength": "0.25", "on": "false"}
    validate(prompt, CLASSES, specs())
    assert prompt["1"]["inputs"] == good_prompt()["1"]["inputs"] | {"text": "12"}


def test_a_node_that_nothing_needs_is_not_asked_for_its_inputs():
    prompt = good_prompt()
    prompt["9"] = {"class_type": "Changer", "inputs": {}}
    assert validate(prompt, CLASSES, specs()) == ["4"]


@pytest.mark.parametrize(("size", "sentence"), [(16, None), (12, "node 1 (Picky): size 12 is no multiple of 8")])
def test_a_nodes_own_check_replaces_the_range(size, sentence):
    prompt = {
        "1": {"class_type": "Picky", "inputs": {"size": size}},
        "4": {"class_type": "Keep", "inputs": {"thing": ["1", 0]}},
    }
    if sentence is None:
        assert validate(prompt, CLASSES, specs()) == ["4"]
    else:
        assert problems_of(prompt) == [sentence]


def test_a_run_gives_nodes_their_values_and_hidden_inputs():
    prompt, extra = good_prompt(), {"workflow": {"nodes": []}}
    outcome = execute(prompt, ["4"], CLASSES, extra)
    thing = "a/7/0.25/fast/False!b/7/0.25/fast/False"
    assert Keep.kept == [(thing, "4", prompt, extra)]
    assert outcome.notes == [f"node 4 (The end): {thing}"]


def test_what_a_node_says_is_told_before_the_next_one_runs():
    prompt, notes = good_prompt(), []
    prompt["5"] = {"class_type": "Keep", "inputs": {"thing": ["2", 0]}}
    execute(prompt, ["4", "5"], CLASSES, None, lambda note: notes.append((note[:6], len(Keep.kept))))
    assert notes == [("node 4", 1), ("node 5", 2)]


def test_a_failing_node_is_named_in_one_line():
    prompt = good_prompt()
    prompt["3"]["inputs"]["suffix"] = "fail"
    with pytest.raises(NodeError) as caught:
        execute(prompt, ["4"], CLASSES)
    assert str(caught.value) == "node 3 (Changer): this suffix is not allowed"
    assert isinstance(caught.value.__cause__, ValueError)


def chain_of(*nodes: type) -> tuple[dict, dict]:
    """A prompt that links the nodes in a row, and their classes."""
    prompt = {
        str(i): {"class_type": str(i), "inputs": {"thing": [str(i - 1), 0]} if i else {}} for i in range(len(nodes))
    }
    return prompt, {str(i): node for i, node in enumerate(nodes)}


def step(function, output: bool = False) -> type:
    """A node that calls `function` with its input, if it has one."""
    members = {
        "INPUT_TYPES": classmethod(lambda cls: {"required": {}}),
        "RETURN_TYPES": ("THING",),
        "OUTPUT_NODE": output,
        "FUNCTION": "run",
        "run": lambda self, thing=None: (function(thing),),
    }
    return type("Step", (), members)


class Thing:
    pass


def test_results_are_let_go_as_soon_as_nobody_needs_them():
    alive: list[weakref.ref] = []
    seen = []

    def make(_):
        thing = Thing()
        alive.append(weakref.ref(thing))
        return thing

    def look(thing):
        gc.collect()
        seen.append([ref() is not None for ref in alive])
        return make(None)

    prompt, classes = chain_of(step(make), step(look), step(look), step(look))
    execute(prompt, ["3"], classes)
    assert seen == [[True], [False, True], [False, False, True]]


def test_everything_is_let_go_when_a_node_fails():
    alive: list[weakref.ref] = []

    def make(_):
        thing = Thing()
        alive.append(weakref.ref(thing))
        return thing

    def fail(_):
        raise KeyboardInterrupt

    prompt, classes = chain_of(step(make), step(fail))
    with pytest.raises(KeyboardInterrupt):
        execute(prompt, ["1"], classes)
    gc.collect()
    assert alive[0]() is None


def fail_with(error: Exception):
    def fail(_):
        raise error

    return step(fail)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "no space left on the disk"),
        (OSError(DISK_FULL[1], os.strerror(DISK_FULL[1])), "no space left on the disk"),
        (OSError(errno.ENOSPC, "the disk is full: what was made is kept"), ": the disk is full: what was made is kept"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried ..."), "the device ran out of memory; make the video"),
        (RuntimeError("GET was unable to find an engine to execute this computation"), "the device ran out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you"), "the computer ran out of memory"),
        (KeyError("weight"), "KeyError: 'weight'"),
        (RuntimeError(), "RuntimeError"),
    ],
)
def test_errors_of_the_machine_are_put_in_words(error, words):
    prompt, classes = chain_of(fail_with(error))
    with pytest.raises(NodeError, match=words):
        execute(prompt, ["0"], classes)


@pytest.mark.parametrize("prefix", ["../out", "/var/x", "a/../../b", "C:\\x", "..\\x", "~/x", ""])
@pytest.mark.parametrize("node", ["SaveVideo", "SaveImage"])
def test_saving_outside_the_output_folder_is_refused_before_the_run(prefix, node):
    from pyramid_video.runner.registry import node_classes, node_specs

    name = "video" if node == "SaveVideo" else "images"
    source = {"SaveVideo": ("LoadVideo", "file"), "SaveImage": ("LoadImage", "image")}[node]
    inputs = {name: ["1", 0], "filename_prefix": prefix}
    inputs |= {"format": "auto", "codec": "auto"} if node == "SaveVideo" else {}
    prompt = {
        "1": {"class_type": source[0], "inputs": {source[1]: "a.bin"}},
        "2": {"class_type": node, "inputs": inputs},
    }
    with pytest.raises(WorkflowError) as caught:
        validate(prompt, node_classes(), node_specs())
    assert any(problem.startswith("node 2") and "filename_prefix" in problem for problem in caught.value.problems)


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "missing.png"])
def test_loading_outside_the_input_folder_is_refused_before_the_run(name):
    verdict = core_files.LoadImage.VALIDATE_INPUTS(image=name)
    assert isinstance(verdict, str) and name in verdict


def test_a_link_does_not_lead_out_of_the_output_folder(tmp_path, host):
    host.output_dir.mkdir()
    (host.output_dir / "away").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="leads through a link out of"):
        core_files.SaveImage().save(torch.zeros(1, 4, 4, 3), "away/picture")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_nothing_is_left_of_a_file_that_could_not_be_written(host):
    def write(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError):
        save_as(host.output_dir, "clip", "mp4", write)
    assert list(host.output_dir.iterdir()) == []


def test_saved_files_are_numbered_on_and_never_overwritten(host):
    def save(prefix: str) -> str:
        return save_as(host.output_dir, prefix, "txt", lambda path: path.write_text(prefix))["filename"]

    assert [save("a"), save("a"), save("a")] == ["a_00001_.txt", "a_00002_.txt", "a_00003_.txt"]
    assert save("a_b") == "a_b_00001_.txt"
    (host.output_dir / "a_00007_.txt").touch()
    assert save("a") == "a_00008_.txt"


def test_odd_sizes_are_refused_with_the_nearest_even_one(host):
    clip = core_files.CreateVideo().create(torch.zeros(1, 5, 7, 3), 8.0)[0]
    with pytest.raises(ValueError, match="even sizes, not 7x5; the nearest is 8x6"):
        core_files.SaveVideo().save(clip, "a", "auto", "auto")
    assert list(host.output_dir.iterdir()) == []


# the command line
