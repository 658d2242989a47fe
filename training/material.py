"""What a run learns from: latents and text features of a dataset, made once and kept on disk.

Files are safetensors, in pieces of `CHUNK` clips that depend on nothing but their number: what a stopped run has made
is kept, and a piece that cannot be read is made anew.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..models.files import write_beside
from ..models.latent_format import LatentFormat, fit_rgb
from .data import VideoDataset
from .objectives import GeneratorDraw, drop_captions
from .trainer import Batch

log = logging.getLogger(__name__)
CHUNK = 32  # clips in one file
WORDINGS = 4  # captions that are kept of each clip
MEASURED = 512  # latents that mean and deviation are taken from, at most
SHOWN = 8  # of them are decoded to find the colours of previews

Encode = Callable[[Tensor], Tensor]  # pictures (frames, h, w, 3) in 0..1 -> latents (1, c, t, h, w)
Decode = Callable[[Tensor], Tensor]  # the other way
EncodeText = Callable[[str], tuple[Tensor, Tensor]]  # text -> tokens (1, n, d) without padding, pooled (1, p)
OnClip = Callable[[int, int], None]  # (clips done, clips in all); may raise to stop: what is done is kept


@dataclass(frozen=True)
class Bucket:
    """Clips of one size: latents (n, c, t, h, w) in the VAE's scale, and the wordings of their captions."""

    latents: Tensor
    captions: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class DatasetMaterial:
    """Batches of `batch` clips of one size with their texts; `trainer.Material` tells what a run asks of it."""

    buckets: tuple[Bucket, ...]
    texts: Mapping[str, tuple[Tensor, Tensor]]  # tokens (n, d) and pooled (p,) of every caption and of the empty text
    batch: int
    key: str
    decode: Decode

    @property
    def widths(self) -> tuple[int, int, int]:
        tokens, pooled = self.texts[""]
        return self.buckets[0].latents.shape[1], tokens.shape[-1], pooled.shape[-1]

    def draw(self, generator: torch.Generator, dropout: float) -> Batch:
        """One batch; sizes are drawn as often as they have clips, clips with replacement."""
        counts = torch.tensor([float(len(bucket.latents)) for bucket in self.buckets])
        bucket = self.buckets[int(torch.multinomial(counts, 1, generator=generator))]
        rows = torch.randint(len(bucket.latents), (self.batch,), generator=generator)
        wordings = torch.randint(WORDINGS, (self.batch,), generator=generator).tolist()
        captions = [bucket.captions[row][word] for row, word in zip(rows.tolist(), wordings, strict=True)]
        captions = drop_captions(captions, dropout, GeneratorDraw(generator))
        return bucket.latents[rows], *self.join_texts(captions)

    def join_texts(self, captions: Sequence[str]) -> tuple[Tensor, Tensor | None, Tensor]:
        """Tokens (b, n, d) padded to the longest, mask (b, n) or None, pooled (b, p)."""
        tokens, pooled = zip(*(self.texts[caption] for caption in captions), strict=True)
        lengths = torch.tensor([len(each) for each in tokens])
        text = torch.nn.utils.rnn.pad_sequence(list(tokens), batch_first=True)
        even = bool((lengths == text.shape[1]).all())
        mask = None if even else (torch.arange(text.shape[1]) < lengths[:, None]).long()
        return text, mask, torch.stack(pooled)

    def measure_format(self) -> LatentFormat:
        first, rest = [], []
        for bucket in self.buckets:
            some = bucket.latents[:MEASURED].float()
            first.append(some[:, :, 0].movedim(1, 0).flatten(1))
            rest.append(some[:, :, 1:].movedim(1, 0).flatten(1))
        shift, scale = statistics(torch.cat(first, 1))
        plain = LatentFormat("trained", shift, scale, shift, scale)
        if any(part.numel() for part in rest):
            plain = LatentFormat("trained", *statistics(torch.cat(rest, 1)), shift, scale)
        shown = self.buckets[0].latents[:SHOWN]
        frames = [self.decode(clip[None])[:1] for clip in shown]
        pictures = torch.cat(frames).movedim(-1, 1).cpu() * 2 - 1
        factors, bias = fit_rgb(plain.normalize(shown.float())[:, :, 0], pictures)
        return LatentFormat(plain.name, plain.shift, plain.scale, plain.first_shift, plain.first_scale, factors, bias)


