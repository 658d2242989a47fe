"""What checks inside ComfyUI share."""

from __future__ import annotations


def same(door, one, other, atol: float = 0.0) -> None:
    door.torch.testing.assert_close(one, other, rtol=0, atol=atol)


def differs(one, other) -> bool:
    return (one - other).abs().max().item() > 1e-3


def refused(work, *words: str) -> None:
    try:
        work()
    except ValueError as error:
        assert all(word in str(error) for word in words), str(error)
        return
    raise AssertionError("nothing was refused")
