"""What the small models were made for, by the table beside their weights, and what of a request is new to them.

The table `knows.json` has an entry for each file that has something to say; models that users train have none.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TABLE = Path(__file__).resolve().parent / "pretrained" / "knows.json"
WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")
ALIKE = str.maketrans({"’": "'", "-": " "})
WORD_OR_SIGN = re.compile(rf"{WORD.pattern}|[^\w\s]")


@dataclass(frozen=True)
class Clips:
    """The clips that a model was trained on: sides in pixels, length in frames, and stages of its pyramid.

    `cell` pixels are one latent pixel wide; a latent frame after the first stands for `step` frames.
    """

    width: int
    height: int
    frames: int
    cell: int
    step: int
    stages: int | None = None
    half: bool = False  # clips of half these sides, too

    def doubts(self, name: str, latent_frames: int, rows: int, columns: int, stages: int | None = None) -> list[str]:
        """A sentence where the latent `(latent_frames, rows, columns)` is not of this kind; else none.

        A longer clip is not new: it goes on.
        """
        width, height, frames = columns * self.cell, rows * self.cell, (latent_frames - 1) * self.step + 1
        known_sizes = [(self.width // part, self.height // part) for part in ((1, 2) if self.half else (1,))]
        unusual = [] if (width, height) in known_sizes else [f"{width}x{height} pixels"]
        if stages is not None and self.stages is not None and stages != self.stages:
            unusual.append(f"{stages} stage{'s' * (stages > 1)}")
        if frames < self.frames:
            unusual.append("a single frame" if frames == 1 else f"{frames} frames")
        if not unusual:
            return []
        sizes = " or ".join(f"{width}x{height}" for width, height in known_sizes)
        known = f"{sizes} pixels, {self.frames} frames"
        known += "" if self.stages is None else f" and {self.stages} stages"
        return [
            f"{name} learned clips of {known}; "
            f"{' and '.join(unusual)} {'is' if len(unusual) == 1 else 'are'} new to it."
        ]


@dataclass(frozen=True)
class Vocabulary:
    """What a text encoder and the models that learned with it know."""

    subjects: Sequence[str]
    synonyms: Mapping[str, str]  # another name -> the subject
    backgrounds: Sequence[str]
    colours: Mapping[str, str]  # another name -> the background
    places: Mapping[str, str]  # what has a colour of its own -> the background
    own_colours: Mapping[str, Sequence[str]]  # of the subjects
    unsaid: str  # the background where none is named
    directions: Sequence[str]
    verbs: Sequence[str]  # that need a direction
    motions: Sequence[str]  # what says where something moves, or that it does not
    words: Sequence[str]  # everything that its captions hold

    def doubts(self, prompt: str) -> list[str]:
        """A sentence for what the prompt lacks or has that was in no caption.

        It begins with "it", or needs no subject, as the model's name is not known here.
        """
        text = f" {' '.join(WORD_OR_SIGN.findall(prompt.lower().translate(ALIKE)))} "
        words = [word.removesuffix("'s") for word in WORD.findall(text)]
        if not words:
            lack = "has no words" if prompt.strip() else "is empty"
            return [f"the prompt {lack}, so the clip shows anything that it knows"]
        text, subjects, colours, painted = self._named(text)
        if not colours:
            for name in sorted(self.places, key=len, reverse=True):  # 'in a sea of blood' is not 'sea'
                colours |= {self.places[name]} if f" {name} " in text else set()
                text = text.replace(f" {name} ", " / ")
        moves = any(f" {verb} " in text for verb in self.verbs) and not any(f" {way} " in text for way in self.motions)
        known = {*self.words, *WORD.findall(" ".join((*self.subjects, *self.synonyms)))}
        new = [word for word in dict.fromkeys(words) if word not in known and word.rstrip("s") not in known]
        backgrounds = ", ".join(self.backgrounds)
        doubts = {
            f"it knows only these subjects: {', '.join(self.subjects)}": not subjects,
            "a clip has one subject": len(subjects) > 1,
            f"no background that it knows is named, and without one it is {self.unsaid}: {backgrounds}": not colours,
            "a clip has one background": len(colours) > 1,
            "a subject keeps its own colours": painted,
            f"no direction is named, so it stands still: {', '.join(self.directions)}": moves,
            f"it never met {', '.join(new[:8])}": bool(new and subjects),
        }
        return [doubt for doubt, holds in doubts.items() if holds]

    def _named(self, text: str) -> tuple[str, set[str], set[str], bool]:
        """The text without names, and what is named: subjects, backgrounds, whether a subject is given a new colour.

        A colour right before a subject is the subject's. The longest names count: 'dark blue' is not 'dark'.
        """
        subjects = {**{name: name for name in self.subjects}, **self.synonyms}
        colours = {**{name: name for name in self.backgrounds}, **self.colours}
        names = sorted({*subjects, *colours}, key=len, reverse=True)
        for number, name in enumerate(names):
            if f" {name}" in text:  # patterns for all names would take as long to make as a text to encode
                text = re.sub(rf" {re.escape(name)}(?:s|es)?(?='s | )", f" #{number}", text)
        found: set[str] = set()
        backgrounds: set[str] = set()
        painted, owner = False, None  # the subject right behind
        for mark in reversed(text.split()):
            named = names[int(mark[1:].removesuffix("'s"))] if mark.startswith("#") and len(mark) > 1 else None
            if named in subjects:
                owner = subjects[named]
                found.add(owner)
            elif named is not None and owner is not None:
                painted |= colours[named] not in self.own_colours[owner]
            elif named is not None:
                backgrounds.add(colours[named])
            elif mark != "and":
                owner = None
        return text, found, backgrounds, painted


@dataclass(frozen=True)
class Knowledge:
    """One entry of the table; a file says of itself what it can."""

    clips: Clips | None = None
    vocabulary: Vocabulary | None = None
    start: str | None = None  # the pictures that a clip may begin with


def knowledge_of(path: Path) -> Knowledge:
    """What the table says of a bundled file; nothing of any other."""
    if not path.resolve().is_relative_to(TABLE.parent):
        return Knowledge()
    return read_table().get(f"{path.parent.name}/{path.name}", Knowledge())


@functools.cache
def read_table() -> dict[str, Knowledge]:
    """The table, by `folder/file`."""
    return {name: read_entry(entry) for name, entry in json.loads(TABLE.read_text("utf-8")).items()}


def read_entry(entry: dict[str, Any]) -> Knowledge:
    clips, vocabulary = entry.get("clips"), entry.get("vocabulary")
    return Knowledge(
        None if clips is None else Clips(**clips),
        None if vocabulary is None else Vocabulary(**vocabulary),
        entry.get("start"),
    )
