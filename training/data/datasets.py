"""Clips with captions to learn from."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import InitVar, asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from ...models.near_names import near_or_known
from ..presets import SPLITS
from .animations import Sprite, draw_sprite, find_animations, load_sprite
from .cache_files import digest
from .captions import BACKGROUNDS, MOTIONS, SIZES, Combination, caption, subject_name

OnLoad = Callable[[int, int], None]  # (done, total), after each animation
HELD_OUT = 10  # one combination in this many is never trained on

TRAVEL = 0.375  # of the frame, from the first picture to the last
SMALLEST_SIZE = 16  # below, a small subject is a few pixels of noise


class VideoDataset(Protocol):
    """Where a training run gets clips from. Videos are (n, 3, frames, size, size) in -1..1."""

    size: int
    frames: int
    fps: float

    def sample(self, generator: torch.Generator, count: int) -> tuple[Tensor, list[str], Sequence[Hashable]]:
        """Draw `count` clips, their captions, and what they are (equal things are equal subjects of a clip)."""
        ...

    # What a cache asks for, see `latent_cache`:

    def fingerprint(self, on_read: OnLoad | None = None) -> str:
        """A key of all that clips and captions depend on: files and settings.

        `on_read(done, total)` is called while files are read; what it raises ends the work.
        """
        ...

    def bucket_counts(self, clips: int) -> dict[tuple[int, int], int]:
        """How many clips of each height and width make up a fixed set of about `clips`."""
        ...

    def draw(self, generator: torch.Generator, shape: tuple[int, int], index: int) -> tuple[Tensor, str, Any]:
        """Draw clip `index` of that bucket: video (3, t, h, w) in -1..1, caption, label (a plain JSON value)."""
        ...

    def advance_rng(self, generator: torch.Generator, shape: tuple[int, int], index: int) -> None:
        """Take from the generator what `draw` would, without making the clip."""
        ...

    def caption_for(self, label: Any, generator: torch.Generator) -> str:
        """Say what the clip of that label shows, in new words where there are any."""
        ...


@dataclass(frozen=True)
class AnimationDataset:
    """Clips of a folder's transparent animations: subject x background x motion x size.

    The file name tells the subject (`captions.subject_name`); of two files with one name the first counts. `subjects`
    None takes all that can be read; `left_out` says why others are not. Clips are `size` pixels square. A tenth of the
    combinations, the same on every machine, is kept for the test. `on_load(done, total)` is called after each
    animation is decoded. Raises ValueError for a named animation that cannot be read, or when none can.
    """

    folder: Path
    subjects: Sequence[str] | None = None
    size: int = 64
    frames: int = 17
    fps: float = 8.0
    split: str = "train"
    on_load: InitVar[OnLoad | None] = None
    combinations: tuple[Combination, ...] = field(init=False, repr=False, compare=False)
    sprites: Mapping[str, Sprite] = field(init=False, repr=False, compare=False)
    left_out: tuple[str, ...] = field(init=False, repr=False, compare=False)  # path and reason of each

    def __post_init__(self, on_load: OnLoad | None) -> None:
        if self.size < SMALLEST_SIZE:
            raise ValueError(
                f"clips of {self.size} pixels are too small to show anything; the least is {SMALLEST_SIZE}"
            )
        if self.frames < 1 or not self.fps > 0:
            raise ValueError(f"got {self.frames} frames at {self.fps} frames a second; both must be above 0")
        if self.split not in SPLITS:
            raise ValueError(f"unknown split {self.split!r}; expected one of {', '.join(SPLITS)}")
        files = choose_files(self.folder, self.subjects)
        side = math.ceil(2 * max(SIZES.values()) * self.size)  # twice what is drawn keeps edges sharp at every size
        sprites, left_out = {}, []
        for done, (subject, path) in enumerate(files.items(), 1):
            try:
                sprites[subject] = load_sprite(path, side)
            except ValueError as error:
                left_out.append(str(error))
                if self.subjects is not None or len(left_out) == len(files):
                    raise
            if on_load is not None:
                on_load(done, len(files))
        for name, value in (
            ("folder", Path(self.folder)),
            ("subjects", tuple(sprites)),
            ("combinations", split_combinations(sprites, self.split)),
            ("sprites", sprites),
            ("left_out", tuple(left_out)),
        ):
            object.__setattr__(self, name, value)

    def sprite(self, subject: str) -> Sprite:
        """The decoded animation of `subject`."""
        if subject not in self.sprites:
            raise ValueError(_unknown(subject, self.sprites, self.folder))
        return self.sprites[subject]

    def clip(self, combination: Combination, generator: torch.Generator) -> Tensor:
        """Draw one clip of `combination`, (3, frames, size, size) in -1..1."""
        return self.clip_at(combination, draw_chance(generator))

    def clip_at(
        self, combination: Combination, phase: float, scale: float = 1.0, x: float = 0.0, y: float = 0.0
    ) -> Tensor:
        """The clip of `combination` whose animation begins at `phase`, 0..1 of it.

        Drawn clips differ in nothing else: a small model that need not know every place and size of a subject has its
        outlines sooner. For comparisons, a clip may have the subject `scale` times as large and moved by x, y pixels.
        """
        sprite = self.sprite(combination.subject)
        pictures = sprite.frames_at(phase * sprite.seconds + torch.arange(self.frames) / self.fps)

        longer = SIZES[combination.size] * self.size * scale
        height, width = (longer * side / max(pictures.shape[-2:]) for side in pictures.shape[-2:])
        along = torch.linspace(-0.5, 0.5, self.frames) if self.frames > 1 else torch.zeros(1)
        step_x, step_y = MOTIONS[combination.motion]
        middle_x = x + (0.5 + step_x * TRAVEL * along) * self.size
        middle_y = y + (0.5 + step_y * TRAVEL * along) * self.size

        top, left = middle_y - height / 2, middle_x - width / 2
        picture = draw_sprite(pictures, top, left, (height, width), self.size, BACKGROUNDS[combination.background])
        return picture.transpose(0, 1) * 2 - 1

    def sample(self, generator: torch.Generator, count: int) -> tuple[Tensor, list[str], list[Combination]]:
        """Draw `count` clips of this split: videos (n, 3, t, h, w) in -1..1, captions, combinations."""
        combinations = self.draw_combinations(generator, count)
        videos = torch.stack([self.clip(combination, generator) for combination in combinations])
        return videos, [caption(combination, generator) for combination in combinations], combinations

    def draw_combinations(self, generator: torch.Generator, count: int) -> list[Combination]:
        """Draw what `count` clips show."""
        chosen = torch.randint(len(self.combinations), (count,), generator=generator).tolist()
        return [self.combinations[i] for i in chosen]

    def fingerprint(self, on_read: OnLoad | None = None) -> str:
        """A key of the animations and all settings; the files were read before."""
        facts = ["animations", self.subjects, self.size, self.frames, self.fps, self.split, TRAVEL]
        sprites = ((name, self.sprite(name)) for name in self.sprites)
        return digest(facts, ((name, part) for name, sprite in sprites for part in (sprite.pixels, sprite.ends)))

    def bucket_counts(self, clips: int) -> dict[tuple[int, int], int]:
        """How many clips of each height and width make up a fixed set: all are square."""
        return {(self.size, self.size): clips}

    def draw(
        self, generator: torch.Generator, shape: tuple[int, int], index: int
    ) -> tuple[Tensor, str, dict[str, str]]:
        """Draw any clip: video (3, t, h, w) in -1..1, caption, the words of its combination."""
        videos, captions, combinations = self.sample(generator, 1)
        return videos[0], captions[0], asdict(combinations[0])

    def advance_rng(self, generator: torch.Generator, shape: tuple[int, int], index: int) -> None:
        """Take from the generator what `draw` would."""
        (combination,) = self.draw_combinations(generator, 1)
        draw_chance(generator)
        caption(combination, generator)

    def caption_for(self, label: Mapping[str, str], generator: torch.Generator) -> str:
        """Say what a clip that `draw` drew shows, in wording drawn from `generator`."""
        return caption(Combination(**label), generator)


def draw_chance(generator: torch.Generator) -> float:
    """Where a clip begins, 0..1 of its animation or of the places in its file from which it fits."""
    return float(torch.rand((), generator=generator, dtype=torch.float64))


def choose_files(folder: str | Path, subjects: Iterable[str] | None) -> dict[str, Path]:
    """The animation of each wanted subject (None: all there are), by the subject's name."""
    known: dict[str, Path] = {}
    for path in find_animations(folder):
        known.setdefault(subject_name(path.stem), path)
    if subjects is None:
        return known
    wanted = list(dict.fromkeys(" ".join(subject.lower().split()) for subject in subjects))
    if not wanted:
        raise ValueError("the list of subjects is empty; name some, or leave it out to take all of the folder")
    for subject in wanted:
        if subject not in known:
            raise ValueError(_unknown(subject, known, folder))
    return {subject: known[subject] for subject in wanted}


def split_combinations(subjects: Iterable[str], split: str) -> tuple[Combination, ...]:
    """All combinations of a split.

    Of each subject in each size the backgrounds and motions with the lowest hashes are held out: an equal part of
    each, whatever other subjects there are and in whatever order.
    """
    chosen = []
    for subject, size in itertools.product(subjects, SIZES):
        group = [Combination(subject, b, m, size) for b, m in itertools.product(BACKGROUNDS, MOTIONS)]
        ranked = sorted(group, key=_hash)
        held_out = set(ranked[: len(group) // HELD_OUT])
        chosen += [c for c in group if split == "all" or (c in held_out) == (split == "test")]
    return tuple(chosen)


def _hash(combination: Combination) -> str:
    words = (combination.subject, combination.background, combination.motion, combination.size)
    return hashlib.sha256("|".join(words).encode()).hexdigest()


def _unknown(subject: str, known: Iterable[str], folder: str | Path) -> str:
    return f"{folder} holds no animation of {subject!r}{near_or_known(subject, known)}"
