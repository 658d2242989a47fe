"""How much of a clip a VAE works on at once: all of it, or ever smaller pieces where memory is short."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from torch import Tensor

from .out_of_memory import is_out_of_memory

if TYPE_CHECKING:
    from .model_info import VAEInfo

Piece = tuple[int | None, int | None]  # latent frames at once and edge of a tile in pixels; None: all
OnChunk = Callable[[int, int], None]  # (done, total)
Needs = Callable[[int | None, int | None], float]  # (chunk, tile) -> bytes
Move = Callable[[Tensor], Tensor]  # a piece to or from the device that the network computes on
Result = TypeVar("Result")

CHUNKS = (8, 4, 2, 1)  # latent frames at once; every choice gives the same pictures
TILES = (512, 256)  # pixels; tiles cost a little exactness at their seams
AT_ONCE = 16  # frames of a joined video that become pictures together

log = logging.getLogger(__name__)


def cut_to_fit(video: Tensor, info: VAEInfo) -> Tensor:
    """The first frames of `(b, 3, t, h, w)` and their middle, as much as a VAE can take; what is cut is logged."""
    frames, height, width = video.shape[2:]
    space = info.space_compression
    kept = info.frames_of(info.latent_frames_of(frames)), height // space * space, width // space * space
    if kept != (frames, height, width):
        given = frames, width, height
        log.warning("Pyramid Video: encoding %d frames of %dx%d as %d of %dx%d", *given, kept[0], *kept[:0:-1])
    top, left = (height - kept[1]) // 2, (width - kept[2]) // 2
    return video[:, :, : kept[0], top : top + kept[1], left : left + kept[2]]


def smaller_pieces(chunk: int | None, tile: int | None, tiles: Iterable[int] = TILES) -> list[Piece]:
    """What was wanted, then what needs less memory: fewer frames first, because that changes no number."""
    fewer = [(frames, tile) for frames in CHUNKS if chunk is None or frames < chunk]
    return [(chunk, tile), *fewer, *((1, edge) for edge in tiles if tile is None or edge < tile)]


def fitting_pieces(pieces: Sequence[Piece], needs: Needs, free: float) -> Sequence[Piece]:
    """The pieces that need no more than `free` bytes; the last one, the smallest, where none does."""
    return [piece for piece in pieces if needs(*piece) <= free] or pieces[-1:]


def as_memory_allows(
    work: Callable[[int | None, int | None], Result],
    pieces: Sequence[Piece],
    wanted: Piece,
    release: Callable[[], None],
) -> Result:
    """Do `work(chunk, tile)` in the first of the `pieces`, and in the next one whenever memory runs out all the same.

    release: gives unused memory back to the device. What the last attempt raises is raised.
    """
    for piece in pieces:
        if piece != wanted:
            log.warning(
                "memory is short: the VAE works on %s latent frames at once, tiles %s", *(p or "off" for p in piece)
            )
        try:
            return work(*piece)
        except (RuntimeError, MemoryError) as error:
            if piece == pieces[-1] or not is_out_of_memory(error):
                raise
        release()  # outside the handler, whose exception holds the tensors of the attempt
    raise AssertionError("unreachable: the last piece returns or raises")


def decode_into(
    pictures: Tensor,
    network: Any,
    latent: Tensor,
    piece: Piece,
    as_images: Callable[[Tensor], Tensor],
    on_chunk: OnChunk,
) -> None:
    """Fill `pictures (1, frames, h, w, 3)`; finished chunks and tiles leave the device at once.

    network: a VAE. latent: on its device and in its type. as_images: turns video `(1, 3, t, h, w)` in -1..1 into
    pictures, where it is. on_chunk(done, total): called after each chunk; what it raises ends the work.
    """

    def leave(part: Tensor) -> Tensor:
        return part.to(pictures.device)

    chunk, tile = piece
    if tile is None:
        videos = network.iter_decode(latent, chunk or latent.shape[2], on_chunk)
    else:
        joined = network.decode(latent, chunk, tile, on_chunk, leave)
        videos = (joined[:, :, first : first + AT_ONCE] for first in range(0, joined.shape[2], AT_ONCE))
    start = 0
    for video in videos:
        images = as_images(video)
        pictures[:, start : start + images.shape[1]].copy_(images)
        start += images.shape[1]


def unmoved(part: Tensor) -> Tensor:
    """A piece that is already where it is to be."""
    return part


def counted(pieces: Iterable[Tensor], total: int, on_chunk: OnChunk | None) -> Iterator[Tensor]:
    """Yield the pieces; `on_chunk(done, total)` is called after what was done with each."""
    for number, piece in enumerate(pieces, 1):
        yield piece
        if on_chunk is not None:
            on_chunk(number, total)


def of_row(on_chunk: OnChunk, row: int, rows: int) -> OnChunk:
    """The progress of one row of a batch as that of the whole batch, whose rows all have as many chunks."""
    return lambda done, total: on_chunk(row * total + done, rows * total)


def shape_of_tile(shape: Sequence[int], tile: int | None, pixels: int = 1) -> tuple[int, ...]:
    """`(b, c, t, h, w)` with rows and columns no more than a tile has; a cell of the shape is `pixels` wide."""
    if tile is None:
        return tuple(shape)
    return (*shape[:3], *(min(side, tile // pixels) for side in shape[3:]))
