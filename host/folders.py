"""Model files and official model folders below given roots, and names that cannot leave their folder.

Names come from workflows that anybody may have written. A model is found by looking its name up in the list of what
is there; any other file by `resolve_inside`, which refuses everything that points out of its folder.
"""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from ..models.near_names import near_name, near_or_known
from ..models.plain_text import may_be_listed

KINDS = ("diffusion_models", "vae", "text_encoders", "loras", "classifiers")
BUNDLED = Path(__file__).resolve().parent.parent / "models" / "pretrained"
BUNDLED_INPUTS = Path(__file__).resolve().parent.parent / "workflows" / "input"
MODEL_EXTENSIONS = (".safetensors", ".sft", ".bin", ".pt", ".pth", ".ckpt")
WEIGHT_EXTENSIONS = (".safetensors", ".bin")
# The names that libraries give to the weights of a folder with a config.json.
PART = re.compile(r"(diffusion_pytorch_model.*|pytorch_model|model|.+-\d{5}-of-\d{5})\.\w+")
KIND_KEYS = {  # keys of a config.json that only these kinds have
    "joint_attention_dim": "diffusion_models",
    "has_multi_term_memory_patch": "diffusion_models",
    "encoder_block_out_channels": "vae",
    "temperal_downsample": "vae",
}
OFFICIAL = {  # repositories that are put into a models folder as they are: section of docs/official-weights.md
    "pyramid-flow-miniflux": "Pyramid Flow",
    "pyramid-flow-sd3": "Pyramid Flow",
    "Helios-Base": "Helios",
    "Helios-Mid": "Helios",
    "Helios-Distilled": "Helios",
}
OWN_KIND = "pyramid_video"  # the folder of models/ that official folders are put into
WRAPPER_KIND = "pyramidflow"  # that of ComfyUI-PyramidFlowWrapper, which has the official folders as they are, too
LONE = ("diffusion_transformer_", "diffusion_pytorch_model.safetensors")  # known by its folder's name, without a config
LONGEST_NAME = 235  # bytes; file systems take 255, and a number and an ending may follow
NOT_ON_WINDOWS = 'Windows does not allow any of < > : " | ? * in a name'
UNUSABLE = (  # what a part of a new name may not be, and why
    (re.compile(r"^\."), "a name that begins with a dot is hidden"),
    (re.compile(r"[. ]$|^ "), "Windows does not allow a dot or a space at the end of a name"),
    (re.compile(r'[<>:"|?*]'), NOT_ON_WINDOWS),
    (
        re.compile(r"^(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]) *(\.|$)", re.IGNORECASE),
        "Windows keeps this name for a device",
    ),
)
LONGEST_PATH = 1000  # characters below a root
MAX_DEPTH = 6  # deep enough for any sane model folder, and an end for a link that points to its own parent


@dataclass(frozen=True)
class ModelFolders:
    """Where models of each kind are looked for: files in `own[kind]`, official folders there and in `shared`."""

    own: Mapping[str, Sequence[Path]]
    shared: Sequence[Path] = field(default=())

    @classmethod
    def below(cls, root: Path | None, outputs: Sequence[Path] = ()) -> ModelFolders:
        """The bundled models, and a user's folder laid out as ComfyUI's `models/` or holding official folders.

        What was saved to one of the `outputs` is found there too, as in ComfyUI.
        """
        saved = {kind: [output / kind for output in outputs] for kind in KINDS}
        if root is None:
            return cls({kind: [BUNDLED / kind, *saved[kind]] for kind in KINDS})
        old_names = {"diffusion_models": "unet", "text_encoders": "clip"}
        own = {
            kind: [*(root / name for name in (kind, old_names.get(kind)) if name), BUNDLED / kind, *saved[kind]]
            for kind in KINDS
        }
        return cls(own, (root / OWN_KIND, root / WRAPPER_KIND, root))

    def entries(self, kind: str) -> dict[str, Path]:
        """Every model of one kind: its name, as a workflow writes it, and where it is."""
        if kind not in KINDS:
            raise ValueError(f"there is no kind of model called {kind!r}; the kinds are {', '.join(KINDS)}")
        found: dict[str, Path] = {}
        places: set[str] = set()
        real_folders: dict[Path, str] = {}
        own = self.own.get(kind, ())
        candidates = [*_files_of(own), *_official_of([*own, *self.shared], kind)]
        for name, path in candidates:
            place = _real_path(path, real_folders)
            if name not in found and place not in places and may_be_listed(name):
                found[name] = path
                places.add(place)
        return found

    def list(self, kind: str) -> list[str]:
        """Names of one kind, sorted."""
        return sorted(self.entries(kind))

    def find(self, kind: str, name: str) -> Path:
        """The path of a listed model; FileNotFoundError names the nearest one there is."""
        entries = self.entries(kind)
        wanted = str(name).replace("\\", "/")
        if wanted in entries:
            return entries[wanted]
        folders = ", ".join(str(folder) for folder in [*self.own.get(kind, ()), *self.shared])
        raise FileNotFoundError(
            f"no {kind} model is called {name!r}{official_hint(wanted, entries) or near_or_known(wanted, entries)}; "
            f"looked in {folders}"
        )


