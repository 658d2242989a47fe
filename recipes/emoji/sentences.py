"""What a clip shows, said in more ways than a run can read: names, verbs and sentences joined at random.

A sentence has up to three parts: who (in a size, perhaps with a harmless adjective), what it does, and before which
colour. Where `captions.caption` has some hundred wordings of a combination, here are millions, so that a text encoder
learns words and not sentences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ...training.data.captions import Combination, with_article
from . import motion_words, wording

PLAIN_SHARE = 0.3  # of the sentences use the plainest word for each thing
STYLES = ("lower",) * 4 + ("sentence", "stop", "upper")


def sentence(combination: Combination, generator: torch.Generator) -> str:
    """Say what a clip shows, in wording drawn from `generator`."""
    plain = float(torch.rand((), generator=generator)) < PLAIN_SHARE
    words = Words(generator, plain)
    subject = words.subject(combination)
    doing, does, loose = words.motion(combination.motion)
    colour = words.colour(combination.background)
    templates = wording.TEMPLATES
    if loose:
        templates = wording.LOOSE_TEMPLATES
    elif combination.motion == "still" and not plain:
        templates = templates + wording.STILL_TEMPLATES
    text = words.choose(templates).format(
        subject=subject,
        a_subject=with_article(subject),
        before=words.choose(wording.BEFORE).format(colour=colour, a_colour=with_article(colour)),
        colour=colour,
        a_colour=with_article(colour),
        doing=doing,
        does=does,
        loose=loose,
    )
    return _in_style(text, words.choose(STYLES), words)


@dataclass(frozen=True)
class Words:
    """Words drawn from `generator`; with `plain` the plainest ones."""

    generator: torch.Generator
    plain: bool

    def choose(self, options: Sequence):
        return options[int(torch.randint(len(options), (), generator=self.generator))]

    def subject(self, combination: Combination) -> str:
        """The subject with its size, such as 'tiny striped tiger'."""
        name = combination.subject
        if self.plain:
            size = "" if combination.size == "medium" else combination.size
            return f"{size} {name}".strip()
        names = (name,) * 2 + wording.SUBJECTS.get(name, ())
        adjectives = ("",) * 6 + wording.ADJECTIVES + wording.OWN_COLOURS.get(name, ())
        return " ".join(
            filter(None, (self.choose(wording.SIZES[combination.size]), self.choose(adjectives), self.choose(names)))
        )

    def colour(self, background: str) -> str:
        """A name of the background's colour."""
        return background if self.plain else self.choose((background,) * 3 + wording.COLOURS[background])

    def motion(self, motion: str) -> tuple[str, str, str]:
        """'moving left', 'moves left' and, in their place, an apposition such as 'leftwards' (or nothing)."""
        if self.plain:
            does, doing = self.choose(motion_words.PLAIN[motion])
            return doing, does, ""
        loose = self.choose(("",) * 5 + (motion_words.LOOSE[motion],))
        if loose:
            return "", "", self.choose(loose)
        phrases = motion_words.PHRASES[motion]
        if motion != "still" and self.choose((True, False)):
            does, doing = self.choose(motion_words.GOING)
            way = self.choose(motion_words.WAYS[motion])
            doing, does = f"{doing} {way}", f"{does} {way}"
        else:
            does, doing = self.choose(phrases)
        manner = "" if motion == "still" else self.choose(("",) * 4 + motion_words.MANNERS)
        return f"{doing} {manner}".strip(), f"{does} {manner}".strip(), ""


def _in_style(text: str, style: str, words: Words) -> str:
    if style in ("sentence", "stop"):
        text = text[0].upper() + text[1:]
    if style == "stop" and not text.endswith("."):
        text += "."
    return text.upper() if style == "upper" and words.choose((True, False, False)) else text
