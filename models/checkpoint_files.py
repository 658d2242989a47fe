"""Weight files on disk: which files belong together, what tensors they name, and reading them without running anything.

Nothing here knows what the tensors are for; `checkpoint_kinds` does.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .json_file import NotReadable, read_object

METADATA_KEY = "pyramid_video"  # of the safetensors metadata, or of a tensor of JSON bytes where metadata cannot ride
COMPONENT_WEIGHTS = "diffusion_pytorch_model"
PICKLES = (".bin", ".pt", ".pth", ".ckpt")
SAFETENSORS = (".safetensors", ".sft")
WEIGHTS = (*SAFETENSORS, *PICKLES)
SAFE_UNPICKLING = (2, 6)  # earlier versions of torch could be made to run code in spite of weights_only
LARGEST_HEADER = 100_000_000  # bytes, the limit of the safetensors format
SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})$")
# What torch's unpickler says of a file that wants a function it does not know; a name with spaces is text instead.
RUNS_CODE = re.compile(
    r"GLOBAL \w[\w.]* (was not an allowed|whose module)|call reduce for unrecognized|Can only create new object"
)
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
OTHER_FILES = (  # first bytes of what people save under a weight file's name by mistake
    (b"version https://git-lfs", "a Git LFS pointer, not the weights; get them with `git lfs pull` or by download"),
    (b"<", "a web page, not weights; the download went wrong, perhaps for want of a login"),
    (b"GGUF", "a GGUF file; take the safetensors weights instead"),
    (b"PK\x03\x04", "a zip archive, perhaps a PyTorch pickle with the wrong ending"),
    (b"\x80", "a Python pickle with the wrong ending"),
    (b"{", "a JSON file without weights"),
)


LONGEST_MESSAGE = 800  # characters; a file may hold names of any length


class CheckpointError(ValueError):
    """A file or folder that is not what it should be, said in one sentence that can be printed."""

    def __init__(self, message: str) -> None:
        if len(message) > LONGEST_MESSAGE:
            message = f"{message[: LONGEST_MESSAGE // 2]} ... {message[-LONGEST_MESSAGE // 2 :]}"
        super().__init__("".join(letter if letter.isprintable() else "?" for letter in message))


@dataclass(frozen=True)
class Stored:
    """What a file says about one tensor before it is read; `dtype` is None for anything but floats."""

    shape: tuple[int, ...]
    dtype: torch.dtype | None
    file: Path

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class WeightFiles:
    """All tensors of one checkpoint, by the names in its files."""

    files: tuple[Path, ...]
    tensors: Mapping[str, Stored]
    metadata: Mapping[str, Any] = field(default_factory=dict)  # what our own `save` wrote


def scan(files: tuple[Path, ...]) -> WeightFiles:
    """Read names, shapes and types of all tensors; CheckpointError for damaged files and unsafe pickles."""
    tensors: dict[str, Stored] = {}
    metadata: dict[str, Any] = {}
    for file in files:
        check_bytes(file)
        found, described = scan_safetensors(file) if is_safetensors(file) else scan_pickle(file)
        tensors |= found
        metadata |= described
    if not tensors:
        raise CheckpointError(f"{files[0]} holds no tensors")
    return WeightFiles(files, tensors, metadata)


def is_safetensors(file: Path) -> bool:
    """Whether a file has the ending of safetensors, in small letters or capitals."""
    return file.suffix.lower() in SAFETENSORS


def check_bytes(file: Path) -> None:
    """Refuse what is no weight file at all by its first bytes."""
    if file.suffix.lower() not in WEIGHTS:
        raise CheckpointError(f"{file} is not a weight file; the endings read here are {', '.join(WEIGHTS)}")
    try:
        with file.open("rb") as stream:
            start = stream.read(64)
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error.strerror}") from error
    if not start:
        raise CheckpointError(f"{file} is empty; download or copy it again")
    pickled = file.suffix.lower() in PICKLES
    for sign, meaning in OTHER_FILES:
        belongs = pickled and sign in (b"PK\x03\x04", b"\x80")
        if start.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(sign) and not belongs and not is_header(start, file):
            raise CheckpointError(f"{file} is {meaning}")


def is_header(start: bytes, file: Path) -> bool:
    """Tell whether these are the first bytes of safetensors: a length that fits the file, then JSON."""
    length = int.from_bytes(start[:8], "little")
    return start[8:9] == b"{" and 2 <= length <= min(LARGEST_HEADER, file.stat().st_size - 8)


def scan_safetensors(file: Path, described: bool = True) -> tuple[dict[str, Stored], dict[str, Any]]:
    """Tensors by name, and, with `described`, what our own `save` wrote about them."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 2 <= length <= LARGEST_HEADER:
            raise CheckpointError(f"{file} is not a safetensors file; it may be damaged or of another kind")
        if length > size - 8:
            raise CheckpointError(f"{file} is cut off inside its header ({size} bytes); download or copy it again")
        try:
            header = json.loads(stream.read(length))
            text = (header.pop("__metadata__", None) or {}).get(METADATA_KEY)
            tensors = {key: stored_entry(entry, file) for key, entry in header.items()}
            end = 8 + length + last_byte(header)
        except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError) as error:
            raise CheckpointError(f"{file} has a damaged safetensors header; download or copy it again") from error
    if size < end:
        raise CheckpointError(f"{file} is cut off: {size} of {end} bytes are there; download or copy it again")
    if not described:
        return tensors, {}
    bytes_key = next((key for key in tensors if key.rpartition(".")[2] == METADATA_KEY), None)
    if bytes_key is not None:
        del tensors[bytes_key]
        _, stored = next(read_safetensors(file, [bytes_key]))
        text = text or stored.flatten().view(torch.uint8).numpy().tobytes().decode("utf-8", "replace")
    return tensors, parse_metadata(text, file)


