"""Prompts from strangers on a real ComfyUI: nothing leaves its folders or runs for ever, and each gets a sentence."""

from __future__ import annotations

import json
import urllib.error
from pathlib import Path

import pytest
from conftest import ROOT
from tiny_models import MODEL, TEXT, VAE

TINY = {
    "1": {"model_name": MODEL},
    "2": {"vae_name": VAE},
    "3": {"text_encoder_name": TEXT},
    "6": {"first_steps": 1, "video_steps": 1},
    "8": {"length_unit": "frames", "frames": 5},
}
NAN, INF = float("nan"), float("inf")


@pytest.fixture
def prompt() -> dict:
    graph = json.loads((ROOT / "workflows" / "api" / "text_to_video.json").read_text("utf-8"))
    for node_id, values in TINY.items():
        graph[node_id]["inputs"] |= values
    return graph


def files_around(base: Path) -> set[Path]:
    """What lies beside ComfyUI's own folders."""
    inside = [base / name for name in ("output", "temp", "user", "models", "custom_nodes", "input")]
    found = [path for path in base.parent.rglob("*") if not any(path.is_relative_to(folder) for folder in inside)]
    return {path for path in found if path.name != "log.txt"}


def answer(comfy, graph: dict) -> str:
    """The sentence with which the server refuses a prompt, or with which its run ends."""
    try:
        report = comfy.run(graph)
    except urllib.error.HTTPError as error:
        return error.read().decode()
    assert report.status == "error", report.status
    return report.message


# node, input, how the value comes, value, words of the sentence
NUMBERS = [
    ("6", "first_steps", "PrimitiveInt", 10**9, "input 'first_steps' is 1000000000; the most is 200"),
    ("6", "stage_count", "PrimitiveInt", 10**6, "input 'stage_count' is 1000000; the most is 6"),
    ("8", "frames", "PrimitiveInt", 10**9, "input 'frames' is 1000000000; the most is 1441"),
    ("8", "width", "PrimitiveInt", -64, "input 'width' is -64; the least is 16"),
    ("8", "batch_size", "PrimitiveInt", 10**9, "input 'batch_size' is 1000000000; the most is 64"),
    ("10", "chunk_frames", "PrimitiveInt", 10**9, "input 'chunk_frames' is 1000000000; the most is"),
    ("9", "seed", "PrimitiveInt", -1, "input 'seed' is -1; the least is 0"),
    ("6", "shift", None, NAN, "input 'shift' is nan, which is not a number"),
    ("7", "video_scale", None, NAN, "input 'video_scale' is nan, which is not a number"),
    ("8", "fps", None, NAN, "input 'fps' is nan, which is not a number"),
    ("7", "video_scale", None, INF, "bigger than max"),
    ("6", "first_steps", None, 10**9, "bigger than max"),
    ("6", "first_steps", None, 1e400, "Failed to convert"),
    ("6", "gamma", None, [[]], "bad_linked_input"),
]


@pytest.mark.parametrize(("node", "name", "kind", "value", "words"), NUMBERS, ids=[words for *_, words in NUMBERS])
def test_numbers_keep_to_their_range_however_they_come(comfy, prompt, node, name, kind, value, words):
    prompt[node]["inputs"][name] = value
    if kind is not None:
        prompt["p"] = {"class_type": kind, "inputs": {"value": value}}
        prompt[node]["inputs"][name] = ["p", 0]
    assert words in answer(comfy, prompt)


AWAY = ["../../evil", "/tmp/evil", "a/../../../evil", "%year%/../../../evil"]


@pytest.mark.parametrize("name", AWAY)
def test_no_file_is_written_elsewhere(comfy, base, prompt, name):
    before = files_around(base)
    prompt["12"]["inputs"]["filename_prefix"] = name
    assert "outside the output folder" in answer(comfy, prompt)
    assert files_around(base) == before


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../..", "points outside"),
        ("/etc", "points outside"),
        ("C:\\Windows", "points outside"),
        ("\\\\server\\share", "points outside"),
        ("a\0b", "no usable name"),
        ("\x1b[2J", "no usable name"),
        ("x" * 5000, "is too long"),
        ("leads_away", "leads through a link out of"),
        ("missing", "no input folder is called"),
    ],
)
def test_no_folder_is_read_elsewhere(comfy, base, name, words):
    link = base / "input" / "leads_away"
    if not link.is_symlink():
        link.symlink_to(ROOT, target_is_directory=True)
    dataset = comfy.get("/object_info")["PyramidVideoFolderDataset"]["input"]["required"]
    values = {key: spec[1].get("default", 16) for key, spec in dataset.items()}
    graph = {
        "1": {"class_type": "PyramidVideoFolderDataset", "inputs": values | {"folder": name}},
        "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 1]}},
    }
    assert words in answer(comfy, graph)


def test_after_all_of_it_the_server_makes_clips(comfy, prompt):
    report = comfy.run(prompt)
    assert report.status == "success", report.message
