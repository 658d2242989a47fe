"""The words that the text encoder of the small models has read, for the table from which a sampler says what is new."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ...models.knowledge import WORD
from ...training.data import captions
from . import motion_words, templates, wording
from .recipe import SUBJECTS
from .sentences import UNSAID


def vocabulary() -> dict[str, Any]:
    """The fields of `models.knowledge.Vocabulary`."""
    return {
        "subjects": list(SUBJECTS),
        "synonyms": meanings({name: (*captions.SYNONYMS.get(name, ()), *wording.SUBJECTS[name]) for name in SUBJECTS}),
        "backgrounds": list(captions.BACKGROUNDS),
        "colours": meanings(wording.COLOURS),
        "places": places(),
        "own_colours": {name: sorted(colours_of(name)) for name in SUBJECTS},
        "unsaid": UNSAID,
        "directions": [motion for motion in captions.MOTIONS if motion != "still"],
        "verbs": sorted({" ".join(words_of(verb)) for pair in motion_words.GOING for verb in pair}),
        "motions": said_motions(),
        "words": sorted({word for text in read_texts() for word in words_of(text)}),
    }


def places() -> dict[str, str]:
    """The places of `wording.SCENES`, whole and by their last word, where that word says nothing else."""
    ends: dict[str, set[str]] = {}
    for colour, scenes in wording.SCENES.items():
        for scene in scenes:
            ends.setdefault(words_of(scene)[-1], set()).add(colour)
    others = {word for text in (*motion_texts(), *forms()) for word in words_of(text)}
    last = {word: colours.pop() for word, colours in ends.items() if len(colours) == 1 and word not in others}
    return {**meanings(wording.SCENES), **last}


def colours_of(subject: str) -> set[str]:
    """The colours of backgrounds that a subject has itself."""
    other_names = meanings(wording.COLOURS)
    named = {word for colours in wording.OWN_COLOURS[subject] for word in words_of(colours)}
    return {other_names.get(name, name) for name in named} & set(captions.BACKGROUNDS)


def said_motions() -> list[str]:
    """What says a motion by itself, without what holds a shorter one."""
    said = {" ".join(words_of(text)) for text in motion_texts()}
    return sorted(text for text in said if not any(f" {other} " in f" {text} " for other in said - {text}))


def motion_texts() -> set[str]:
    pairs = [pair for table in (motion_words.PLAIN, motion_words.PHRASES) for group in table.values() for pair in group]
    tables = (motion_words.WAYS, motion_words.LOOSE, captions.DOING, captions.DOES)
    return {verb for pair in pairs for verb in pair} | {
        text for table in tables for group in table.values() for text in group
    }


def forms() -> list[str]:
    """The sentences with nothing in their gaps."""
    groups = (*templates.ALL, captions.TEMPLATES, captions.STILL_TEMPLATES)
    return [form.format_map(Nothing()) for group in groups for form in group]


def meanings(table: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """Another name of something -> its own name."""
    return {" ".join(words_of(name)): meaning for meaning, names in table.items() for name in names}


def words_of(text: str) -> list[str]:
    return WORD.findall(text.lower())


def read_texts() -> list[str]:
    """Everything that a sentence may hold besides its subject."""
    tables = (captions.SIZE_WORDS, wording.SIZES, wording.COLOURS, wording.SCENES, wording.OWN_COLOURS)
    return [
        *forms(),
        *motion_texts(),
        *captions.BACKGROUNDS,
        *(verb for pair in motion_words.GOING for verb in pair),
        *(text for table in tables for texts in table.values() for text in texts),
        *(*motion_words.MANNERS, *wording.ADJECTIVES, *wording.QUALITY, *wording.FLAWS),
    ]


class Nothing(dict):
    """Fills every gap of a form with a space."""

    def __missing__(self, name: str) -> str:
        return " "
