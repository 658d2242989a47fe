"""How much of a clip a VAE works on at once: all of it, or ever smaller pieces where memory is short."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import torch

Piece = tuple[int | None, int | None]  # latent frames at once and edge of a tile in pixels; None: all
Result = TypeVar("Result")

CHUNKS = (8, 4, 2, 1)  # latent frames at once; every choice gives the same pictures
TILES = (512, 256)  # pixels; tiles cost a little exactness at their seams
FULL = ("out of memory", "not enough memory", "can't allocate memory")  # what torch says on devices without a class

log = logging.getLogger(__name__)


def smaller_pieces(chunk: int | None, tile: int | None) -> list[Piece]:
    """What was wanted, then what needs less memory: fewer frames first, because that changes no number."""
    fewer = [(frames, tile) for frames in CHUNKS if chunk is None or frames < chunk]
    return [(chunk, tile), *fewer, *((1, edge) for edge in TILES if tile is None or edge < tile)]


def as_memory_allows(
    work: Callable[[int | None, int | None], Result],
    needs: Callable[[int | None, int | None], float],
    wanted: Piece,
    free: float,
    release: Callable[[], None],
) -> Result:
    """Do `work(chunk, tile)` in the largest pieces that fit, and in smaller ones when memory runs out all the same.

    needs: bytes that a piece takes, of which there are `free`. release: gives unused memory back to the device.
    What the last attempt raises is raised.
    """
    pieces = smaller_pieces(*wanted)
    fitting = [piece for piece in pieces if needs(*piece) < free] or pieces[-1:]
    for piece in fitting:
        if piece != wanted:
            log.warning(
                "memory is short: the VAE works on %s latent frames at once, tiles %s", *(p or "off" for p in piece)
            )
        try:
            return work(*piece)
        except (RuntimeError, MemoryError) as error:
            if piece == fitting[-1] or not is_out_of_memory(error):
                raise
        release()  # outside the handler, whose exception holds the tensors of the attempt
    raise AssertionError("unreachable: the last piece returns or raises")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device or the computer had no memory left; some devices of torch have no class for that."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(words in str(error) for words in FULL)
