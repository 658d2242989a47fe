"""Weights in brackets are taken off a prompt, and nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyramid_video.models.prompt_weights import without_weights

WEIGHTED = {
    "a (tiger:1.4) moving left on a ((blue)) background": "a tiger moving left on a blue background",
    "(a (red:1.2) fox:0.8)": "a red fox",
    "(((very))) (small: .5 )": "very small",
    "(a (brown) dog:1.3)": "a (brown) dog",
    "((a:1.1))": "a",
    "(猫:1.2)が歩く": "猫が歩く",
    "(a smile \\(:\\) :1.5)": "a smile (:) ",
    "((a) b)": None,
    "a man (about 40) walks": None,
    "at (5:30), in (16:9)": None,
    "a :-) and :(": None,
    ")( a ((": None,
    "\\(tiger:1.4\\)": "(tiger:1.4)",
    "\\((tiger:1.4)\\)": "(tiger)",
    "C:\\new (x)": None,
}


@pytest.mark.parametrize("text", WEIGHTED)
def test_weights_are_taken_off_and_brackets_that_mean_brackets_stay(text):
    kept, found = without_weights(text)
    wanted = text if WEIGHTED[text] is None else WEIGHTED[text]
    assert kept == wanted
    assert found == (wanted not in (text, text.replace("\\", "")))


@given(st.text("ab (:1.2)\\", max_size=40))
def test_only_brackets_numbers_and_backslashes_are_lost(text):
    kept, found = without_weights(text)
    assert [sign for sign in kept if sign in "ab"] == [sign for sign in text if sign in "ab"]
    assert found or kept == text.replace("\\(", "(").replace("\\)", ")")


def test_a_long_nest_ends():
    deep = "(" * 20_000 + "a" + ")" * 20_000
    assert without_weights(deep) == ("a", True)
