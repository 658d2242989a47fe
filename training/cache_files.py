"""What the caches of latents and of text features have in common: keys, and files that are whole or not there."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..models.files import write_beside

log = logging.getLogger(__name__)

DESCRIPTION = "pyramid_video_cache"  # the metadata's one entry: JSON
SUFFIX = ".safetensors"


def digest(facts: Any, tensors: Iterable[tuple[str, Tensor]] = ()) -> str:
    """One short word for `facts` (plain JSON values) and named tensors; another one when any of them changes."""
    found = hashlib.sha256(json.dumps(facts).encode())
    for name, tensor in tensors:
        found.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()[:32]


def weights_key(network: nn.Module, prefixes: tuple[str, ...] = ("",)) -> str:
    """One word for the weights of `network` whose names begin with one of `prefixes`: a key for what it encodes."""
    state = network.state_dict()
    chosen = sorted(name for name in state if name.startswith(prefixes))
    if not chosen:
        raise ValueError(f"no weight is named {' or '.join(prefixes)}...; there are {', '.join(list(state)[:3])}, ...")
    return digest("weights", ((name, state[name]) for name in chosen))


def check_key(encoder_key: str) -> None:
    """Refuse a word that cannot tell one encoder from another."""
    if not isinstance(encoder_key, str) or not encoder_key.strip():
        raise ValueError(
            f"encoder_key is {encoder_key!r}; expected a word that changes with the encoder, such as "
            "weights_key(vae). Without one, what another encoder made would be taken for its own"
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
            part.write_bytes(save(whole, {DESCRIPTION: json.dumps(described)}))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise OSError(
            errno.ENOSPC,
            f"the disk is full: {path} could not be written. What was cached before is kept; free some space (folders "
            f"beside {path.parent} that no run uses may go) and start again, it goes on from there",
        ) from error


def read_tensors(path: Path) -> tuple[dict[str, Tensor], Any] | None:
    """The tensors of a file and its JSON value; None when there is no whole file, with a warning when it is damaged.

    The tensors are mapped into memory, so that only what is used is read. Nothing is unpickled.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            described = json.loads(file.metadata()[DESCRIPTION])
            return {name: file.get_tensor(name) for name in file.keys()}, described
    except (SafetensorError, TypeError, KeyError, ValueError) as error:
        warn_damaged(path, error)
        return None


def warn_damaged(path: Path, reason: object) -> None:
    log.warning("%s is cut short or damaged (%s); it is made anew", path, reason)


def use(folder: Path) -> Path:
    """Make a set's folder if need be and note that it is in use now, for `prune`."""
    folder.mkdir(parents=True, exist_ok=True)
    os.utime(folder)
    return folder


def prune(folder: Path, keep: int) -> list[Path]:
    """Delete all sets of the cache in `folder` but the `keep` that were used last; return the deleted.

    Only folders that hold nothing but cache files are touched.
    """
    if keep < 0:
        raise ValueError(f"prune was told to keep {keep} sets; expected 0 or more")
    folder = Path(folder)
    sets = [path for path in folder.iterdir() if path.is_dir() and is_set(path)] if folder.is_dir() else []
    old = sorted(sets, key=lambda path: path.stat().st_mtime_ns, reverse=True)[keep:]
    for path in old:
        shutil.rmtree(path, ignore_errors=True)  # some systems do not let go of files that are mapped
    return old


def is_set(folder: Path) -> bool:
    """Whether a folder is one that the caches made."""
    named = len(folder.name) == 32 and set(folder.name) <= set("0123456789abcdef")
    return named and not folder.is_symlink() and all(path.suffix == SUFFIX for path in folder.iterdir())
