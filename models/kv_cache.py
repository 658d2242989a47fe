"""What keeps keys and values from unit to unit of a run, within the memory that there is for them."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from .cached_tokens import CachedTokens
from .layers import patch_grid
from .out_of_memory import is_out_of_memory

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Entry:
    """Keys and values of one place in the run, how many tokens of them are there, and the vectors of its norms."""

    buffer: Tensor
    tokens: int = 0
    modulation: dict[int, tuple[Tensor, ...]] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of all that is kept."""
        vectors = [vector for part in self.modulation.values() for vector in part]
        return sum(tensor.numel() * tensor.element_size() for tensor in (self.buffer, *vectors))


class KVCache:
    """Keeps keys and values during one run, for as many places of it as `room` bytes hold.

    A place is whatever makes forwards of two units alike: stage, step, timestep, prompts.
    """

    def __init__(self, room: int) -> None:
        self.room = room
        self.entries: dict[Hashable, Entry] = {}

    def take(
        self, key: Hashable, shape: Callable[[int], tuple[int, ...]], like: Tensor, tokens: int, most: int
    ) -> CachedTokens:
        """What a forward at place `key` takes over and leaves behind; nothing where there is no gain or no room.

        tokens: of the text and the frames that stay as they are. most: how many of them a later unit will take over, 0
        in the last unit. shape: of a buffer for so many tokens. like: has its device and type.
        """
        entry = self.entries.get(key)
        if entry is None:
            size = math.prod(shape(most)) * like.element_size()
            if not most or size > self.room:
                return CachedTokens(settled=tokens)
            try:
                entry = self.entries[key] = Entry(like.new_empty(shape(most)))
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self.room = 0  # it was counted once, and something else has taken it since
                return CachedTokens(settled=tokens)
            self.room -= entry.size
        past = entry.buffer[:, :, :, : entry.tokens] if entry.tokens else None
        missing = tokens - entry.tokens  # in the last unit too, for nobody: compilers want every unit alike
        fresh = like.new_empty(shape(missing)) if missing > 0 else None
        return CachedTokens(past, fresh, tokens, entry.modulation)

    def put(self, key: Hashable, kept: CachedTokens | None) -> None:
        """Keep what a forward at place `key` left behind."""
        if kept is None or kept.fresh is None:
            return
        entry, count = self.entries[key], kept.fresh.shape[3]
        if entry.tokens + count > entry.buffer.shape[3]:
            return
        entry.buffer[:, :, :, entry.tokens : entry.tokens + count].copy_(kept.fresh)
        if not entry.tokens:
            self.room += entry.buffer.numel() * entry.buffer.element_size() - entry.size  # for the vectors
        entry.tokens += count

    def forget(self, chosen: Callable[[Hashable], bool]) -> None:
        """Drop what is kept at these places: it is no longer true."""
        for key in [key for key in self.entries if chosen(key)]:
            self.room += self.entries.pop(key).size

    def make_room(self) -> bool:
        """Drop all that is kept, and keep half as much from now on; False where nothing was kept."""
        kept = sum(entry.size for entry in self.entries.values())
        self.entries.clear()
        self.room = kept // 2
        return kept > 0


def keeps_less(cache: KVCache | None) -> bool:
    """Whether memory was found in what a run keeps, if it keeps anything: it can be worked out anew."""
    if cache is None or not cache.make_room():
        return False
    log.warning("memory is short: fewer keys are kept from unit to unit")
    return True


@dataclass(frozen=True)
class CacheSlot:
    """One forward at a place of the run: how many of its oldest frames are settled, now and before the last unit."""

    cache: KVCache
    key: Hashable
    settled: int
    settled_later: int

    @contextmanager
    def of(
        self, network: Any, clips: Sequence[Tensor], text: Tensor, mask: Tensor | None
    ) -> Iterator[CachedTokens | None]:
        """What a forward of a Pyramid Flow `network` with these inputs takes over; what it leaves is put away after."""
        text_tokens = text.shape[1] if mask is None or not network.config.use_t5_mask else int(mask.sum(dim=1).max())
        kept = None
        if network.config.use_temporal_causal:
            _, rows, columns = patch_grid(clips[0])
            frame = rows * columns
            most = text_tokens + frame * self.settled_later if self.settled_later else 0

            def shape(tokens: int) -> tuple[int, ...]:
                return network.cache_shape(len(text), tokens)

            kept = self.cache.take(self.key, shape, clips[-1], text_tokens + frame * self.settled, most)
        yield kept
        self.cache.put(self.key, kept)