def statistics(values: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and inverse deviation of each row."""
    deviation = values.std(1).clamp_min(1e-6)
    return tuple(values.mean(1).tolist()), tuple((1 / deviation).tolist())


def make_latents(
    dataset: VideoDataset, encode: Encode, folder: Path, clips: int, seed: int, on_clip: OnClip | None = None
) -> tuple[Bucket, ...]:
    """Draw and encode `clips` clips, or read those that `folder` has; `folder` is for this dataset and VAE only."""
    by_size: dict[tuple[int, ...], tuple[list[Tensor], list[tuple[str, ...]]]] = {}
    for number, start in enumerate(range(0, clips, CHUNK)):
        path, count = folder / f"latents-{number:05d}.safetensors", min(CHUNK, clips - start)
        found = read_piece(path, count)
        if found is None:
            found = make_piece(dataset, encode, path, count, number, seed, partial(tell, on_clip, clips))
        elif on_clip is not None:
            on_clip(start + count, clips)
        for latent, captions in found:
            latents, wordings = by_size.setdefault(tuple(latent.shape), ([], []))
            latents.append(latent)
            wordings.append(captions)
    return tuple(Bucket(torch.stack(latents), tuple(wordings)) for latents, wordings in by_size.values())


def tell(on_clip: OnClip | None, clips: int, done: int) -> None:
    if on_clip is not None:
        on_clip(done, clips)


Piece = list[tuple[Tensor, tuple[str, ...]]]  # latent (c, t, h, w) and wordings of every clip


def make_piece(
    dataset: VideoDataset,
    encode: Encode,
    path: Path,
    count: int,
    number: int,
    seed: int,
    on_done: Callable[[int], None],
) -> Piece:
    """Draw, encode and write piece `number`, with random numbers of its own."""
    digest = hashlib.sha256(f"{seed} {number}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little"))
    made: Piece = []
    for index in range(count):
        videos, captions, labels = dataset.sample(generator, 1)
        latent = encode((videos[0].movedim(0, -1) + 1) / 2)[0].float().cpu().contiguous()
        wordings = [captions[0], *(dataset.reword(labels[0], generator) for _ in range(WORDINGS - 1))]
        made.append((latent, tuple(wordings)))
        on_done(number * CHUNK + index + 1)
    tensors = {str(index): latent for index, (latent, _) in enumerate(made)}
    described = json.dumps([list(wordings) for _, wordings in made])
    try:
        with write_beside(path) as part:
            save_file(tensors, part, metadata={"captions": described})
    except (OSError, SafetensorError) as error:
        raise OSError(
            f"the latents could not be kept in {path.parent}: {error}. Make room there and run again"
        ) from error
    return made


def read_piece(path: Path, count: int) -> Piece | None:
    """What `make_piece` wrote; None where there is nothing whole, or not as many clips."""
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            captions = json.loads(file.metadata()["captions"])
            found = [(file.get_tensor(str(index)), tuple(words)) for index, words in enumerate(captions)]
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        log.warning("Pyramid Video: %s cannot be read (%s); its clips are encoded anew", path, error)
        return None
    return found if len(found) == count else None


def make_texts(
    captions: Sequence[str], encode: EncodeText, path: Path, on_text: OnClip | None = None
) -> dict[str, tuple[Tensor, Tensor]]:
    """Tokens (n, d) and pooled (p,) of every caption and of the empty text; `path` keeps those of one text encoder."""
    known = read_texts(path)
    wanted = list(dict.fromkeys(["", *captions]))
    missing = [text for text in wanted if text not in known]
    for done, text in enumerate(missing, 1):
        tokens, pooled = encode(text)
        known[text] = (tokens[0].float().cpu().clone(), pooled[0].float().cpu().clone())
        if on_text is not None:
            on_text(done, len(missing))
    if missing:
        names = list(known)
        tensors = {}
        for index, name in enumerate(names):
            tensors[f"{index}.tokens"], tensors[f"{index}.pooled"] = (part.contiguous() for part in known[name])
        with write_beside(path) as part:
            save_file(tensors, part, metadata={"texts": json.dumps(names)})
    return {text: known[text] for text in wanted}


def read_texts(path: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """What `make_texts` wrote; empty where there is nothing whole."""
    if not path.exists():
        return {}
    try:
        with safe_open(path, framework="pt") as file:
            names = json.loads(file.metadata()["texts"])
        tensors = load_file(path)
        return {name: (tensors[f"{i}.tokens"], tensors[f"{i}.pooled"]) for i, name in enumerate(names)}
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        log.warning("Pyramid Video: %s cannot be read (%s); its texts are encoded anew", path, error)
        return {}
