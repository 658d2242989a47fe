"""Names of files below a folder as people mean them: Unicode forms, endings in capitals, strokes of Windows."""

from __future__ import annotations

import posixpath
import unicodedata
from collections import Counter
from collections.abc import Iterable
from os.path import normcase
from pathlib import Path

TEXTS = (".txt", ".caption")


class FileNames:
    """The files below a folder by their names with `/`, found in whatever form a name is written."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = tuple(names)
        self.by_form = {common_form(name): name for name in reversed(self.names)}
        self.exact = set(self.names)
        many = Counter(map(any_case, self.names))
        self.by_case = {any_case(name): name for name in self.names if many[any_case(name)] == 1}

    def find(self, name: str) -> str | None:
        """The file of that name, or the one that differs in its Unicode form or the capitals of its ending only.

        Else the only one that differs in other capitals: on Windows and Macs it is that file.
        """
        return self.find_as_written(name) or self.by_case.get(any_case(name))

    def find_as_written(self, name: str) -> str | None:
        return name if name in self.exact else self.by_form.get(common_form(name))

    def text_of(self, name: str) -> str | None:
        """The text file that belongs to a clip: `cat.txt` or `cat.mp4.txt` for `cat.mp4`."""
        stem = posixpath.splitext(name)[0]
        candidates = [f"{start}{ending}" for ending in TEXTS for start in (stem, name)]
        alone = self.by_case.get(any_case(name)) == name  # no other clip has a nearer claim to a text in other capitals
        ways = (self.find_as_written, self.find) if alone else (self.find_as_written,)
        return next((found for find in ways for each in candidates if (found := find(each))), None)

    def locate(self, folder: Path, place: str, written: str) -> tuple[str | None, str]:
        """The file that a list in the folder `place` means, or None and the reason; paths begin there or at the top."""
        if found := self.find(posixpath.normpath(posixpath.join(place, written))):
            return found, ""
        path = written.replace("\\", "/")
        for top in (folder.absolute().as_posix(), folder.resolve().as_posix()):
            if normcase(path).startswith(normcase(f"{top}/")):
                path, place = path[len(top) + 1 :], ""
        if path.startswith("/") or path[1:2] == ":":
            return None, "a path outside of this folder; write it as it is below the folder"
        for start in (place, ""):
            inside = posixpath.normpath(posixpath.join(start, path))
            if found := self.find(inside):
                return found, ""
        if inside.startswith(".."):
            return None, "a path that leads out of this folder"
        return None, "there is no such file"


def common_form(name: str) -> str:
    """The same for names that look the same: composed characters, a small ending."""
    stem, ending = posixpath.splitext(unicodedata.normalize("NFC", name))
    return stem + ending.lower()


def any_case(name: str) -> str:
    """The same for names that differ in capitals only."""
    return common_form(name).lower()
