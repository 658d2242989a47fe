"""A folder of videos with captions as clips to learn from: which are kept, at which size, and why others are not."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import InitVar, dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from .cache_files import digest
from .data import SMALLEST_SIZE, OnLoad
from .footage import PICTURES, VIDEOS, Footage, probe, read_frames

WIDEST = 3.0  # aspect ratio of the widest bucket; the tallest is its inverse
AREA_RANGE = 1.5  # buckets have at most so many times the area that was asked for, or one so many times smaller
LONGEST_CAPTION = 4000  # characters


@dataclass(frozen=True)
class Source:
    """One file of the folder: what is learned from it, or why nothing is."""

    name: str  # below the folder
    caption: str = ""
    footage: Footage | None = None
    bucket: tuple[int, int] = (0, 0)  # height and width of its clips
    dropped: str = ""  # the reason; empty when it is kept
    note: str = ""  # what is done to it

    def row(self) -> str:
        """Its line in the table of the folder."""
        if self.dropped:
            return f"dropped  {self.name}: {self.dropped}"
        found = self.footage
        height, width = self.bucket
        return (
            f"kept     {self.name}: {found.width}x{found.height}, {found.seconds:.1f} s at {found.fps:.4g} fps "
            f"-> {width}x{height}, {self.note}"
        )


@dataclass(frozen=True)
class VideoFolder:
    """Clips of the videos and animated pictures in `folder` and below.

    A caption is the text file of the same name (`cat.txt` for `cat.mp4`), or a line `{"file": "cat.mp4", "caption":
    "..."}` of the one `.jsonl` file. Clips have `frames` pictures at `fps`, begin anywhere in the video, and are cut to
    the nearest aspect among those that have about `size` x `size` pixels and sides divisible by `multiple`. `sources`
    is the table of all files. `on_load(done, total)` is called after each. Raises ValueError when nothing is left.
    """

    folder: Path
    size: int = 64
    frames: int = 17
    fps: float = 8.0
    multiple: int = 64
    on_load: InitVar[OnLoad | None] = None
    sources: tuple[Source, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self, on_load: OnLoad | None) -> None:
        if self.size < SMALLEST_SIZE or self.multiple < 1:
            raise ValueError(f"clips of {self.size} pixels in steps of {self.multiple}; at least {SMALLEST_SIZE} and 1")
        if self.frames < 1 or not self.fps > 0:
            raise ValueError(f"got {self.frames} frames at {self.fps} frames a second; both must be more than nothing")
        folder = Path(self.folder)
        files, captions = find_files(folder), read_captions(folder)
        buckets, sources = make_buckets(self.size, self.multiple), []
        for done, path in enumerate(files, 1):
            name = path.relative_to(folder).as_posix()
            sources.append(self._judge(name, path, captions.pop(name, None), buckets))
            if on_load is not None:
                on_load(done, len(files))
        sources += [Source(name, dropped="named among the captions, but there is no such file") for name in captions]
        object.__setattr__(self, "folder", folder)
        object.__setattr__(self, "sources", tuple(sources))
        if not self.kept:
            reasons = "; ".join(f"{source.name}: {source.dropped}" for source in sources[:3])
            raise ValueError(f"{folder} has no clip to learn from. {reasons or 'It holds no video.'}")

    @property
    def kept(self) -> tuple[Source, ...]:
        """The files that are learned from."""
        return tuple(source for source in self.sources if not source.dropped)

    def _judge(self, name: str, path: Path, caption: str | None, buckets: Iterable[tuple[int, int]]) -> Source:
        try:
            caption = own_caption(path) if caption is None else " ".join(caption.split())
        except OSError as error:
            return Source(name, dropped=f"its caption cannot be read ({error.strerror or error})")
        if not caption:
            return Source(name, dropped=f"no caption; write one into {path.stem}.txt beside it")
        if len(caption) > LONGEST_CAPTION:
            return Source(name, dropped=f"a caption of {len(caption)} characters; at most {LONGEST_CAPTION}")
        try:
            found = probe(path)
        except ValueError as error:
            return Source(name, caption, dropped=str(error))
        needed = (self.frames - 1) / self.fps
        if found.seconds < needed:
            return Source(
                name,
                caption,
                found,
                dropped=f"{found.seconds:.2f} s long; {self.frames} frames at {self.fps:g} fps take {needed:.2f} s",
            )
        bucket = nearest_bucket(found.height, found.width, buckets)
        return Source(name, caption, found, bucket, note=describe_change(found, bucket, self.fps))

    def clip(self, source: Source, generator: torch.Generator) -> Tensor:
        """One clip of a kept file, (3, frames, height, width) in -1..1; ValueError names a file that went bad."""
        spare = source.footage.seconds - (self.frames - 1) / self.fps
        start = draw_chance(generator) * spare
        path = self.folder / source.name
        try:
            pictures = read_frames(path, [start + index / self.fps for index in range(self.frames)])
        except ValueError as error:
            raise ValueError(f"{path} {error}, though it begins well; take it out or convert it anew") from error
        return fill(pictures.float() / 127.5 - 1, source.bucket).transpose(0, 1)

    def sample(self, generator: torch.Generator, count: int) -> tuple[Tensor, list[str], list[str]]:
        """Draw `count` clips of one size: videos (n, 3, t, h, w) in -1..1, captions, names of the files.

        The size is drawn as often as there are files of it, so that all files are seen equally often.
        """
        kept = self.kept
        by_bucket = defaultdict(list)
        for source in kept:
            by_bucket[source.bucket].append(source)
        first = kept[int(torch.randint(len(kept), (), generator=generator))]
        alike = by_bucket[first.bucket]
        chosen = [alike[i] for i in torch.randint(len(alike), (count,), generator=generator).tolist()]
        videos = torch.stack([self.clip(source, generator) for source in chosen])
        return videos, [source.caption for source in chosen], [source.name for source in chosen]

    def fingerprint(self) -> str:
        """One word for the kept files (name, size, time of change), their captions and all settings."""
        facts = ["videos", self.size, self.frames, self.fps, self.multiple]
        for source in self.kept:
            path = self.folder / source.name
            try:
                found = path.stat()
            except OSError as error:
                raise ValueError(f"{path} is gone; it was there when the dataset was opened. Open it anew") from error
            facts.append([source.name, found.st_size, found.st_mtime_ns, source.caption])
        return digest(facts)

    def shares(self, clips: int) -> dict[tuple[int, int], int]:
        """How many clips of each height and width make up a fixed set.

        Every file gets the same number, at least 1, so that there may be a few more than `clips`.
        """
        kept = self.kept
        each, files = math.ceil(clips / len(kept)), Counter(source.bucket for source in kept)
        return {bucket: each * count for bucket, count in sorted(files.items())}

    def take(self, generator: torch.Generator, shape: tuple[int, int], index: int) -> tuple[Tensor, str, str]:
        """Draw clip `index` of that height and width, for which the files take turns: video, caption, file name."""
        alike = [source for source in self.kept if source.bucket == shape]
        source = alike[index % len(alike)]
        return self.clip(source, generator), source.caption, source.name

    def skip(self, generator: torch.Generator, shape: tuple[int, int], index: int) -> None:
        """Take from the generator what `take` would."""
        draw_chance(generator)

    def caption_for(self, label: str, generator: torch.Generator) -> str:
        """The caption of the file `label`, always the same."""
        return self._captions[label]

    @cached_property
    def _captions(self) -> dict[str, str]:
        return {source.name: source.caption for source in self.kept}

    def table(self) -> str:
        """What became of every file, one line each; those that are left out come first, where they are seen."""
        return "\n".join(source.row() for source in sorted(self.sources, key=lambda source: not source.dropped))


def draw_chance(generator: torch.Generator) -> float:
    """Where in its file a clip begins, from 0, the start, to 1, the last place from which it fits."""
    return float(torch.rand((), generator=generator, dtype=torch.float64))


def find_files(folder: Path) -> list[Path]:
    """Videos and animated pictures in `folder` and below, sorted; links that lead out of it are left alone."""
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}; give the folder that holds the videos")
    root = folder.resolve()
    found = (path for path in folder.rglob("*") if path.suffix.lower() in VIDEOS + PICTURES)
    return sorted(path for path in found if path.is_file() and path.resolve().is_relative_to(root))


def own_caption(path: Path) -> str:
    """The text beside a file, on one line; empty when there is none."""
    beside = path.with_suffix(".txt")
    return " ".join(beside.read_text(encoding="utf-8", errors="replace").split()) if beside.is_file() else ""


def read_captions(folder: Path) -> dict[str, str]:
    """Captions by file name from the `.jsonl` file directly in `folder`, if there is one."""
    lists = sorted(folder.glob("*.jsonl"))
    if len(lists) > 1:
        raise ValueError(f"{folder} holds {len(lists)} .jsonl files ({lists[0].name}, {lists[1].name}); keep one")
    captions = {}
    for path in lists:
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in ("file", "caption")):
                raise ValueError(
                    f'{path.name}, line {number}: {line[:60]!r}; expected {{"file": "cat.mp4", "caption": "a cat"}}'
                )
            captions[row["file"]] = row["caption"]
    return captions


def make_buckets(size: int, multiple: int) -> list[tuple[int, int]]:
    """Heights and widths of about `size` x `size` pixels, sides divisible by `multiple`, up to 3 to 1."""
    sides = range(multiple, int(size * math.sqrt(WIDEST)) + multiple, multiple)
    pairs = {(max(multiple, round(size * size / width / multiple) * multiple), width) for width in sides}
    misfits = {(h, w): abs(math.log(h * w / size**2)) for h, w in pairs if 1 / WIDEST <= w / h <= WIDEST}
    most = max(min(misfits.values()), math.log(AREA_RANGE))  # a coarse `multiple` may leave nothing nearer
    fitting = {pair for pair, misfit in misfits.items() if misfit <= most}
    return sorted(fitting | {(w, h) for h, w in fitting})


def nearest_bucket(height: int, width: int, buckets: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """The bucket whose aspect is nearest, by ratio."""
    return min(buckets, key=lambda bucket: abs(math.log(bucket[1] / bucket[0] * height / width)))


def describe_change(found: Footage, bucket: tuple[int, int], fps: float) -> str:
    """What is done to a video so that it fits: frames, size, edges."""
    height, width = bucket
    pace = found.fps / fps
    parts = ["every frame"] if abs(pace - 1) < 0.01 else [f"one frame in {pace:.3g}" if pace > 1 else "frames repeat"]
    scale = max(height / found.height, width / found.width)
    if scale > 1.01:
        parts.append(f"enlarged {scale:.2g} times")
    lost = 1 - height * width / (found.height * found.width * scale**2)
    if lost > 0.01:
        parts.append(f"{lost:.0%} cut off at the edges")
    return ", ".join(parts)


def fill(pictures: Tensor, size: tuple[int, int]) -> Tensor:
    """Scale pictures (n, c, h, w) to cover `size` and cut off what hangs over on both sides."""
    height, width = size
    scale = max(height / pictures.shape[2], width / pictures.shape[3])
    covering = [max(side, round(old * scale)) for side, old in zip(size, pictures.shape[2:], strict=True)]
    pictures = interpolate(pictures, covering, mode="bicubic", antialias=True, align_corners=False).clamp(-1, 1)
    top, left = (covering[0] - height) // 2, (covering[1] - width) // 2
    return pictures[:, :, top : top + height, left : left + width]
