"""Finds the graphs in a file, whatever carries them: JSON in an envelope, a picture, a video.

The file is untrusted: its first bytes say what it is, and the search through it has an end.
"""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from .errors import WorkflowError, shown

LARGEST_FILE = 32 << 20  # bytes of JSON; workflows with pictures inside have a few million
DEEPEST, MOST_VALUES = 8, 20_000  # of an envelope
PICTURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF")
VIDEOS = (b"\x1aE\xdf\xa3",)  # Matroska and WebM; MP4 and MOV have the kind of their first part behind a length
VIDEO_PARTS = (b"ftyp", b"moov", b"mdat", b"wide", b"free")
PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".avif", ".gif")
VIDEO_ENDINGS = (".mp4", ".webm", ".mkv", ".mov", ".m4v", ".avi")
EXIF_IFD, CHARSETS = 0x8769, {b"UNICODE\0": "utf-16", b"ASCII\0\0\0": "utf-8"}
WEB_PAGE = (
    "is a web page and not a workflow; on the site where it shows the workflow, use the button that downloads the "
    "file itself (on GitHub: Raw, or 'Download raw file')"
)


@dataclass
class Graphs:
    """The graphs that were found, each with where it lies: `prompt` for API format, `ui` for UI format."""

    prompts: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    uis: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    is_media: bool = False  # a picture or video


def read_graphs(path: Path) -> Graphs:
    """All graphs in a file; WorkflowError when it cannot be read or is no kind of file that carries graphs."""
    with open(path, "rb") as file:
        head = file.read(512)
    if head.removeprefix(BOM_UTF8).lstrip().lower().startswith((b"<!doctype html", b"<html", b"<head", b"<?xml")):
        raise WorkflowError(f"{path} {WEB_PAGE}")
    ending = path.suffix.lower()
    if head.startswith(PICTURES) or head[4:12] in (b"ftypavif", b"ftypavis") or ending in PICTURE_ENDINGS:
        return replace(find_graphs(picture_texts(path)), is_media=True)
    if head.startswith(VIDEOS) or head[4:8] in VIDEO_PARTS or ending in VIDEO_ENDINGS:
        from ..host.standalone.video import read_metadata

        return replace(find_graphs(read_metadata(path)), is_media=True)
    if path.stat().st_size > LARGEST_FILE:
        raise WorkflowError(f"{path} has {path.stat().st_size >> 20} MB; a workflow has at most {LARGEST_FILE >> 20}")
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise WorkflowError(
            f"{path} is not text in UTF-8; a workflow is a JSON file, or a picture or video saved with its workflow"
        ) from error
    try:
        return find_graphs(parse(text))
    except ValueError as error:
        raise WorkflowError(f"{path} is not valid JSON: {error}") from error


def parse(text: str) -> Any:
    """JSON as it is meant: ValueError where a name stands twice in one object, of which Python takes the last."""
    return json.loads(text, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"the name {shown(twice)} stands twice in one object")
    return found


def picture_texts(path: Path) -> dict[str, Any]:
    """The texts in a picture: of PNG its text chunks, of WebP, JPEG and AVIF those in EXIF."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            texts = dict(getattr(picture, "text", None) or {})
            exif = picture.getexif()
            values = [*exif.values(), *exif.get_ifd(EXIF_IFD).values()]
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise WorkflowError(f"{path} cannot be read as a picture: {error}") from error
    for value in values:
        text = exif_text(value)
        name, colon, rest = text.partition(":")
        if colon and rest.startswith("{"):  # as ComfyUI writes them: `workflow:{...}`
            texts[name] = rest
        elif text.startswith("{"):
            texts[f"exif {len(texts)}"] = text
    return texts


def exif_text(value: Any) -> str:
    if isinstance(value, bytes):
        return value[8:].decode(CHARSETS.get(value[:8], "utf-8"), "ignore") if value[:8] in CHARSETS else ""
    return value if isinstance(value, str) else ""


def find_graphs(data: Any) -> Graphs:
    """Look for graphs through an envelope: objects and lists in each other, and JSON in texts."""
    found = Graphs()
    waiting: deque[tuple[str, Any, int]] = deque([("", data, 0)])
    for _ in range(MOST_VALUES):
        if not waiting:
            break
        where, value, depth = waiting.popleft()
        if isinstance(value, str):
            value = _parsed(value)
        if is_ui(value):
            found.uis.append((where, value))
        elif is_api(value):
            found.prompts.append((where, value))
        elif depth < DEEPEST:
            waiting.extend((path, inside, depth + 1) for path, inside in islice(_inside(where, value), MOST_VALUES))
    return found


def is_ui(data: Any) -> bool:
    return isinstance(data, dict) and isinstance(data.get("nodes"), list)


def is_api(data: Any) -> bool:
    return isinstance(data, dict) and any(isinstance(node, dict) and "class_type" in node for node in data.values())


def _inside(where: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from ((f"{where}.{key}" if where else str(key), inside) for key, inside in value.items())
    elif isinstance(value, list):
        yield from ((f"{where}[{i}]", inside) for i, inside in enumerate(value))


def _parsed(text: str) -> Any:
    if not text.lstrip().startswith(("{", "[")) or len(text) > LARGEST_FILE:
        return None
    try:
        return parse(text)
    except (ValueError, RecursionError):
        return None