def stored_entry(entry: Mapping[str, Any], file: Path) -> Stored:
    """What a header says of one tensor; ValueError where it contradicts itself."""
    name, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(name, str) or not all(type(number) is int and number >= 0 for number in (*shape, begin, end)):
        raise ValueError("a type that is not text, or a size that is not a count")
    stored = Stored(tuple(shape), DTYPES.get(name), file)
    if end - begin < 0 or (stored.dtype is not None and end - begin != stored.size * stored.dtype.itemsize):
        raise ValueError("a tensor of another size than its shape says")
    return stored


def last_byte(header: Mapping[str, Any]) -> int:
    """How many bytes the tensors of a header take; ValueError unless they lie one after the other."""
    place = 0
    for begin, end in sorted(entry["data_offsets"] for entry in header.values()):
        if begin != place:
            raise ValueError("tensors that overlap, or a gap between them")
        place = end
    return place


def parse_metadata(text: Any, file: Path) -> dict[str, Any]:
    """Read our own description; `text` is whatever JSON value stands in its place."""
    if text is None:
        return {}
    try:
        described = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        described = None
    if not isinstance(described, dict) or not isinstance(described.get("config"), dict) or "kind" not in described:
        raise CheckpointError(f"{file} carries a damaged description of its model (metadata {METADATA_KEY!r})")
    return described


def scan_pickle(file: Path) -> tuple[dict[str, Stored], dict[str, Any]]:
    state = read_pickle(file)
    floats = {key: tensor.dtype if tensor.is_floating_point() else None for key, tensor in state.items()}
    return {key: Stored(tuple(tensor.shape), floats[key], file) for key, tensor in state.items()}, {}


def read_tensors(files: WeightFiles, keys: list[str]) -> Iterator[tuple[str, Tensor]]:
    """Yield `(key, tensor)` file after file; on the CPU, memory-mapped, not copied."""
    for file in files.files:
        wanted = [key for key in keys if files.tensors[key].file == file]
        if is_safetensors(file):
            yield from read_safetensors(file, wanted)
        else:
            state = read_pickle(file)
            yield from ((key, state.pop(key)) for key in wanted)


