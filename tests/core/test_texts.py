"""Choices in prompts, and values in the names of files."""

from __future__ import annotations

import random
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyramid_video.runner.errors import WorkflowError
from pyramid_video.runner.registry import node_specs
from pyramid_video.runner.texts import choose, choose_texts, fill_names
from pyramid_video.runner.workflow import Workflow

NOON = datetime(2026, 3, 7, 12, 5, 9)


def workflow(text: str, seed: int = 1, prefix: str = "clip") -> Workflow:
    return Workflow(
        {
            "1": {"class_type": "PyramidVideoEncodePrompt", "inputs": {"text": text}, "_meta": {"title": "Say.it"}},
            "2": {"class_type": "PyramidVideoSampler", "inputs": {"seed": seed, "positive": ["1", 0]}},
            "3": {"class_type": "SaveVideo", "inputs": {"filename_prefix": prefix}},
        }
    )


def chosen(text: str, seed: int = 1) -> str:
    made = workflow(text, seed)
    choose_texts(made, node_specs())
    return made.prompt["1"]["inputs"]["text"]


def test_a_seed_makes_the_same_choice_each_time_and_seeds_differ():
    text = "a {tiger|penguin|whale} moving {left|right}"
    assert chosen(text, 5) == chosen(text, 5)
    made = {chosen(text, seed) for seed in range(60)}
    assert made == {f"a {who} moving {way}" for who in ("tiger", "penguin", "whale") for way in ("left", "right")}


@given(st.text(st.characters(exclude_characters="{}|\\/")))
def test_a_text_without_choices_and_comments_stays(text):
    assert choose(text, random.Random(0)) == text


@given(st.text("{}|\\/*ab\n", max_size=40))
def test_a_choice_is_never_made_of_anything_but_the_text(text):
    assert set(choose(text, random.Random(0))) <= set(text)


def test_choices_without_end_are_refused_with_the_node():
    with pytest.raises(WorkflowError, match=r"node 1 \(Say.it\).*more than 100 deep"):
        chosen("{" * 5000)


def test_a_long_text_of_what_almost_is_a_comment_is_gone_through_once():
    text = "/*x" * 200_000 + "///a\nb"
    assert choose(text, random.Random(0)) == "/*x" * 200_000 + "\nb"


def test_only_prompts_have_choices():
    made = workflow("x", prefix="{a|b} // c")
    choose_texts(made, node_specs())
    assert made.prompt["3"]["inputs"]["filename_prefix"] == "{a|b} // c"


@pytest.mark.parametrize(
    ("prefix", "name"),
    [
        ("%date:yyyy-MM-dd%/%date:hhmmss%", "2026-03-07/120509"),
        ("%date:d-M-yy h:m:s%", "7-3-26 12:5:9"),
        ("%PyramidVideoSampler.seed%_x", "1_x"),
        ("%Nobody.seed%_%width%x%height%", "%Nobody.seed%_%width%x%height%"),
        ("%PyramidVideoEncodePrompt.text%", "a_b_c"),
    ],
)
def test_names_of_files_are_filled_in(prefix, name):
    made = workflow("a/b:c", prefix=prefix)
    fill_names(made, NOON)
    assert made.prompt["3"]["inputs"]["filename_prefix"] == name
