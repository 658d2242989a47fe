"""What is in a clip, and the many ways to say it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

Option = TypeVar("Option")

# The colours keep clear of one another, so that a border names its background with certainty.
BACKGROUNDS = {
    "red": (214, 40, 40),
    "orange": (245, 130, 20),
    "yellow": (250, 220, 50),
    "green": (40, 150, 60),
    "blue": (35, 70, 205),
    "purple": (125, 40, 160),
    "white": (255, 255, 255),
    "black": (0, 0, 0),
}
MOTIONS = {"still": (0, 0), "left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}  # (x, y), y downwards
SIZES = {"small": 0.42, "medium": 0.54, "large": 0.68}  # longer side of the subject, as a part of the frame

UNICODE_TO_PLAIN = {"sun with face": "sun"}
SYNONYMS = {
    "rabbit": ("bunny",),
    "honeybee": ("bee",),
    "baby chick": ("chick",),
    "racing car": ("race car",),
    "birthday cake": ("cake",),
    "christmas tree": ("xmas tree",),
}
SIZE_WORDS = {"small": ("small", "little", "tiny"), "medium": ("",), "large": ("large", "big", "huge")}
DOING = {
    "still": ("standing still", "staying still", "not moving", "keeping still"),
    "left": ("moving left", "moving to the left", "going left", "travelling to the left", "moving from right to left"),
    "right": (
        "moving right",
        "moving to the right",
        "going right",
        "travelling to the right",
        "moving from left to right",
    ),
    "up": ("moving up", "moving upwards", "going up", "rising", "travelling up"),
    "down": ("moving down", "moving downwards", "going down", "sinking", "travelling down"),
}
DOES = {
    "still": ("stands still", "stays still", "does not move", "keeps still"),
    "left": ("moves left", "moves to the left", "goes left", "travels left", "slides to the left"),
    "right": ("moves right", "moves to the right", "goes right", "travels right", "slides to the right"),
    "up": ("moves up", "moves upwards", "goes up", "rises", "slides up"),
    "down": ("moves down", "moves downwards", "goes down", "sinks", "slides down"),
}
TEMPLATES = (
    "{a_subject} {doing} on {a_background} background",
    "{a_subject} {does} on {a_background} background",
    "{a_subject} {doing} in front of {a_background} background",
    "{a_subject} {does} in front of {background}",
    "{a_subject} {doing} against {a_background} backdrop",
    "{a_subject} {doing} on {background}",
    "{background} background, {subject}, {does}",
    "{background} background, {a_subject} {doing}",
    "{subject}, {background} background, {doing}",
    "{subject} {doing}, {background} background",
    "the {subject} {does}. The background is {background}.",
    "on {a_background} background {a_subject} {does}",
    "a video of {a_subject} {doing} on {a_background} background",
    "a short clip of {a_subject} that {does}, with {a_background} background behind it",
    "an animation of {a_subject} {doing} on {a_background} background",
)
STILL_TEMPLATES = ("{a_subject} on {a_background} background", "{subject} on {background}")


@dataclass(frozen=True)
class Combination:
    """What one clip shows: names as in `BACKGROUNDS`, `MOTIONS` and `SIZES`."""

    subject: str
    background: str
    motion: str
    size: str = "medium"

    def __post_init__(self) -> None:
        for value, known, what in (
            (self.background, BACKGROUNDS, "background"),
            (self.motion, MOTIONS, "motion"),
            (self.size, SIZES, "size"),
        ):
            if value not in known:
                raise ValueError(f"unknown {what} {value!r}; expected one of {', '.join(known)}")


def subject_name(stem: str) -> str:
    """Name the subject of a file: '1f405' is 'tiger' (Unicode's own name), 'my_red-fox' is 'my red fox'."""
    words = stem.lower().split("-")
    if any(c.isdigit() for c in stem) and all(re.fullmatch(r"[0-9a-f]{4,6}", word) for word in words):
        characters = [chr(int(word, 16)) for word in words if int(word, 16) <= 0x10FFFF]
        names = [unicodedata.name(c, "").lower() for c in characters if c not in "\ufe0f\u200d"]
        if names and all(names):
            name = " ".join(names)
            return UNICODE_TO_PLAIN.get(name, name)
    return " ".join(re.split(r"[-_\s]+", stem.lower()))


def caption(combination: Combination, generator: torch.Generator) -> str:
    """Say what a clip shows, in wording drawn from `generator`."""
    templates = TEMPLATES + STILL_TEMPLATES if combination.motion == "still" else TEMPLATES
    text = _fill(
        _choose(templates, generator),
        combination,
        subject=_choose((combination.subject,) * 2 + SYNONYMS.get(combination.subject, ()), generator),
        size=_choose(SIZE_WORDS[combination.size], generator),
        doing=_choose(DOING[combination.motion], generator),
        does=_choose(DOES[combination.motion], generator),
    )
    style = _choose(("lower", "lower", "sentence", "stop", "upper"), generator)
    if style in ("sentence", "stop"):
        text = text[0].upper() + text[1:]
    if style == "stop" and not text.endswith("."):
        text += "."
    return text.upper() if style == "upper" and _choose((True, False, False), generator) else text


def _fill(template: str, combination: Combination, subject: str, size: str, doing: str, does: str) -> str:
    subject = f"{size} {subject}".strip()
    return template.format(
        subject=subject,
        a_subject=with_article(subject),
        background=combination.background,
        a_background=with_article(combination.background),
        doing=doing,
        does=does,
    )


def with_article(words: str) -> str:
    """The words behind "a" or "an"."""
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def _choose(options: Sequence[Option], generator: torch.Generator) -> Option:
    return options[int(torch.randint(len(options), (), generator=generator))]
