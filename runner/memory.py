"""What the runs of a batch have in common: models are opened once, and a prompt that stays is encoded once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from .links import needed_order
from .workflow import Prompt, is_link


class Memory:
    """Results of nodes that the next run will need again, by their word (see `words_of`)."""

    def __init__(self) -> None:
        self.results: dict[str, tuple[Any, ...]] = {}
        self.wanted: set[str] = set()  # words of the next run

    def expect(self, prompt: Prompt, outputs: Sequence[str], classes: Mapping[str, type]) -> None:
        """Say what the run after the present one will be."""
        self.wanted = set(words_of(prompt, list(needed_order(prompt, outputs)), classes).values())

    def begin(self, prompt: Prompt, order: Sequence[str], classes: Mapping[str, type]) -> dict[str, str]:
        """Let go of what this run does not need; gives the words of its nodes."""
        words = words_of(prompt, order, classes)
        self.results = {word: result for word, result in self.results.items() if word in words.values()}
        return words

    def recall(self, word: str) -> tuple[Any, ...] | None:
        return self.results.get(word)

    def store(self, word: str, result: tuple[Any, ...]) -> None:
        """Keep what the next run wants, and let go of the rest as soon as it has served this one."""
        if word in self.wanted:
            self.results[word] = result
        else:
            self.results.pop(word, None)


def words_of(prompt: Prompt, order: Sequence[str], classes: Mapping[str, type]) -> dict[str, str]:
    """A word for what each node gives: nodes of two graphs that have the same word give the same.

    `order` has sources before those that need them. Output nodes have none, as they run each time; neither has a node
    that is told the whole graph, nor anything after one of them.
    """
    found: dict[str, str] = {}
    for node_id in order:
        node = prompt[node_id]
        kind = classes[node["class_type"]]
        told = kind.INPUT_TYPES().get("hidden", {}).values()
        sources = {name: value for name, value in node["inputs"].items() if is_link(value)}
        whole = "PROMPT" in told or "EXTRA_PNGINFO" in told
        if getattr(kind, "OUTPUT_NODE", False) or whole or any(source not in found for source, _ in sources.values()):
            continue
        given = {name: [found[source], slot] for name, (source, slot) in sources.items()}
        values = {name: value for name, value in node["inputs"].items() if name not in sources}
        text = json.dumps([node_id, node["class_type"], values, given], sort_keys=True)
        found[node_id] = hashlib.sha256(text.encode()).hexdigest()
    return found
