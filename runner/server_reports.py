"""What a server says of a run: its events while it goes on, its history afterwards, its complaints before."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ..host.standalone.progress import Bar
from .errors import NodeError, RunnerError, node_label
from .workflow import Workflow

MOST_STEPS = 10**9
ENDS = ("execution_success", "execution_error", "execution_interrupted")


class Progress:
    """The bar of the node that is running on the server."""

    def __init__(self, workflow: Workflow, silent: bool) -> None:
        self.workflow = workflow
        self.silent = silent
        self.node: str | None = None
        self.bar: Bar | None = None
        self.begun = False

    def take_event(self, text: str | None, prompt_id: str) -> bool:
        """Take in one event; True when it says that the prompt has ended."""
        if text is None:
            return False
        try:
            event = json.loads(text)
            data = event.get("data") or {}
            of_another = data.get("prompt_id") != prompt_id
        except (ValueError, AttributeError, RecursionError):
            return False  # no event of ComfyUI; the state of the run is polled anyway
        if of_another:
            return False
        self.begun = True
        has_numbers = all(is_count(data.get(name)) for name in ("value", "max"))
        if event.get("type") == "progress" and has_numbers:
            if self.bar is None or (self.node, self.bar.total) != (data.get("node"), data["max"]):
                self.close()
                self.node, self.bar = data.get("node"), Bar(data["max"], self.silent)
            self.bar.update(data["value"], node_label(self.workflow.prompt, str(self.node)))
        return event.get("type") in ENDS or (event.get("type") == "executing" and data.get("node") is None)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


def is_count(value: Any) -> bool:
    """Whether a bar can be as long as that."""
    return isinstance(value, (int, float)) and 0 <= value < MOST_STEPS


def messages_of(entry: Mapping[str, Any]) -> Iterator[tuple[Any, Mapping[str, Any]]]:
    """The events that the history keeps of a run."""
    for message in (entry.get("status") or {}).get("messages") or ():
        if len(message) == 2 and isinstance(message[1], dict):
            yield message[0], message[1]


def cached_nodes(entry: Mapping[str, Any]) -> set[str]:
    """The nodes of a run whose results were still there from an earlier one."""
    return {
        str(node_id)
        for event, data in messages_of(entry)
        if event == "execution_cached" and isinstance(data.get("nodes"), list)
        for node_id in data["nodes"]
    }


def raise_failure(entry: Mapping[str, Any], workflow: Workflow) -> None:
    """Raise what the history says went wrong, if anything did."""
    if (entry.get("status") or {}).get("status_str") != "error":
        return
    for event, data in messages_of(entry):
        if event == "execution_error":
            message = " ".join(str(data.get("exception_message")).split()) or str(data.get("exception_type"))
            raise NodeError(f"{node_label(workflow.prompt, str(data.get('node_id')))}: {message}")
        if event == "execution_interrupted":
            raise RunnerError("the run was interrupted on the server")
    raise RunnerError("the run failed on the server, which does not say why")


def refusals(response: Mapping[str, Any], workflow: Workflow) -> list[str]:
    """The server's complaints about a graph, one sentence each."""
    faults = response.get("node_errors")
    sentences = [
        f"{node_label(workflow.prompt, node_id)}: {fault.get('message')}"
        + (f" ({fault['details']})" if fault.get("details") else "")
        for node_id, problems in (faults.items() if isinstance(faults, dict) else ())
        for fault in problems.get("errors") or ()
    ]
    general = response.get("error") or {}
    if isinstance(general, str):
        general = {"message": general}
    return sentences or [f"the server refuses the workflow: {general.get('message') or 'it does not say why'}"]
