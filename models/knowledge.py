"""What the small models were made for, by the table beside their weights, and what of a request is new to them.

The table `knows.json` has an entry for each file that has something to say; models that users train have none.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TABLE = Path(__file__).resolve().parent / "pretrained" / "knows.json"
WORD = re.compile(r"[^\W\d_]+")


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
    double: bool = False  # clips of twice these sides, too

    def doubts(self, name: str, latent_frames: int, rows: int, columns: int, stages: int | None = None) -> list[str]:
        """A sentence where the latent `(latent_frames, rows, columns)` is not of this kind; else none.

        A longer clip is not new: it goes on.
        """
        width, height, frames = columns * self.cell, rows * self.cell, (latent_frames - 1) * self.step + 1
        known_sizes = [(times * self.width, times * self.height) for times in ((1, 2) if self.double else (1,))]
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
    synonyms: Mapping[str, str]  # another word -> the subject
    backgrounds: Sequence[str]
    motions: Sequence[str]
    words: Sequence[str]  # all others of its captions
    colours: Mapping[str, str] = field(default_factory=dict)  # another name -> the background; names of places, too
    unsaid: str | None = None  # the background where none is named; None: it must be named

    def doubts(self, prompt: str) -> list[str]:
        """A sentence for what the prompt lacks or has that was in no caption; none for an empty prompt.

        It begins with "it", as the model's name is not known here.
        """
        words = WORD.findall(prompt.lower())
        if not words:
            return []
        text = f" {' '.join(words)} "
        named, rest = taken_out(text, [*self.subjects, *self.synonyms])
        found, _ = taken_out(rest, [*self.backgrounds, *self.colours])
        colours = {self.colours.get(name, name) for name in found}
        doubts = []
        if not named:
            doubts.append(f"it knows only these subjects: {', '.join(self.subjects)}")
        if not colours:
            backgrounds = ", ".join(self.backgrounds)
            doubts.append(
                f"it wants a background: {backgrounds}"
                if self.unsaid is None
                else f"no background is named, so it is {self.unsaid}; others: {backgrounds}"
            )
        if len(colours) > 1:
            doubts.append("its colours are those of backgrounds, of which a clip has one; a subject keeps its own")
        known = {*self.backgrounds, *self.motions, *self.words, *WORD.findall(" ".join(named))}
        new = [word for word in dict.fromkeys(words) if word not in known and word.rstrip("s") not in known]
        if new and named:
            doubts.append(f"it never met {', '.join(new[:8])}")
        return doubts


def taken_out(text: str, names: Sequence[str]) -> tuple[list[str], str]:
    """Which of `names` stand in `text`, the longest first, and the text without them: 'dark blue' is not 'dark'."""
    found = []
    for name in sorted(names, key=len, reverse=True):
        text, times = re.subn(rf" {re.escape(name)}(s|es)? ", " / ", text)
        found += [name] * bool(times)
    return found, text


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