def official_hint(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about a missing model of an official folder that has none of this kind; else empty."""
    top = str(name).replace("\\", "/").partition("/")[0]
    if top not in OFFICIAL or any(other.partition("/")[0] == top for other in known):
        return ""
    return (
        f": it is a part of the official folder {top}, and not there. Put that folder as it is below "
        "models/pyramid_video of ComfyUI, or below the folder of --models "
        f"(docs/official-weights.md, section {OFFICIAL[top]!r})"
    )


def resolve_inside(root: Path, name: str, what: str = "file") -> Path:
    """The path that `name` has below `root`, whether or not it exists.

    Raises ValueError for an absolute path, `~`, a drive letter, `..`, or a symbolic link that leads out of `root`.
    """
    text = str(name).replace("\\", "/")
    parts = PurePosixPath(text).parts
    if not text.strip() or not is_encodable(text) or any(unicodedata.category(letter) == "Cc" for letter in text):
        raise ValueError(f"the {what} has no usable name: {str(name)[:60]!r}")
    if any(len(part.encode("utf-8", "replace")) > LONGEST_NAME for part in parts) or len(text) > LONGEST_PATH:
        most = f"a name has at most {LONGEST_NAME} bytes, a path {LONGEST_PATH}"
        raise ValueError(f"the {what} {text[:40]!r}... is too long: {most}")
    if text.startswith("~"):
        raise ValueError(f"the {what} {name!r} begins with ~, which is no folder here; give a name inside {root}")
    if text.startswith("/") or re.match(r"[A-Za-z]:(/|$)", text) or ".." in parts:
        raise ValueError(f"the {what} {name!r} points outside {root}; give a name inside that folder")
    if re.match(r"[A-Za-z]:", text) or (os.name == "nt" and ":" in text):  # to another drive, or a hidden stream
        raise ValueError(f"the {what} cannot be called {name!r}: {NOT_ON_WINDOWS}")
    path = root.joinpath(*parts)
    if not path.resolve().is_relative_to(root.resolve()):
        raise ValueError(f"the {what} {name!r} leads through a link out of {root}; put the file itself in that folder")
    return path


def is_encodable(name: str) -> bool:
    """Whether the file system has bytes for a name: JSON may hold half a letter (a lone surrogate)."""
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return True


def annotated(name: str) -> tuple[str, str]:
    """The name of a file without the ending that ComfyUI puts behind it, as in `a.png [output]`, and that folder.

    The folder is `input`, also where nothing is said, `output` or `temp`.
    """
    for place in ("input", "output", "temp"):
        if name.endswith(f"[{place}]"):
            return name[: -len(place) - 2].rstrip(), place
    return name, "input"


def resolve_new(root: Path, name: str, what: str) -> Path:
    """The path that a new file or folder gets below `root`: as `resolve_inside`, for names that every system has.

    ValueError also for the folder itself, for hidden names, which lists leave out, and for names that Windows does not
    allow, so that runs and models can go to another computer.
    """
    path = resolve_inside(root, name, what)
    parts = path.relative_to(root).parts
    if not parts:
        raise ValueError(f"the {what} {name!r} would be {root} itself; give it a name inside that folder")
    for part in parts:
        fault = next((reason for pattern, reason in UNUSABLE if pattern.search(part)), None)
        if fault is not None:
            raise ValueError(f"the {what} cannot be called {name!r}: {fault}; letters, digits, - and _ always work")
    return path


def find_file(roots: Sequence[Path], name: str, what: str) -> Path:
    """The first existing file called `name` in `roots`; FileNotFoundError names the nearest one there is."""
    for root in roots:
        path = resolve_inside(root, name, what)
        if os.path.isfile(path):
            return path
    raise FileNotFoundError(_missing(roots[0], name, what, list_files(roots[:1]), list_files(roots[1:])))


def find_folder(roots: Sequence[Path], name: str, what: str) -> Path:
    """The first existing folder called `name` in `roots`; FileNotFoundError names the nearest one there is."""
    for root in roots:
        path = resolve_inside(root, name, what)
        if os.path.isdir(path):
            return path
    own, examples = (sorted({name for root in part for name in _listed(root)[0]}) for part in (roots[:1], roots[1:]))
    raise FileNotFoundError(_missing(roots[0], name, what, own, examples))


def list_files(roots: Sequence[Path], extensions: Sequence[str] | None = None) -> list[str]:
    """Names of the files directly in `roots`, sorted, each name once; `extensions` are lower case with their dot."""
    names = {
        name
        for root in roots
        for name in _listed(root)[1]
        if os.path.isfile(root / name)
        and (extensions is None or Path(name).suffix.lower() in extensions)
        and may_be_listed(name)
    }
    return sorted(names)


def _missing(root: Path, name: str, what: str, own: Sequence[str], examples: Sequence[str]) -> str:
    """Says that `root`, the folder for a user's own, lacks something, and what there is, of the pack's examples too."""
    place = root.absolute()
    text = f"no {what} is called {name!r}"
    text += f" in {place}" if os.path.isdir(root) else f": the folder {place}, where it belongs, does not exist yet"
    if near := near_name(name, [*own, *examples]):
        return f"{text}; the nearest is {near!r}"
    text += near_or_known(name, own) if os.path.isdir(root) else ""
    return f"{text}; the pack's own examples are {', '.join(map(repr, examples))}" if examples else text


def _listed(folder: Path) -> tuple[list[str], list[str]]:
    """Names of the folders and of the files in a folder; none where it is not there, or not for us to read."""
    return next(((folders, files) for _, folders, files in os.walk(folder)), ([], []))


def _real_path(path: Path, real_folders: dict[Path, str]) -> str:
    """`os.path.realpath`, which asks for every part of a path, with that of each folder asked for once."""
    if os.path.islink(path):
        return os.path.realpath(path)
    folder = real_folders.get(path.parent) or real_folders.setdefault(path.parent, os.path.realpath(path.parent))
    return os.path.join(folder, path.name)


def _folders_below(root: Path) -> Iterator[tuple[str, Path, list[str], list[str]]]:
    """Every folder from `root` down: its relative name, itself, names of its folders, names of its files."""
    for place, folders, files in os.walk(root, followlinks=True):  # which passes over what it cannot read
        path = Path(place)
        relative = path.relative_to(root)
        folders[:] = sorted(folder for folder in folders if not folder.startswith("."))
        yield relative.as_posix(), path, list(folders), files
        if len(relative.parts) >= MAX_DEPTH:
            folders.clear()


def _files_of(roots: Iterable[Path]) -> Iterator[tuple[str, Path]]:
    for root in roots:
        for relative, folder, folders, files in _folders_below(root):
            official = _official_kind(folder, folders, files) is not None
            parts = {name for name in _parts(files) if official or PART.fullmatch(name)}  # the folder is the model
            for name in files:
                if name.lower().endswith(MODEL_EXTENSIONS) and name not in parts and not name.startswith("."):
                    yield (PurePosixPath(relative) / name).as_posix(), folder / name


def _official_of(roots: Iterable[Path], kind: str) -> Iterator[tuple[str, Path]]:
    for root in roots:
        inside_official = _is_official_top(root)
        for relative, folder, folders, files in _folders_below(root):
            lone = kind == "diffusion_models" and _is_lone(folder, files)
            if lone or _official_kind(folder, folders, files) == kind:
                # A root that is an official folder itself gives its own name, so that shared workflows find it.
                own_name = inside_official or relative == "."
                prefix = PurePosixPath(root.resolve().name if own_name else "")
                yield (prefix / relative).as_posix(), folder / LONE[1] if lone else folder


def _is_lone(folder: Path, files: Sequence[str]) -> bool:
    """Whether only the weights of an official transformer were downloaded, as ComfyUI offers where they are missing."""
    return folder.name.startswith(LONE[0]) and LONE[1] in files and "config.json" not in files


def _is_official_top(folder: Path) -> bool:
    return _holds_texts(folder, _listed(folder)[0])


def _holds_texts(folder: Path, folders: Sequence[str]) -> bool:
    """Whether a folder is the top of an official model: CLIP and T5 of Pyramid Flow, or UMT5 of Helios."""
    if "text_encoder_2" in folders and "tokenizer_2" in folders:
        return True
    alone = "text_encoder" in folders and "tokenizer" in folders
    return alone and _config(folder / "text_encoder").get("model_type") == "umt5"


def _config(folder: Path) -> dict[str, Any]:
    """The config.json of a folder, empty where there is none that can be read."""
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}


def _parts(files: Sequence[str]) -> list[str]:
    """The weights that a config.json beside them speaks of: those named as libraries name them, or the only ones."""
    if "config.json" not in files:
        return []
    weights = [name for name in files if name.endswith(WEIGHT_EXTENSIONS)]
    return [name for name in weights if PART.fullmatch(name)] or (weights if len(weights) == 1 else [])


def _official_kind(folder: Path, folders: Sequence[str], files: Sequence[str]) -> str | None:
    """Tell the kind of a folder from its layout and the keys of its config; weights are not opened."""
    if _holds_texts(folder, folders):
        return "text_encoders"
    config = _config(folder) if _parts(files) else {}
    return next((kind for key, kind in KIND_KEYS.items() if key in config), None)