def read_safetensors(file: Path, keys: list[str]) -> Iterator[tuple[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            for key in keys:
                yield key, opened.get_tensor(key)
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error.strerror or error}") from error
    except (SafetensorError, ValueError, TypeError, RuntimeError, AttributeError) as error:
        raise CheckpointError(f"{file} is damaged, or of a newer kind than is known here; download it again") from error


def read_pickle(file: Path) -> dict[str, Tensor]:
    """Read a PyTorch file as plain tensors; what would run code is refused, never run."""
    version = tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2])
    if version < SAFE_UNPICKLING:
        raise CheckpointError(
            f"{file} is a pickle, and torch {torch.__version__} cannot read pickles safely;"
            " update torch to 2.6 or take safetensors weights"
        )
    try:
        content = load_plain(file)
    except Exception as error:  # the bytes of the file steer the unpickler, so they choose what it raises
        if RUNS_CODE.search(str(error)):
            raise CheckpointError(
                f"{file} is a pickle that holds more than tensors and would run code when opened; it was not run."
                " Take the safetensors weights instead"
            ) from error
        raise CheckpointError(f"{file} is damaged, cut off or no checkpoint; download or copy it again") from error
    for wrapping in ("model", "state_dict", "module"):  # official VAE training keeps its optimizer beside the model
        if isinstance(content, dict) and isinstance(content.get(wrapping), dict):
            content = content[wrapping]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise CheckpointError(f"{file} holds no table of tensors, as weight files do")
    return {str(key): tensor.detach() for key, tensor in content.items()}


def load_plain(file: Path) -> Any:
    """Read with the map of memory where the format allows it (the older one, without zip, does not)."""
    with file.open("rb") as stream:
        zipped = stream.read(2) == b"PK"
    return torch.load(file, map_location="cpu", weights_only=True, mmap=zipped)


def weight_files(path: Path) -> tuple[Path, ...]:
    """List the weight files of a file, a shard or a component folder; CheckpointError when some are missing."""
    if path.is_file():
        shard = SHARD.match(path.stem)
        return all_shards(path.parent, shard["stem"], int(shard["count"]), path.suffix) if shard else (path,)
    if not path.is_dir():
        raise FileNotFoundError(f"{path} does not exist")
    for suffix in (".safetensors", ".bin"):
        for stem in (COMPONENT_WEIGHTS, "pytorch_model", "model"):
            if (whole := path / f"{stem}{suffix}").is_file():
                return (whole,)
        for index in sorted(path.glob(f"*{suffix}.index.json")):
            return indexed_shards(index)
        loose = sorted(file for file in path.glob(f"*{suffix}") if not file.name.startswith("."))
        if loose and (shard := SHARD.match(loose[0].stem)):
            return all_shards(path, shard["stem"], int(shard["count"]), suffix)
        if len(loose) == 1:
            return (loose[0],)
        if loose:
            names = ", ".join(file.name for file in loose[:4])
            raise CheckpointError(f"{path} holds {len(loose)} weight files ({names}); choose one of them")
    raise CheckpointError(f"{path} holds no weights ({COMPONENT_WEIGHTS}.safetensors, its shards, or .bin)")


def indexed_shards(index: Path) -> tuple[Path, ...]:
    """Read the list of shards of an index file."""
    table = read_json(index).get("weight_map")
    if not isinstance(table, dict) or not table:
        raise CheckpointError(f"{index} lists no weights (`weight_map`)")
    names = sorted({str(name) for name in table.values()})
    if outside := [name for name in names if Path(name).name != name]:
        raise CheckpointError(f"{index} names a file outside its own folder: {outside[0]}")
    return present([index.parent / name for name in names])


def all_shards(folder: Path, stem: str, count: int, suffix: str) -> tuple[Path, ...]:
    return present([folder / f"{stem}-{number:05}-of-{count:05}{suffix}" for number in range(1, count + 1)])


def present(files: list[Path]) -> tuple[Path, ...]:
    names = {file.name for file in files[0].parent.iterdir()}  # asking for a name that no system has is an error
    missing = [file.name for file in files if file.name not in names or not file.is_file()]
    if missing:
        raise CheckpointError(f"{files[0].parent} lacks {', '.join(missing)} ({len(missing)} of {len(files)} shards)")
    return tuple(files)


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object; CheckpointError when it is damaged."""
    try:
        return read_object(file)
    except NotReadable as error:
        raise CheckpointError(f"{file} cannot be read: {error}; download or copy it again") from error
