"""A folder of videos with captions as clips to learn from: which are kept, at which size, and why others are not."""

from __future__ import annotations

import logging
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import InitVar, dataclass, field
from functools import cached_property, partial
from pathlib import Path

import torch
from torch import Tensor

from ...media.clips import CLIPS, clip_frames_at
from ...media.files import read_text
from ...media.info import ClipInfo
from ...models.plain_text import HALVES, harmless
from .buckets import WIDEST_SOURCE, Bucket, describe_change, fill, make_buckets, more_buckets, nearest_bucket
from .cache_files import digest
from .caption_lists import Listed, read_lists
from .datasets import SMALLEST_SIZE, OnLoad, draw_chance
from .file_names import TEXTS, FileNames
from .folder_files import clip_info, content_key, list_folder

LONGEST_CAPTION = 4000  # characters
MOST_CAPTION_BYTES = 1 << 16
READING = 1  # raised when the same file is read as other frames
LACKING = 0.1  # seconds at most by which a film is too short without a picture missing
PLACES = 8  # of a file that are tried for a clip, where the first cannot be decoded

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """One file of the folder: what is learned from it, or why nothing is."""

    name: str  # below the folder
    caption: str = ""
    info: ClipInfo = ClipInfo(0, 0, 0.0, 0.0)  # of a file that could be opened
    bucket: tuple[int, int] = (0, 0)  # height and width of its clips
    dropped: str = ""  # the reason; empty when it is kept
    note: str = ""  # what is done to it

    def row(self) -> str:
        """Its line in the table of the folder."""
        name = self.name.encode("utf-8", "backslashreplace").decode().replace("\n", " ")
        if self.dropped:
            return f"dropped  {name}: {self.dropped}"
        found = self.info
        height, width = self.bucket
        length = f"{found.seconds:.1f} s at {found.fps:.4g} fps" if found.seconds else "a picture"
        return f"kept     {name}: {found.width}x{found.height}, {length}; used as {width}x{height}, {self.note}"


