"""Every sentence says what its combination is, and no word means two things."""

from __future__ import annotations

import re

import pytest
import torch
from pyramid_video.recipes.emoji import motion_words, wording
from pyramid_video.recipes.emoji.recipe import SUBJECTS
from pyramid_video.recipes.emoji.sentences import UNSAID, Words, flaws, sentence, unfinished
from pyramid_video.training.data.captions import BACKGROUNDS, MOTIONS, SIZES, Combination
from pyramid_video.training.data.datasets import split_combinations


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(autouse=True)
def no_slips(monkeypatch):
    monkeypatch.setattr(Words, "_mistyped", lambda words, text: text)


@pytest.mark.parametrize("combination", split_combinations(["elephant"], "all")[::7])
def test_sentences_are_varied_and_never_name_anything_else(combination):
    rng = generator()
    texts = {sentence(combination, rng).lower() for _ in range(200)}
    assert len(texts) > 150
    named = ("elephant", *wording.SUBJECTS["elephant"])
    places = (combination.background, *wording.COLOURS[combination.background], *wording.SCENES[combination.background])
    of_subject = re.compile(rf"\b({'|'.join(BACKGROUNDS)}) (?={'|'.join(named)})")
    for text in texts:
        assert any(name in text for name in named)
        text = of_subject.sub("", text)  # a colour of the subject changes nothing
        assert any(place in text for place in places)
        words = set(re.findall(r"[a-z]+", text))
        assert not words & set(BACKGROUNDS) - {combination.background}
        assert not words & set(SIZES) - {combination.size}


def test_a_colour_is_given_to_a_subject_only_where_the_background_is_marked_as_one():
    rng, subject = generator(2), Combination("snail", "red", "still")
    coloured = [Words(rng, False).subject(subject, marked=True) for _ in range(500)]
    plain = [Words(rng, False).subject(subject) for _ in range(500)]
    assert any("purple" in text for text in coloured) and not any("purple" in text for text in plain)


def test_an_unfinished_sentence_means_a_plain_background():
    rng = generator(3)
    for motion in MOTIONS:
        text, meant = unfinished(Combination("pig", "red", motion, "large"), rng)
        assert meant == Combination("pig", UNSAID, motion, "large")
        assert not set(re.findall(r"[a-z]+", text.lower())) & {*BACKGROUNDS, "background"}


def test_flaws_name_nothing_that_a_clip_shows():
    words = " ".join(flaws(generator(seed)) for seed in range(50)).split()
    assert not {word.strip(",") for word in words} & {*SUBJECTS, *BACKGROUNDS, *SIZES}


def test_a_slip_changes_one_word_by_one_letter(monkeypatch):
    monkeypatch.undo()
    text = "a tremendous elephant wandering about"
    for seed in range(20):
        slip = Words(generator(seed), False)._mistyped(text)
        changed = [(old, new) for old, new in zip(text.split(), slip.split(), strict=True) if old != new]
        assert len(changed) <= 1 and all(abs(len(old) - len(new)) <= 1 for old, new in changed)


@pytest.mark.parametrize("motion", MOTIONS)
def test_sentences_say_the_motion_and_no_other(motion):
    rng = generator(1)
    named = [
        {name, *(word + end for word in (name, compass) for end in ("", "ward", "wards", "bound"))}
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
    "table",
    [wording.COLOURS, wording.SCENES, wording.SIZES, motion_words.PHRASES, motion_words.WAYS, wording.SUBJECTS],
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
