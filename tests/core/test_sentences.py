"""Every sentence says what its combination is, and no word means two things."""

from __future__ import annotations

import re

import pytest
import torch
from pyramid_video.recipes.emoji import motion_words, wording
from pyramid_video.recipes.emoji.sentences import sentence
from pyramid_video.training.data.captions import BACKGROUNDS, MOTIONS, SIZES, Combination
from pyramid_video.training.data.datasets import split_combinations


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("combination", split_combinations(["elephant"], "all")[::7])
def test_sentences_are_varied_and_never_name_anything_else(combination):
    rng = generator()
    sentences = {sentence(combination, rng).lower() for _ in range(200)}
    assert len(sentences) > 150
    for text in sentences:
        assert any(name in text for name in ("elephant", *wording.SUBJECTS["elephant"]))
        assert any(name in text for name in (combination.background, *wording.COLOURS[combination.background]))
        words = set(re.findall(r"[a-z]+", text))
        assert not words & set(BACKGROUNDS) - {combination.background}
        assert not words & set(SIZES) - {combination.size}


@pytest.mark.parametrize("motion", MOTIONS)
def test_sentences_say_the_motion_and_no_other(motion):
    rng = generator(1)
    named = [
        {name, *(word + end for word in (name, compass) for end in ("", "ward", "wards"))}
        for name, compass in (("left", "west"), ("right", "east"))
    ]
    texts = [sentence(Combination("penguin", "green", motion), rng).lower() for _ in range(300)]
    for text in texts:
        words = re.findall(r"[a-z]+", text.replace("right-hand", "right").replace("left-hand", "left"))
        sides = [max((i for i, word in enumerate(words) if word in side), default=-1) for side in named]
        left_and_right = min(sides) >= 0
        if motion == "left":
            assert sides[0] > sides[1] or "from the right" in text
        elif motion == "right":
            assert sides[1] > sides[0] or "from the left" in text
        else:
            assert not left_and_right and max(sides) < 0
    assert len(set(texts)) > 250


@pytest.mark.parametrize(
    "table", [wording.COLOURS, wording.SIZES, motion_words.PHRASES, motion_words.WAYS, wording.SUBJECTS]
)
def test_no_wording_means_two_things(table):
    """A sentence with such a word would teach that the two are the same."""
    meanings: dict[object, set[str]] = {}
    for meaning, words in table.items():
        for word in words:
            meanings.setdefault(word, set()).add(meaning)
    assert not {word: found for word, found in meanings.items() if word and len(found) > 1}


def test_all_that_a_sentence_says_has_words():
    assert set(wording.COLOURS) == set(BACKGROUNDS) and set(wording.SIZES) == set(SIZES)
    for table in (motion_words.PLAIN, motion_words.PHRASES, motion_words.LOOSE):
        assert set(table) == set(MOTIONS)
    assert set(motion_words.WAYS) == set(MOTIONS) - {"still"}
