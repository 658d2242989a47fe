"""Names of the files of a batch: what the workflow calls them, then the prompt and the seed."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping

from .specs import NodeSpec
from .workflow import Workflow

LONGEST_PROMPT = 100  # bytes of it in a file name, of the 255 that file systems take


def name_files(workflow: Workflow, specs: Mapping[str, NodeSpec], text: str | None, seed: int | None) -> None:
    """Add prompt and seed to every `filename_prefix` that is typed in, and note both for the metadata."""
    made_for = {"prompt": text, "seed": seed}
    workflow.made_for = {key: value for key, value in made_for.items() if value is not None} or None
    parts = [part for part in (slug(text or ""), "" if seed is None else f"seed{seed}") if part]
    for node_id, node in workflow.prompt.items():
        prefix = node["inputs"].get("filename_prefix")
        spec = specs.get(node["class_type"])
        if parts and isinstance(prefix, str) and spec is not None and spec.is_output:
            workflow.set_value(node_id, "filename_prefix", "_".join([prefix, *parts]))


def slug(text: str) -> str:
    """The letters and digits of a text, words joined by `-`, cut where it gets long: part of a name in any folder."""
    letters = "".join(letter if letter.isalnum() else " " for letter in unicodedata.normalize("NFC", text))
    name = "-".join(letters.split()).encode()[:LONGEST_PROMPT]
    return name.decode(errors="ignore").rstrip("-")
