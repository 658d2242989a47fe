"""Lists of captions, as this pack and other trainers write them: jsonl, json, csv, tsv, and pairs of text files."""

from __future__ import annotations

import csv
import io
import json
import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...media.clips import CLIPS
from ...media.files import read_text
from .file_names import FileNames

# What our own list, Pyramid Flow, diffusers, finetrainers, musubi-tuner, DiffSynth and LTX call them.
FILE_KEYS = ("file", "file_name", "filename", "video", "video_path", "image", "image_path", "media_path", "path")
CAPTION_KEYS = ("caption", "text", "prompt")
JSON_LISTS, TABLES = (".jsonl", ".json"), (".csv", ".tsv")
FILE_LISTS = ("videos.txt", "images.txt")  # a file a line; finetrainers
CAPTION_LISTS = ("prompts.txt", "prompt.txt", "captions.txt", "caption.txt")  # and its caption
MOST_BYTES = 1 << 26  # of a list: half a million captions
EXPECTED = 'expected {"file": "cat.mp4", "caption": "a cat"}'


@dataclass(frozen=True)
class Listed:
    """What a list says of a file."""

    caption: str
    where: str  # name of the list, line
    problem: str = ""  # why that cannot be used


@dataclass
class Lists:
    """What all lists in a folder say."""

    captions: dict[str, Listed] = field(default_factory=dict)  # by the name of a file that is there
    missing: dict[str, str] = field(default_factory=dict)  # a file that is not there, as it is written -> the reason
    read: dict[str, str] = field(default_factory=dict)  # a list -> what it holds
    unread: dict[str, str] = field(default_factory=dict)  # a file that might be a list -> why it is not read


SPACES_BEHIND = re.compile(r'"[ \t]+(?=[\r\n]|$)')  # a quote at the end of a line: they belong to no text


class NotAListError(ValueError):
    """Says why a file is not a list of captions."""


def read_lists(folder: Path, names: Sequence[str]) -> Lists:
    """Read the lists of captions among the files `names` below `folder`.

    A line that does not fit its list raises ValueError with the name of the list. A file without a single entry before
    it may be there for another purpose, such as the log of a run: it is reported in `unread`.
    """
    found, files = Lists(), FileNames(names)
    for name in names:
        if name in found.read or not may_be_list(name):
            continue
        try:
            entries = list(read_list(folder, name, files))
        except NotAListError as error:
            found.unread[name] = f"not read as a list of captions{error}"
            continue
        except ValueError as error:
            raise ValueError(f"{name}{error}") from error
        for line, file, caption in entries:
            add_entry(found, files.locate(folder, posixpath.dirname(name), file), file, caption, f"{name}, line {line}")
        found.read[name] = f"a list of {len(entries)} captions"
        if partner := caption_list(name, files):
            found.read[partner] = f"the captions of {name}"
    return found


def may_be_list(name: str) -> bool:
    """Whether a file is worth opening."""
    return name.lower().endswith((*JSON_LISTS, *TABLES)) or posixpath.basename(name).lower() in FILE_LISTS


def add_entry(found: Lists, place: tuple[str | None, str], file: str, caption: Any, where: str) -> None:
    """Note what an entry says of its file."""
    name, reason = place
    if name is None:
        found.missing[file] = f"named in {where}: {reason}"
        return
    if isinstance(caption, list) and len(caption) == 1:
        caption = caption[0]
    problem = ""
    if not isinstance(caption, str):
        caption, problem = "", f"{where} has {len(caption)} captions for it; leave one"
    before = found.captions.get(name)
    if before and before.caption != caption:
        problem = f"{before.where} and {where} say different things of it; leave one"
    found.captions[name] = Listed(caption, where, problem)


def read_list(folder: Path, name: str, files: FileNames) -> Iterator[tuple[int, str, Any]]:
    """Line, file and caption (a text or texts) of each entry; errors begin with what follows the name of the list."""
    try:
        text = read_text(folder, folder / name, MOST_BYTES)
        if name.lower().endswith(JSON_LISTS):
            return json_entries(text)
        if name.lower().endswith(TABLES):
            return table_entries(text)
        partner = caption_list(name, files)
        if partner is None:
            raise ValueError(f"there is none of {', '.join(CAPTION_LISTS)} beside it")
        return pair_entries(text, read_text(folder, folder / partner, MOST_BYTES), partner)
    except (ValueError, OSError) as error:
        raise NotAListError(f": {getattr(error, 'strerror', None) or error}") from error


