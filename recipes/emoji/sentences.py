"""What a clip shows, said in more ways than a run can read: names, verbs and sentences joined at random.

A sentence has up to three parts: who (in a size, perhaps with a harmless adjective), what it does, and before which
colour. Where `captions.caption` has some hundred wordings of a combination, here are millions, so that a text encoder
learns words and not sentences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from ...training.data.captions import BACKGROUNDS, Combination, with_article
from . import motion_words, templates, wording

PLAIN_SHARE = 0.3  # of the sentences use the plainest word for each thing
UNSAID = "white"  # the background of a sentence that names none
STYLES = ("lower",) * 4 + ("sentence", "stop", "upper")
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def sentence(combination: Combination, generator: torch.Generator) -> str:
    """Say what a clip shows, in wording drawn from `generator`."""
    plain = float(torch.rand((), generator=generator)) < PLAIN_SHARE
    words = Words(generator, plain)
    doing, does, loose = words.motion(combination.motion)
    still = combination.motion == "still"
    forms = templates.TEMPLATES
    if loose:
        forms = templates.LOOSE_TEMPLATES
    elif still and not plain:
        forms = forms + templates.STILL_TEMPLATES
    if doing and " " not in doing and not plain and words.choose((True, False, False)):
        forms = templates.ATTRIBUTE_TEMPLATES
    form = words.choose(forms)
    colour = words.colour(combination.background)
    before = words.choose(templates.BEFORE).format(colour=colour, a_colour=with_article(colour))
    if not plain and words.choose((True,) + (False,) * 9):
        before = words.choose(wording.SCENES[combination.background])
    subject = words.subject(combination, marked="{before}" in form or "background" in form)
    return words.finished(_fill(form, subject, doing, does, loose, colour, before))


def unfinished(combination: Combination, generator: torch.Generator) -> tuple[str, Combination]:
    """A sentence that says nothing of the background, and what is meant: the same before `UNSAID`."""
    words = Words(generator, float(torch.rand((), generator=generator)) < PLAIN_SHARE)
    doing, does, loose = words.motion(combination.motion)
    forms = templates.BARE_TEMPLATES
    if combination.motion == "still":
        forms = forms + templates.STILL_BARE_TEMPLATES
    if loose:
        forms = templates.LOOSE_BARE_TEMPLATES
    text = _fill(words.choose(forms), words.subject(combination), doing, does, loose)
    return words.finished(text), replace(combination, background=UNSAID)


def flaws(generator: torch.Generator) -> str:
    """What a negative prompt lists: nothing that a clip could show."""
    words = Words(generator, False)
    count = int(torch.randint(1, 9, (), generator=generator))
    return ", ".join(words.choose(wording.FLAWS) for _ in range(count))


def _fill(form: str, subject: str, doing: str, does: str, loose: str, colour: str = "", before: str = "") -> str:
    return form.format(
        subject=subject,
        a_subject=with_article(subject),
        before=before,
        colour=colour,
        a_colour=with_article(colour) if colour else "",
        doing=doing,
        a_doing=with_article(doing) if doing else "",
        does=does,
        loose=loose,
    )


@dataclass(frozen=True)
class Words:
    """Words drawn from `generator`; with `plain` the plainest ones."""

    generator: torch.Generator
    plain: bool

    def choose(self, options: Sequence):
        return options[int(torch.randint(len(options), (), generator=self.generator))]

    def subject(self, combination: Combination, marked: bool = False) -> str:
        """The subject with its size, such as 'tiny striped tiger'.

        Where the background is `marked` as one, the subject may be given any colour, which changes nothing.
        """
        name = combination.subject
        if self.plain:
            size = "" if combination.size == "medium" else combination.size
            return f"{size} {name}".strip()
        names = (name,) * 4 + wording.SUBJECTS.get(name, ())
        adjectives = ("",) * 20 + wording.ADJECTIVES + wording.OWN_COLOURS.get(name, ()) * 3
        if marked:
            adjectives = adjectives + tuple(BACKGROUNDS)
        return " ".join(
            filter(None, (self.choose(wording.SIZES[combination.size]), self.choose(adjectives), self.choose(names)))
        )

    def colour(self, background: str) -> str:
        """A name of the background's colour."""
        return background if self.plain else self.choose((background,) * 5 + wording.COLOURS[background])

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
        manner = "" if motion == "still" else self.choose(("",) * 4 * len(motion_words.MANNERS) + motion_words.MANNERS)
        return f"{doing} {manner}".strip(), f"{does} {manner}".strip(), ""

    def finished(self, text: str) -> str:
        """The sentence as it is typed: with words of quality behind it, a slip of the finger, capitals."""
        if not self.plain and self.choose((True,) + (False,) * 7):
            count = int(torch.randint(1, 4, (), generator=self.generator))
            text = ", ".join((text, *(self.choose(wording.QUALITY) for _ in range(count))))
        if not self.plain and self.choose((True,) + (False,) * 19):
            text = self._mistyped(text)
        style = self.choose(STYLES)
        if style in ("sentence", "stop"):
            text = text[0].upper() + text[1:]
        if style == "stop" and not text.endswith("."):
            text += "."
        return text.upper() if style == "upper" and self.choose((True, False, False)) else text

    def _mistyped(self, text: str) -> str:
        """One letter lost, doubled or changed, in a word of six and more."""
        words = text.split(" ")
        long = [place for place, word in enumerate(words) if len(word) > 5 and word.isalpha()]
        if not long:
            return text
        place = self.choose(long)
        word = words[place]
        at = int(torch.randint(1, len(word) - 1, (), generator=self.generator))
        words[place] = word[:at] + self.choose(("", 2 * word[at], self.choose(LETTERS))) + word[at + 1 :]
        return " ".join(words)
