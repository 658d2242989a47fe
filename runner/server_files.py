"""The files that a run left on a server."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import RunnerError
from .workflow import Workflow


@dataclass(frozen=True)
class ServerFile:
    """A file that a run left in the server's output folder."""

    name: str
    subfolder: str

    def __str__(self) -> str:
        return "/".join(filter(None, (self.subfolder, self.name)))

    def split(self, server: str) -> tuple[str, str]:
        """The name without the server's number, and the ending; RunnerError when it is no name for a file."""
        stem, _, suffix = self.name.rpartition(".")
        if not stem or not re.fullmatch(r"\w{1,9}", suffix):
            raise RunnerError(f"the server at {server} names a file {self.name!r}, which is not a usable name")
        return re.sub(r"_\d+_?$", "", stem), f".{suffix}"


def files_of(entry: Mapping[str, Any], server: str) -> Iterator[ServerFile]:
    """The files in the output folder that a run made, or that were made earlier; RunnerError for bad names."""
    for output in (entry.get("outputs") or {}).values():
        for item in (item for items in output.values() if isinstance(items, list) for item in items):
            if isinstance(item, dict) and item.get("type") == "output" and "filename" in item:
                name, subfolder = item["filename"], item.get("subfolder") or ""
                if not isinstance(name, str) or not isinstance(subfolder, str):
                    raise RunnerError(f"the server at {server} names a file {name!r}, which is not a usable name")
                yield ServerFile(name, subfolder)


def named(files: list[ServerFile]) -> str:
    """Files as a sentence names them."""
    return ", ".join(map(str, files[:3])) + (f" and {len(files) - 3} more" if len(files) > 3 else "")


def name_anew(workflow: Workflow, node_ids: set[str]) -> bool:
    """Make the server run nodes again whose files it remembers but no longer has; says whether that is possible.

    `./clip` is the same file as `clip`, but not the same value.
    """
    inputs = [workflow.prompt[node_id]["inputs"] for node_id in node_ids if node_id in workflow.prompt]
    saving = [values for values in inputs if isinstance(values.get("filename_prefix"), str)]
    for values in saving:
        values["filename_prefix"] = f"./{values['filename_prefix']}"
    return bool(saving)
