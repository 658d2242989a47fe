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
    colours = {colour: (*wording.COLOURS[colour], *wording.SCENES[colour]) for colour in captions.BACKGROUNDS}
    return {
        "subjects": list(SUBJECTS),
        "synonyms": meanings({name: (*captions.SYNONYMS.get(name, ()), *wording.SUBJECTS[name]) for name in SUBJECTS}),
        "backgrounds": list(captions.BACKGROUNDS),
        "colours": meanings(colours),
        "unsaid": UNSAID,
        "motions": list(captions.MOTIONS),
        "words": sorted({word for text in read_texts() for word in words_of(text)}),
    }


def meanings(table: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """Another name of something -> its own name."""
    return {" ".join(words_of(name)): meaning for meaning, names in table.items() for name in names}


def words_of(text: str) -> list[str]:
    return WORD.findall(text.lower())


def read_texts() -> list[str]:
    """Everything that a sentence may hold besides its subject."""
    forms = [
        form.format_map(Nothing())
        for group in (*templates.ALL, captions.TEMPLATES, captions.STILL_TEMPLATES)
        for form in group
    ]
    verbs = [
        word
        for table in (motion_words.PLAIN, motion_words.PHRASES)
        for pairs in table.values()
        for pair in pairs
        for word in pair
    ]
    tables = (
        motion_words.WAYS, motion_words.LOOSE, captions.DOING, captions.DOES, captions.SIZE_WORDS,
        wording.SIZES, wording.COLOURS, wording.SCENES, wording.OWN_COLOURS,
    )  # fmt: skip
    return [
        *forms,
        *verbs,
        *(word for pair in motion_words.GOING for word in pair),
        *(text for table in tables for texts in table.values() for text in texts),
        *(*motion_words.MANNERS, *wording.ADJECTIVES, *wording.QUALITY, *wording.FLAWS),
    ]


class Nothing(dict):
    """Fills every gap of a form with a space."""

    def __missing__(self, name: str) -> str:
        return " "