@dataclass(frozen=True)
class VideoFolder:
    """Clips of the videos, animated pictures and, where `frames` is 1, pictures in `folder` and below.

    A caption is the text file of the same name (`cat.txt` for `cat.mp4`), or an entry in a list of captions, see
    `caption_lists`. Clips have `frames` pictures at `fps`, begin anywhere in the video, and are cut to the nearest
    aspect among those that have about `size` x `size` pixels and sides divisible by `multiple`. `sources` has every
    file but lists and captions, `lists` has what was read of the lists. `on_load(done, total)` is called after each
    file. Raises ValueError when nothing is left.
    """

    folder: Path
    size: int = 64
    frames: int = 17
    fps: float = 8.0
    multiple: int = 64
    on_load: InitVar[OnLoad | None] = None
    sources: tuple[Source, ...] = field(init=False, repr=False, compare=False)
    lists: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self, on_load: OnLoad | None) -> None:
        if self.size < SMALLEST_SIZE or self.multiple < 1:
            raise ValueError(
                f"clips of {self.size} pixels whose sides are multiples of {self.multiple}: the size is at least "
                f"{SMALLEST_SIZE}, the multiple at least 1"
            )
        if self.frames < 1 or not self.fps > 0:
            raise ValueError(f"got {self.frames} frames at {self.fps} frames a second; both must be above 0")
        folder = Path(self.folder)
        object.__setattr__(self, "folder", folder)
        found = list_folder(folder)
        names = [name for name, reason in found.items() if not reason]
        files, lists = FileNames(names), read_lists(folder, names)
        clips = [name for name in names if name.lower().endswith(CLIPS)]
        texts = {files.text_of(name) for name in clips}
        sources = []
        buckets = make_buckets(self.size, self.multiple), more_buckets(self.size, self.multiple)
        for done, (name, reason) in enumerate(found.items(), 1):
            if not reason and name.lower().endswith(CLIPS):
                sources.append(self._source(name, files, lists.captions.get(name), buckets))
            elif name not in texts and name not in lists.read:
                sources.append(Source(name, dropped=reason or lists.unread.get(name) or not_read(name)))
            if on_load is not None:
                on_load(done, len(found))
        sources += [Source(name, dropped=reason) for name, reason in lists.missing.items()]
        object.__setattr__(self, "sources", tuple(sources))
        object.__setattr__(self, "lists", tuple(f"read     {name}: {what}" for name, what in lists.read.items()))
        if not self.kept:
            # Without captions it is most of all the list that was to hold them which says why, and then the clips; that
            # of each a hidden file lies beside it, as on a disk of a Mac, says nothing.
            listed, opened = {*lists.unread, *lists.missing}, set(clips)
            shown = sorted(sources, key=lambda source: (source.name not in listed, source.name not in opened))[:3]
            reasons = "; ".join(f"{source.name}: {source.dropped}" for source in shown)
            raise ValueError(f"{folder} has no clip to learn from. {reasons or 'It holds no video.'}")

    @property
    def kept(self) -> tuple[Source, ...]:
        """The files that are learned from."""
        return tuple(source for source in self.sources if not source.dropped)

    def _source(self, name: str, files: FileNames, listed: Listed | None, buckets: Iterable[list[Bucket]]) -> Source:
        """Whether the clip `name` is kept; its caption comes from `listed`, else from the text beside it."""
        try:
            caption = self._caption(name, files, listed)
            found = clip_info(self.folder, name)
        except ValueError as error:
            return Source(name, dropped=str(error))
        except OSError as error:
            return Source(name, dropped=f"cannot be opened ({error.strerror or error})")
        if not found.seconds and self.frames > 1:
            reason = "is a single picture, not an animation; frames = 1 learns from pictures"
            return Source(name, caption, found, dropped=reason)
        if not 1 / WIDEST_SOURCE <= found.width / found.height <= WIDEST_SOURCE:
            reason = (
                f"is {found.width}x{found.height}; at most {WIDEST_SOURCE:g} times as wide as high, or as high as wide"
            )
            return Source(name, caption, found, dropped=reason)
        needed = (self.frames - 1) / self.fps
        # Containers round times, and what lacks less than a frame only shows its last one to the end.
        if needed - found.seconds > min(1 / found.fps, LACKING) + 1e-6:
            reason = f"{found.seconds:.2f} s long; {self.frames} frames at {self.fps:g} fps take {needed:.2f} s"
            return Source(name, caption, found, dropped="; ".join(filter(None, (found.note, reason))))
        bucket = nearest_bucket(found.height, found.width, *buckets)
        return Source(name, caption, found, bucket, note=describe_change(found, bucket, self.fps))

    def _caption(self, name: str, files: FileNames, listed: Listed | None) -> str:
        """The caption of the clip `name` in one line; ValueError says why it has none."""
        if listed is not None and listed.problem:
            raise ValueError(listed.problem)
        text = files.text_of(name)
        caption = listed.caption if listed is not None else ""
        if listed is None and text is not None:
            try:
                caption = read_text(self.folder, self.folder / text, MOST_CAPTION_BYTES)
            except OSError as error:
                raise ValueError(f"its caption cannot be read ({error.strerror or error})") from error
            except ValueError as error:
                raise ValueError(f"its caption {text} {error}") from error
        # JSON can hold half an emoji, which no tokenizer takes.
        caption = " ".join(HALVES.sub("\ufffd", caption).split())
        if not caption:
            raise ValueError(f"no caption; write one into {Path(name).stem}.txt beside it")
        if len(caption) > LONGEST_CAPTION:
            raise ValueError(f"a caption of {len(caption)} characters; at most {LONGEST_CAPTION}")
        return caption

    def clip(self, source: Source, generator: torch.Generator) -> Tensor:
        """One clip of a kept file, (3, frames, height, width) in -1..1; ValueError names a file that went bad."""
        return self.clip_at(source, draw_chance(generator))

    def clip_at(self, source: Source, chance: float) -> Tensor:
        """The clip of a kept file that begins at `chance` in 0..1, see `draw_chance`."""
        start = chance * max(0.0, source.info.seconds - (self.frames - 1) / self.fps)
        path = self.folder / source.name
        times = [start + index / self.fps for index in range(self.frames)]
        try:
            pictures = [
                fill(torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1, source.bucket)
                for picture in clip_frames_at(self.folder, path, times)
            ]
        except (ValueError, OSError) as error:
            raise ValueError(f"{path} {error}, though it begins well; take it out or convert it anew") from error
        return torch.cat(pictures).transpose(0, 1)

    def usable_clip(self, sources: Sequence[Source], index: int, chance: float) -> tuple[Tensor, Source]:
        """The clip of file `index` that begins at `chance`, and the file.

        Where it cannot be decoded, it is a clip of another place of the file, or else of the next one; a warning says
        so. Raises ValueError when no file is left.
        """
        for turn in range(len(sources)):
            source = sources[(index + turn) % len(sources)]
            for place in range(PLACES):
                try:
                    return self.clip_at(source, (chance + place / PLACES) % 1), source
                except ValueError as error:
                    problem = error
                    self._warn(source, error)
        raise problem

    def _warn(self, source: Source, error: ValueError) -> None:
        if source.name not in self._warned:
            self._warned.add(source.name)
            log.warning("%s. Other parts of it are used instead", harmless(str(error)))

    @cached_property
    def _warned(self) -> set[str]:
        return set()

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
        chosen = torch.randint(len(alike), (count,), generator=generator).tolist()
        videos, sources = zip(*(self.usable_clip(alike, i, draw_chance(generator)) for i in chosen), strict=True)
        return torch.stack(videos), [source.caption for source in sources], [source.name for source in sources]

    def fingerprint(self, on_read: OnLoad | None = None) -> str:
        """A key of the kept files (name and content), their captions and all settings.

        `on_read(done, total)` counts files, and is called while a large one is read, too. What it raises ends the work.
        """
        facts = ["videos", READING, self.size, self.frames, self.fps, self.multiple]
        kept = self.kept
        for done, source in enumerate(kept):
            on_block = None if on_read is None else partial(on_read, done, len(kept))
            try:
                facts.append([source.name, content_key(self.folder, source.name, on_block), source.caption])
            except (OSError, ValueError) as error:
                path = self.folder / source.name
                raise ValueError(f"{path} is gone; it was there when the dataset was opened. Open it anew") from error
            if on_read is not None:
                on_read(done + 1, len(kept))
        usual = make_buckets(self.size, self.multiple)  # a key of these sizes is as it was before there were others
        facts += [[source.name, *source.bucket] for source in kept if source.bucket not in usual]
        return digest(facts)

    def bucket_counts(self, clips: int) -> dict[tuple[int, int], int]:
        """How many clips of each height and width make up a fixed set.

        Every file gets the same number, at least 1, so that there may be a few more than `clips`.
        """
        kept = self.kept
        each, files = math.ceil(clips / len(kept)), Counter(source.bucket for source in kept)
        return {bucket: each * count for bucket, count in sorted(files.items())}

    def draw(self, generator: torch.Generator, shape: tuple[int, int], index: int) -> tuple[Tensor, str, str]:
        """Draw clip `index` of that height and width, for which the files take turns: video, caption, file name."""
        alike = [source for source in self.kept if source.bucket == shape]
        video, source = self.usable_clip(alike, index % len(alike), draw_chance(generator))
        return video, source.caption, source.name

    def advance_rng(self, generator: torch.Generator, shape: tuple[int, int], index: int) -> None:
        """Take from the generator what `draw` would."""
        draw_chance(generator)

    def caption_for(self, label: str, generator: torch.Generator) -> str:
        """The caption of the file `label`, always the same."""
        return self._captions[label]

    @cached_property
    def _captions(self) -> dict[str, str]:
        return {source.name: source.caption for source in self.kept}

    def table(self) -> str:
        """What became of every file, one line each; those that are left out come first, where they are seen."""
        rows = [source.row() for source in sorted(self.sources, key=lambda source: not source.dropped)]
        return "\n".join([*self.lists, *rows])


def not_read(name: str) -> str:
    """Why a file that is neither clip nor list is left out."""
    if name.lower().endswith(TEXTS):
        return "a text, but no clip of its name is beside it"
    ending = Path(name).suffix
    return f"{ending} files are not read" if ending else "files without an ending are not read"