def json_entries(text: str) -> Iterator[tuple[int, str, Any]]:
    """Entries of objects, one a line or in whatever lines, in an array or not; or of one object `{file: caption}`."""
    values, problem = json_values(text)
    if len(values) == 1 and isinstance(values[0][1], dict) and is_map(values[0][1]):
        line, value = values[0]
        yield from ((line, file, caption) for file, caption in value.items())
        values = []
    elif problem and not values:
        raise NotAListError(problem)
    for index, (line, value) in enumerate(values):
        files = [value[key] for key in FILE_KEYS if value.get(key)] if isinstance(value, dict) else []
        captions = [value[key] for key in CAPTION_KEYS if key in value] if files else []
        if not captions or not isinstance(files[0], str) or not is_caption(captions[0]):
            shown = text.split("\n")[line - 1].strip()[:60]
            raise (ValueError if index else NotAListError)(f", line {line}: {shown!r}; {EXPECTED}")
        if any(caption != captions[0] for caption in captions):
            raise ValueError(f", line {line}: more than one of {', '.join(CAPTION_KEYS)}; leave the right one")
        yield line, files[0], captions[0]
    if problem:
        raise ValueError(problem)


def json_values(text: str) -> tuple[list[tuple[int, Any]], str]:
    """The JSON values in a text and their lines, those of an array one by one; and what is wrong after them, if so."""
    decoder, place, line, before = json.JSONDecoder(), 0, 1, 0
    values: list[tuple[int, Any]] = []
    while True:
        while place < len(text) and text[place].isspace():
            place += 1
        line, before = line + text.count("\n", before, place), place
        if place == len(text):
            return values, ""
        try:
            value, place = decoder.raw_decode(text, place)
        except RecursionError:
            return values, f", line {line}: nested too deeply"
        except ValueError as error:
            at = getattr(error, "lineno", line)
            return values, f", line {at}: {text.split(chr(10))[at - 1].strip()[:60]!r} is not JSON; {EXPECTED}"
        values += [(line, each) for each in value] if isinstance(value, list) else [(line, value)]


def is_map(value: dict[str, Any]) -> bool:
    """Whether an object says captions by file."""
    return bool(value) and all(file.lower().endswith(CLIPS) and is_caption(text) for file, text in value.items())


def is_caption(value: Any) -> bool:
    return isinstance(value, str) or (
        isinstance(value, list) and value != [] and all(isinstance(one, str) for one in value)
    )


def table_entries(text: str) -> Iterator[tuple[int, str, Any]]:
    """Entries of a table with a head that names its columns, or of two columns: file and caption."""
    head = text.lstrip().split("\n", 1)[0]
    delimiter = max(",;\t", key=head.count)
    text = SPACES_BEHIND.sub('"', text)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    columns: list[int] = []
    try:
        first = next(rows, [])
        keys = [key.strip().lower() for key in first]
        for known in (FILE_KEYS, CAPTION_KEYS):
            columns += [keys.index(key) for key in known if key in keys][:1]
        if len(columns) < 2:
            if len(first) != 2 or not first[0].strip().lower().endswith(CLIPS):
                raise NotAListError(f", line 1: {head[:60]!r}; expected columns such as file_name, text")
            columns = [0, 1]
            yield 1, first[0].strip(), first[1]
        for row in rows:
            if any(row):
                if len(row) <= max(columns):
                    raise ValueError(f", line {rows.line_num}: {len(row)} columns instead of {len(first)}")
                if any(row[len(first) :]):  # the rest of a caption that would be learned without it
                    raise ValueError(
                        f", line {rows.line_num}: {len(row)} columns instead of {len(first)}; put a text that holds "
                        f"{delimiter!r} in double quotes"
                    )
                yield rows.line_num, row[columns[0]].strip(), row[columns[1]]
    except csv.Error as error:
        if not columns:
            raise NotAListError(f", line {rows.line_num}: {error}") from error
        raise ValueError(
            f", line {rows.line_num} or before: a text in double quotes does not end with its column; write a quote "
            'that belongs to the text twice, as in "a sign that says ""STOP"""'
        ) from error


def caption_list(name: str, files: FileNames) -> str | None:
    """The file whose lines are the captions of the files that `name` lists."""
    place, base = posixpath.split(name)
    if base.lower() not in FILE_LISTS:
        return None
    return next((found for other in CAPTION_LISTS if (found := files.find(posixpath.join(place, other)))), None)


def pair_entries(files: str, captions: str, partner: str) -> Iterator[tuple[int, str, Any]]:
    """Entries of two texts, whose lines belong together."""
    names, texts = (text.rstrip("\r\n").split("\n") for text in (files, captions))
    if len(names) != len(texts):
        raise ValueError(f" has {len(names)} lines and {partner} has {len(texts)}; they must belong together")
    for number, (name, caption) in enumerate(zip(names, texts, strict=True), 1):
        if name.strip():
            yield number, name.strip(), caption
