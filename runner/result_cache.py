"""What the runs of a batch have in common: models are opened once, and a prompt that stays is encoded once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from .links import needed_order
from .workflow import Prompt, is_link


class ResultCache:
    """Results of nodes that the next run will need again, by their digest (see `digests_of`)."""

    def __init__(self) -> None:
        self.results: dict[str, tuple[Any, ...]] = {}
        self.wanted: set[str] = set()  # digests of the next run

    def expect(self, prompt: Prompt, outputs: Sequence[str], classes: Mapping[str, type]) -> None:
        """Say what the run after the present one will be."""
        self.wanted = set(digests_of(prompt, list(needed_order(prompt, outputs)), classes).values())

    def begin(self, prompt: Prompt, order: Sequence[str], classes: Mapping[str, type]) -> dict[str, str]:
        """Let go of what this run does not need; gives the digests of its nodes."""
        digests = digests_of(prompt, order, classes)
        self.results = {digest: result for digest, result in self.results.items() if digest in digests.values()}
        return digests

    def get(self, digest: str) -> tuple[Any, ...] | None:
        return self.results.get(digest)

    def put(self, digest: str, result: tuple[Any, ...]) -> None:
        """Keep what the next run wants, and let go of the rest as soon as it has served this one."""
        if digest in self.wanted:
            self.results[digest] = result
        else:
            self.results.pop(digest, None)


def digests_of(prompt: Prompt, order: Sequence[str], classes: Mapping[str, type]) -> dict[str, str]:
    """A digest of all that decides what a node gives: nodes of two graphs with the same digest give the same.

    `order` has sources before those that need them. Output nodes have none, as they run each time; neither has a node
    that is given the whole graph, nor anything after one of them.
    """
    digests: dict[str, str] = {}
    for node_id in order:
        node = prompt[node_id]
        kind = classes[node["class_type"]]
        hidden = kind.INPUT_TYPES().get("hidden", {}).values()
        sources = {name: value for name, value in node["inputs"].items() if is_link(value)}
        sees_graph = "PROMPT" in hidden or "EXTRA_PNGINFO" in hidden
        unknown = any(source not in digests for source, _ in sources.values())
        if getattr(kind, "OUTPUT_NODE", False) or sees_graph or unknown:
            continue
        given = {name: [digests[source], slot] for name, (source, slot) in sources.items()}
        values = {name: value for name, value in node["inputs"].items() if name not in sources}
        text = json.dumps([node_id, node["class_type"], values, given], sort_keys=True)
        digests[node_id] = hashlib.sha256(text.encode()).hexdigest()
    return digests
