"""Work that runs out of memory: when it is done again, with what, and which error is left."""

from __future__ import annotations

import weakref

import pytest
import torch
from pyramid_video.models.out_of_memory import is_device_full, retry_with_room

FULL = torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def test_the_tensors_of_an_attempt_are_gone_before_room_is_made():
    tries, alive = [], []

    def work():
        tensor = torch.zeros(9)
        tries.append(weakref.ref(tensor))
        if len(tries) < 3:
            raise torch.cuda.OutOfMemoryError("it is full")
        return float(tensor.sum())

    def look(*_):
        alive.append(tries[-1]() is not None)
        return True

    assert retry_with_room(work, look, look) == 0.0
    assert len(tries) == 3 and alive == 4 * [False]


@pytest.mark.parametrize("error", [FULL, MemoryError(), RuntimeError("MPS backend out of memory")], ids=repr)
def test_the_last_error_is_left_where_no_room_is_found(error):
    asked = []

    def work():
        raise error

    def make_room(given):
        assert given is error
        asked.append(len(asked) < 2)
        return asked[-1]

    with pytest.raises(type(error)) as raised:
        retry_with_room(work, make_room, lambda: None)
    assert raised.value is error and asked == [True, True, False]


def test_other_errors_make_no_room():
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        retry_with_room(lambda: torch.zeros(2, 3) @ torch.zeros(2, 3), pytest.fail, pytest.fail)


@pytest.mark.parametrize(
    ("error", "of_device"),
    [
        (FULL, True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)"), True),
        (RuntimeError("XPU out of memory. Tried to allocate 2.00 GiB"), True),
        (MemoryError("out of memory"), False),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"), False),
        (
            RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"),
            False,
        ),
    ],
)
def test_memory_of_the_computer_is_not_that_of_a_card(error, of_device):
    assert is_device_full(error) == of_device
