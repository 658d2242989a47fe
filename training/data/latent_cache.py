"""Latents of a dataset's clips on disk: encoded once, drawn from in training.

A set of latents lies in a folder named by all that it depends on, cut into chunks of few clips. A chunk is a whole file
or not there, and carries the state of the generator after its last clip. So making goes on where it stopped and ends
with the very clips of an unbroken run, and any one damaged chunk can be made again alone. Several processes take turns
at the chunks, and each ends with all of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..run.processes import ranks, together
from .cache_files import SUFFIX, check_key, digest, read_tensors, warn_damaged, write_tensors
from .datasets import VideoDataset
from .encode_once import Encode, EncodeOnce

OnClip = Callable[[int, int], None]  # (done, total), after each chunk that is safe on disk; may raise to stop
Place = tuple[Path, tuple[int, int], range]  # of a chunk: file, height and width, indices of its clips
LAYOUT = 1  # raised when chunks are laid out or clips drawn in another way
WORDINGS = 4  # captions of each clip; where the dataset has but one, they are the same
CHUNK_BYTES = 32 << 20  # of pixels in memory at once, if a single clip is not larger


@dataclass(frozen=True, eq=False)
class Row:
    """One clip: its latent `(c, t, h, w)`, wordings of its caption, and what the dataset calls it."""

    latent: Tensor
    captions: tuple[str, ...]  # the one it was drawn with comes first
    label: Any


@dataclass(frozen=True, eq=False)
class LatentSet:
    """Latents of clips that a training run draws from; they are read from disk when drawn.

    `key` tells this set from all others.
    """

    rows: tuple[Row, ...]
    key: str
    alike: dict[torch.Size, list[Row]] = field(init=False, repr=False)  # by the shape of the latent

    def __post_init__(self) -> None:
        alike = defaultdict(list)
        for row in self.rows:
            alike[row.latent.shape].append(row)
        object.__setattr__(self, "alike", dict(alike))

    @property
    def count(self) -> int:
        """The number of clips."""
        return len(self.rows)

    @property
    def captions(self) -> tuple[str, ...]:
        """All that `sample` may say, each text once."""
        return tuple(dict.fromkeys(caption for row in self.rows for caption in row.captions))

    def sample(self, generator: torch.Generator, batch: int) -> tuple[Tensor, list[str]]:
        """Draw latents of one size `(batch, c, t, h, w)` in the encoder's own scale, and a caption of each.

        The size is drawn as often as there are clips of it, so that all are seen equally often. Clips are drawn with
        replacement: a batch may be larger than the set, and a resumed run needs no memory of what it has seen.
        """
        if batch < 1:
            raise ValueError(f"a batch of {batch} clips was asked for; expected 1 or more")
        alike: Sequence[Row] = self.rows
        if len(self.alike) > 1:
            alike = self.alike[self.rows[int(torch.randint(self.count, (), generator=generator))].latent.shape]
        chosen = [alike[i] for i in torch.randint(len(alike), (batch,), generator=generator).tolist()]
        wordings = torch.randint(WORDINGS, (batch,), generator=generator).tolist()
        captions = [row.captions[number] for row, number in zip(chosen, wordings, strict=True)]
        return torch.stack([row.latent for row in chosen]), captions


def latents_key(dataset: VideoDataset, clips: int, seed: int, encoder_key: str) -> str:
    """A key of all that a set of latents depends on; computed without drawing a clip."""
    check_key(encoder_key)
    return digest(["latents", LAYOUT, CHUNK_BYTES, encoder_key, dataset.fingerprint(), clips, seed])


@torch.no_grad()
def prepare_latents(
    dataset: VideoDataset,
    encode: Encode,
    folder: Path,
    clips: int,
    seed: int,
    encoder_key: str,
    on_clip: OnClip | None = None,
) -> LatentSet:
    """Open the latents of about `clips` clips of `dataset`, after encoding those that `folder` does not hold yet.

    `encoder_key` is a key that changes with what `encode` makes, see `fingerprint`. Sets of other data, settings or
    encoders lie beside this one. What `on_clip` raises ends the work; the next call goes on behind the last chunk.
    Raises ValueError for clips that cannot be read or encoded, OSError when the disk is full; what is raised in one of
    several processes ends the work of all.
    """
    if clips < 1:
        raise ValueError(f"{clips} clips cannot be learned from; expected 1 or more, a few hundred are usual")
    key = latents_key(dataset, clips, seed, encoder_key)
    counts = dataset.bucket_counts(clips)
    places = [
        (Path(folder) / key / f"{number:05}{SUFFIX}", *chunk)
        for number, chunk in enumerate(cut(counts, dataset.frames))
    ]
    generator, wordings = (torch.Generator().manual_seed(seed) for _ in range(2))
    process, processes = ranks()
    encode = EncodeOnce(encode)
    total, rows = sum(counts.values()), list[Row]()
    for first in range(0, len(places), processes):
        turn = places[first : first + processes]

        def own_part(turn: list[Place] = turn, before: int = len(rows)) -> None:
            if process >= len(turn):
                return
            for _, shape, indices in turn[:process]:  # what the others draw
                for index in indices:
                    dataset.advance_rng(generator, shape, index)
            path, shape, indices = turn[process]
            if read_chunk(path, len(indices)) is None:
                make_chunk(path, dataset, encode, shape, indices, generator)
                if on_clip is not None:
                    on_clip(before + sum(len(each) for _, _, each in turn[: process + 1]), total)

        together(own_part)
        for path, _, indices in turn:
            found = read_chunk(path, len(indices), verify=False)  # its process has done so
            if found is None:
                raise OSError(f"{path} was written and cannot be read; check the disk, which all processes must share")
            chunk, state = found
            generator.set_state(state)
            for latent, caption, label in chunk:
                more = (dataset.caption_for(label, wordings) for _ in range(WORDINGS - 1))
                rows.append(Row(latent, (caption, *more), label))
    return LatentSet(tuple(rows), key)


def cut(counts: dict[tuple[int, int], int], frames: int) -> list[tuple[tuple[int, int], range]]:
    """The chunks of a set: height, width and indices of their clips, all of one size and few enough for memory."""
    chunks = []
    for (height, width), count in counts.items():
        fitting = CHUNK_BYTES // (4 * 3 * frames * height * width)
        step = 1 << max(0, fitting.bit_length() - 1)  # a power of two, which encoders like to work on in parts
        chunks += [((height, width), range(start, min(start + step, count))) for start in range(0, count, step)]
    return chunks


def make_chunk(
    path: Path,
    dataset: VideoDataset,
    encode: Encode,
    shape: tuple[int, int],
    indices: range,
    generator: torch.Generator,
) -> None:
    """Draw and encode some clips and write them down."""
    videos, captions, labels = zip(*(dataset.draw(generator, shape, index) for index in indices), strict=True)
    latents = encode(torch.stack(videos))
    for latent, label in zip(latents, labels, strict=True):
        if not torch.isfinite(latent).all():
            raise ValueError(
                f"the encoder made numbers that are not finite of the clip {label}; float16 may be too narrow for it, "
                "use bfloat16 or float32"
            )
    tensors = {"latents": latents, "generator": generator.get_state()}
    write_tensors(path, tensors, {"captions": captions, "labels": labels})


def read_chunk(path: Path, count: int, verify: bool = True) -> tuple[list[tuple[Tensor, str, Any]], Tensor] | None:
    """Latent, caption and label of each clip, and the generator's state after them; None without a whole chunk."""
    found = read_tensors(path, verify)
    if found is None:
        return None
    try:
        tensors, described = found
        parts = (tensors["latents"], described["captions"], described["labels"])
        clips = list(zip(*parts, strict=True))
        if len(clips) != count:
            raise ValueError(f"it holds {len(clips)} clips instead of {count}")
        torch.Generator().set_state(tensors["generator"])  # or it was written by a torch that keeps another state
        return clips, tensors["generator"]
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        warn_damaged(path, error)
        return None
