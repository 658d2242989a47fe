"""Runs a checked graph: output nodes in order, each node once, results let go as soon as nobody needs them."""

from __future__ import annotations

import gc
import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..host import get_host
from .errors import NodeError, node_label
from .links import needed_order, sources
from .result_cache import ResultCache
from .workflow import Prompt, is_link

# What torch says, as a RuntimeError, of a tensor that no memory holds.
TOO_LARGE = ("can't allocate memory", "Storage size calculation overflowed")


@dataclass
class Outcome:
    """What a run left behind."""

    files: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what nodes had to say
    on_note: Callable[[str], None] | None = None  # called for each of them at once: long work may follow

    def note(self, text: str) -> None:
        """Add what a node said."""
        self.notes.append(text)
        if self.on_note is not None:
            self.on_note(text)


def execute(
    prompt: Prompt,
    outputs: list[str],
    classes: Mapping[str, type],
    extra_pnginfo: dict[str, Any] | None = None,
    on_note: Callable[[str], None] | None = None,
    cache: ResultCache | None = None,
) -> Outcome:
    """Run `outputs` and all that they need; NodeError names the node that failed.

    `cache` has what an earlier run gave, and takes in what the next one will need.
    """
    import torch

    outcome = Outcome(on_note=on_note)
    order = list(needed_order(prompt, outputs))
    digests = {} if cache is None else cache.begin(prompt, order, classes)
    waiting = Counter(source for node_id in order for source in sources(prompt, node_id))
    results: dict[str, tuple[Any, ...]] = {}
    try:
        with torch.inference_mode():
            for node_id in order:
                known = cache.get(digests[node_id]) if cache is not None and node_id in digests else None
                results[node_id] = known or run_node(prompt, node_id, classes, results, extra_pnginfo, outcome)
                if cache is not None and node_id in digests:
                    cache.put(digests[node_id], results[node_id])
                waiting.subtract(sources(prompt, node_id))
                for done in [kept for kept in results if waiting[kept] <= 0]:
                    del results[done]
    finally:
        get_host().end_progress()
        results.clear()
        gc.collect()
    return outcome


def run_node(
    prompt: Prompt,
    node_id: str,
    classes: Mapping[str, type],
    results: Mapping[str, tuple[Any, ...]],
    extra_pnginfo: dict[str, Any] | None,
    outcome: Outcome,
) -> tuple[Any, ...]:
    """Call one node; returns its outputs and adds what it wrote and said to `outcome`.

    As in ComfyUI, what travels on a wire is a list, mostly of one thing. A node is called once for each of the longest
    list that it is given, shorter ones stay at their last; one that gives lists itself (OUTPUT_IS_LIST) lengthens them.
    """
    node_class = classes[prompt[node_id]["class_type"]]
    wires = {
        name: results[value[0]][value[1]] if is_link(value) else [value]
        for name, value in prompt[node_id]["inputs"].items()
    }
    known = {"UNIQUE_ID": node_id, "PROMPT": prompt, "EXTRA_PNGINFO": extra_pnginfo}
    hidden = {name: known.get(kind) for name, kind in node_class.INPUT_TYPES().get("hidden", {}).items()}
    given: list[tuple[Any, ...]] = []
    for call in range(max(map(len, wires.values()), default=1)):
        arguments = {name: values[min(call, len(values) - 1)] for name, values in wires.items()}
        try:
            output = getattr(node_class(), node_class.FUNCTION)(**arguments, **hidden)
        except Exception as error:
            raise NodeError(f"{node_label(prompt, node_id)}: {explain(error)}") from error
        if isinstance(output, dict):
            collect(output.get("ui") or {}, node_label(prompt, node_id), outcome)
            output = output.get("result")
        given.append(tuple(output or ()))
    lists = getattr(node_class, "OUTPUT_IS_LIST", ())
    return tuple(
        [thing for part in parts for thing in part] if slot < len(lists) and lists[slot] else list(parts)
        for slot, parts in enumerate(zip(*given, strict=True))
    )


def collect(ui: Mapping[str, Any], label: str, outcome: Outcome) -> None:
    """Note the files and the text that a node shows."""
    for text in ui.get("text", ()):
        outcome.note(f"{label}: {text}")
    for entries in ui.values():
        for entry in entries:
            if isinstance(entry, dict) and entry.get("type") == "output":
                outcome.files.append(get_host().output_dir / entry.get("subfolder", "") / entry["filename"])


def explain(error: Exception) -> str:
    """One sentence for an exception, on one line."""
    from ..models.files import DISK_FULL
    from ..models.out_of_memory import is_out_of_memory

    if isinstance(error, MemoryError) or any(phrase in str(error) for phrase in TOO_LARGE):
        return "the computer ran out of memory; make the video smaller or shorter"
    if is_out_of_memory(error):
        return "the device ran out of memory; make the video smaller or shorter, or decode it in smaller pieces"
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        if error.strerror and error.strerror not in map(os.strerror, DISK_FULL):
            return error.strerror  # of a block that knows what is kept
        return "there is no space left on the disk of the output folder"
    if isinstance(error, KeyError):
        return f"{type(error).__name__}: {error}"
    return " ".join(str(error).split()) or type(error).__name__
