"""The library `comfy_aimdo` pretended, through which ComfyUI streams weights: the pages of a card are CPU memory.

The host's patcher, its casts and its patches on the way are its own code. A card has only so many pages; one that is
given up is filled with NaN, so that whoever still reads a weight there shows it. `stream_weights` must run on the
pretended GPU.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from pathlib import Path

import torch
from pretended_gpu import OnDevice
from torch import Tensor

PAGE = 2**16  # bytes; those of a card have 32 MB
NAN = 0xFF  # the bytes of NaN in every floating type

Place = tuple["Weights", int, int]  # of one weight: start and length in bytes


class Card:
    """The memory that streamed weights may fill, shared by all models."""

    def __init__(self, size: int) -> None:
        self.pages = size // PAGE
        self.used = 0
        self.filled = self.given_up = 0  # pages, over time
        self.without_room = 0  # casts
        self.models: list[Weights] = []  # the last to be loaded at the end

    def counts(self) -> dict[str, int]:
        return {"filled": self.filled, "given up": self.given_up, "without room": self.without_room}

    def make_room(self, pages: int) -> None:
        """Give up so many pages that nobody works with, those of the last model last."""
        for weights in self.models:
            while pages > 0 and weights.watermark > 0:
                weights.watermark -= 1
                pages -= weights.give_up(weights.watermark)


class Weights:
    """The addresses of a model's weights, its `ModelVBAR`: as many of its pages are there as the card has room for."""

    def __init__(self, card: Card, size: int) -> None:
        self.card, self.count = card, -(-size // PAGE)
        self.memory = torch.frombuffer(mmap.mmap(-1, self.count * PAGE), dtype=torch.uint8)
        self.on_device = OnDevice(self.memory)
        self.there, self.pins, self.serials = [False] * self.count, [0] * self.count, [0] * self.count
        self.watermark = self.count  # pages from here on are not to be filled
        self.offset = 0
        card.models.append(self)

    def prioritize(self) -> None:
        self.card.models.remove(self)
        self.card.models.append(self)
        self.watermark = self.count

    def alloc(self, size: int) -> Place:
        start = -(-self.offset // 512) * 512
        self.offset = start + size
        assert self.offset <= self.count * PAGE, "more weights than addresses"
        return self, start, size

    def pages_of(self, start: int, size: int) -> range:
        return range(start // PAGE, -(-(start + size) // PAGE))

    def fault(self, start: int, size: int) -> tuple[int, ...] | None:
        """Hold the pages of a weight; what tells whether they are those of last time, None where there is no room."""
        pages, card = self.pages_of(start, size), self.card
        missing = [page for page in pages if not self.there[page]]
        card.make_room(card.used + len(missing) - card.pages)
        if pages.stop > self.watermark or card.used + len(missing) > card.pages:
            card.without_room += 1
            return None
        for page in missing:
            self.there[page] = True
            self.serials[page] += 1
        card.used += len(missing)
        card.filled += len(missing)
        for page in pages:
            self.pins[page] += 1
        return tuple(self.serials[page] for page in pages)

    def unpin(self, start: int, size: int) -> None:
        for page in self.pages_of(start, size):
            assert self.pins[page] > 0, "a weight was let go twice"
            self.pins[page] -= 1
            if page >= self.watermark:
                self.give_up(page)

    def give_up(self, page: int) -> bool:
        if not self.there[page] or self.pins[page]:
            return False
        self.memory[page * PAGE : (page + 1) * PAGE] = NAN
        self.there[page] = False
        self.card.used -= 1
        self.card.given_up += 1
        return True

    def free_memory(self, size: float) -> int:
        freed = 0
        while freed < size and self.watermark > 0:
            self.watermark -= 1
            freed += PAGE * self.give_up(self.watermark)
        return freed

    def loaded_size(self) -> int:
        return PAGE * sum(self.there)


class HostBuffer:
    """Memory for copies of weights that a card reads fast; without pinned memory nothing is put there."""

    def __init__(self, *sizes: int) -> None:
        self.size = 0

    def truncate(self, size: int, do_unregister: bool = True) -> None:
        raise AssertionError("nothing was put here")


class ModelMMAP:
    """A file in memory."""

    def __init__(self, path: str) -> None:
        content = Path(path).read_bytes()
        self.memory = torch.frombuffer(mmap.mmap(-1, max(1, len(content))), dtype=torch.uint8)
        self.memory[: len(content)] = torch.frombuffer(bytearray(content), dtype=torch.uint8)

    def get(self) -> int:
        return self.memory.data_ptr()

    def get_file_handle(self) -> None:
        """None: the host then reads the tensors of the file from memory."""

    def bounce(self) -> bool:
        return True


def to_tensor(place: Place, device: torch.device) -> Tensor:
    weights, start, size = place
    return weights.on_device[start : start + size]


def same_pages(one: object, other: object) -> bool:
    return one is not None and one == other


def moving_by_data(plain: property) -> property:
    """`parameter.data = x` as it is between a CPU and a real card: the parameter may go to the other."""

    def move(parameter: Tensor, value: Tensor) -> None:
        if isinstance(value, OnDevice) and not isinstance(parameter, OnDevice):
            torch.utils.swap_tensors(parameter, torch.nn.Parameter(value, requires_grad=parameter.requires_grad))
        else:
            plain.__set__(parameter, value)

    return property(plain.__get__, move)


def stream_weights(size: int) -> Card:
    """Make ComfyUI stream its weights, as its `main.py` does, through a card with `size` bytes for them."""
    import comfy.cli_args
    import comfy.memory_management
    import comfy.model_patcher
    import comfy_aimdo.host_buffer
    import comfy_aimdo.model_mmap
    import comfy_aimdo.model_vbar as library
    import comfy_aimdo.torch

    card = Card(size)
    new_model: Callable[[int, int], Weights] = lambda size, device: Weights(card, size)  # noqa: E731
    library.ModelVBAR = new_model
    library.vbar_signature_compare = same_pages
    library.vbars_analyze = lambda device=None: sum(weights.loaded_size() for weights in card.models)
    comfy_aimdo.torch.aimdo_to_tensor = to_tensor
    comfy_aimdo.host_buffer.HostBuffer = HostBuffer
    comfy_aimdo.model_mmap.ModelMMAP = ModelMMAP
    torch.nn.Parameter.data = moving_by_data(torch.Tensor.data)
    comfy.cli_args.args.disable_pinned_memory = True
    comfy.model_patcher.CoreModelPatcher = comfy.model_patcher.ModelPatcherDynamic
    comfy.memory_management.aimdo_enabled = True
    return card
