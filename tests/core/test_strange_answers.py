"""What servers, nodes and graphs of strangers may say: it ends in a plain sentence, and no terminal obeys it."""

from __future__ import annotations

import json
import time

import pytest
from pyramid_video.nodes.bounds import faults
from pyramid_video.runner import responses
from pyramid_video.runner.errors import ServerError, sentence, shown
from pyramid_video.runner.responses import read_response
from pyramid_video.runner.server_reports import Progress
from pyramid_video.runner.terminal import print_note
from pyramid_video.runner.workflow import Workflow

ESCAPE = "\x1b]0;title\x07\x1b[2J"


@pytest.mark.parametrize("kind", [ValueError, OSError, RuntimeError])
def test_errors_and_notes_hold_no_control_characters(kind, capsys):
    assert "\x1b" not in sentence(kind(f"no animation of {ESCAPE}"))
    print_note(f"two\nlines{ESCAPE}")
    said = capsys.readouterr().err
    assert said.startswith("two\nlines") and "\x1b" not in said and "\x07" not in said


@pytest.mark.parametrize("answer", [b"[]", b"null", b"3", b'"x"', b"<html>", b"", b"[" * 100_000, b"\xff"])
def test_an_answer_that_is_no_object_is_not_from_comfyui(answer):
    with pytest.raises(ServerError, match="is not ComfyUI"):
        read_response(answer, responses.QUEUE, "http://server")


def test_an_answer_of_a_million_things_is_quoted_at_once():
    many = ["x"] * 1_000_000
    begun = time.monotonic()
    for _ in range(20):
        assert len(shown(many)) <= 60 and shown({"a": many}).startswith("{'a': ['x', 'x'")
    assert time.monotonic() - begun < 1
    assert shown({"a": 3, "b": "text"}) == "{'a': 3, 'b': 'text'}" and shown("x" * 10**7).endswith("...")


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "null",
        json.dumps({"data": [1]}),
        json.dumps({"type": "progress", "data": {"prompt_id": "mine"}}),
        json.dumps({"type": "progress", "data": {"prompt_id": "mine", "max": None, "value": "1"}}),
    ],
)
def test_an_event_that_is_none_is_passed_over(text):
    assert Progress(Workflow({}), silent=True).take_event(text, "mine") is False


@pytest.mark.parametrize("value", [10**400, -(10**400), float("nan"), float("inf")])
def test_numbers_over_links_are_held_to_their_range_whatever_their_size(value):
    groups = {"required": {"steps": ("INT", {"min": 1, "max": 9})}}
    assert len(list(faults(groups, {"steps": value}))) == 1


@pytest.mark.parametrize("value", [[1], [1, 0], {"a": 1}, "1", (1,), 1j])
def test_what_is_no_number_is_refused_where_a_number_belongs(value):
    groups = {"optional": {"steps": ("INT", {}), "share": ("FLOAT", {}), "name": ("STRING", {})}}
    found = list(faults(groups, dict.fromkeys(("steps", "share", "name"), value)))
    assert found == [
        f"input {name!r} is of type {type(value).__name__}; it takes a number" for name in ("steps", "share")
    ]
    assert not list(faults(groups, {"steps": None, "share": 2}))
