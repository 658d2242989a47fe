"""One way to open a file that somebody else put into a folder: inside it, a real file, of a bounded size."""

from __future__ import annotations

import codecs
import os
import stat
from pathlib import Path
from typing import BinaryIO

FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
MARKS = (  # what editors on Windows put before their texts; the mark of UTF-32 begins with that of UTF-16
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

OTHER_FILES = (  # how that begins which data sets hold under a film's name by mistake, in small letters
    (b"version https://git-lfs", "is a Git LFS pointer, not the file itself; get that with `git lfs pull`"),
    (b"<!doctype html", "is a web page; the download went wrong, perhaps for want of a login"),
    (b"<html", "is a web page; the download went wrong, perhaps for want of a login"),
)


def open_inside(folder: Path, path: Path, most: int | None = None) -> BinaryIO:
    """Open a file of `folder` for reading; `most` is the largest size in bytes.

    A link is followed as long as it stays in the folder. Raises ValueError for everything that is not a file inside
    the folder, or is too large; OSError as `open` does.
    """
    try:
        real = path.resolve(strict=True)
    except RuntimeError as error:  # Python before 3.13
        raise ValueError("is a link that leads to itself") from error
    if not real.is_relative_to(folder.resolve()):
        raise ValueError("is a link that leads out of the folder; put the file itself there")
    return open_real(real, most)


def open_real(path: Path, most: int | None = None) -> BinaryIO:
    """Open a file for reading, but neither a pipe, which may never answer, nor a device, which may never end.

    Raises ValueError where that is not a file or has more than `most` bytes; OSError as `open` does.
    """
    check_real(os.stat(path))  # opening a device may already do something
    descriptor = os.open(path, FLAGS)
    try:
        found = os.fstat(descriptor)
        check_real(found)
        if most is not None and found.st_size > most:
            raise ValueError(f"is {found.st_size:,} bytes large; at most {most:,} are read")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def check_real(found: os.stat_result) -> None:
    """Refuse what is not a file with a size."""
    if stat.S_ISDIR(found.st_mode):
        raise ValueError("is a folder, not a file")
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("is a pipe, a device or a socket, not a file")


def read_text(folder: Path, path: Path, most: int) -> str:
    """The text of a file of `folder`: UTF-8, with or without a byte order mark, or UTF-16 or UTF-32 with one.

    Raises ValueError for other encodings and as `open_inside` does; OSError as `open` does.
    """
    with open_inside(folder, path, most) as file:
        content = file.read(most)
    encoding = next((name for mark, name in MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        wrong = content[error.start : error.start + 1].hex()
        raise ValueError(
            f"is not text in UTF-8 (byte 0x{wrong} at {error.start}); open it in an editor and save it as UTF-8"
        ) from error
    if "\0" in text:
        raise ValueError("is not text in UTF-8 (it holds zero bytes, as UTF-16 does); save it as UTF-8")
    return text


def other_file(file: BinaryIO) -> str:
    """What a file is that could not be read as what it is called; empty where that is not known."""
    file.seek(0)
    start = file.read(64).lstrip(b"\xef\xbb\xbf \r\n\t").lower()
    return next((meaning for sign, meaning in OTHER_FILES if start.startswith(sign)), "")
