"""What the caches of latents and of text features have in common: keys, and files that are whole or not there."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...models.files import DISK_FULL, write_beside

log = logging.getLogger(__name__)

DESCRIPTION = "pyramid_video_cache"  # entry of the metadata: a JSON value
CHECKSUM = "checksum"  # a tensor: the digest of the value and all other tensors; files of old versions have none
SUFFIX = ".safetensors"


def digest(facts: Any, tensors: Iterable[tuple[str, Tensor]] = ()) -> str:
    """A key of `facts` (plain JSON values) and named tensors, which changes with any of them."""
    found = hashlib.sha256(json.dumps(facts).encode())
    for name, tensor in tensors:
        found.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()[:32]


def checksum(described: Any, tensors: Mapping[str, Tensor]) -> Tensor:
    """What tells that a file holds what was written into it; (16,) bytes."""
    return torch.frombuffer(bytearray.fromhex(digest(described, sorted(tensors.items()))), dtype=torch.uint8)


def check_key(encoder_key: str) -> None:
    """Refuse a key that cannot tell one encoder from another."""
    if not isinstance(encoder_key, str) or not encoder_key.strip():
        raise ValueError(
            f"encoder_key is {encoder_key!r}; expected a key that changes with the encoder, such as "
            "fingerprint(vae). Without one, what another encoder made would be taken for its own"
        )


def write_tensors(path: Path, tensors: Mapping[str, Tensor], described: Any) -> None:
    """Write tensors and a JSON value beside `path` and rename; OSError says what to do when the disk is full."""
    from safetensors.torch import save

    # Clones, because the format refuses views that share memory. Bytes, because a failure is then an honest OSError.
    whole = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }
    try:
        with write_beside(path) as part:
            part.write_bytes(
                save({**whole, CHECKSUM: checksum(described, whole)}, {DESCRIPTION: json.dumps(described)})
            )
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise OSError(
            errno.ENOSPC,
            f"the disk is full: {path} could not be written. What was cached before is kept; free some space (folders "
            f"beside {path.parent} that no run uses may go) and start again, it goes on from there",
        ) from error


def read_tensors(path: Path, verify: bool = True) -> tuple[dict[str, Tensor], Any] | None:
    """The tensors of a file and its JSON value; None when there is no whole file, with a warning when it is damaged.

    The tensors are mapped into memory, so that only what is used is read, unless `verify` compares them with the
    checksum. Nothing is unpickled.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            described = json.loads(file.metadata()[DESCRIPTION])
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        written = tensors.pop(CHECKSUM, None)
        if verify and written is not None and not torch.equal(written, checksum(described, tensors)):
            raise ValueError("its content is not what was written")
        return tensors, described
    except (SafetensorError, TypeError, KeyError, ValueError, RecursionError) as error:
        warn_damaged(path, error)
        return None


def warn_damaged(path: Path, reason: object) -> None:
    log.warning("%s is cut short or damaged (%s); it is made anew", path, reason)
