"""What a server says of a run: its events while it goes on, its history afterwards, its complaints before."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..host.standalone_progress import Bar
from .errors import NodeError, RunnerError, node_label
from .workflow import Workflow


class Progress:
    """The bar of the node that is running on the server."""

    def __init__(self, workflow: Workflow, silent: bool) -> None:
        self.workflow = workflow
        self.silent = silent
        self.node: str | None = None
        self.bar: Bar | None = None
        self.begun = False

    def hear(self, text: str | None, prompt_id: str) -> bool:
        """Take in one event; True when it says that the prompt has ended."""
        if text is None:
            return False
        try:
            event = json.loads(text)
            data = event.get("data") or {}
            of_another = data.get("prompt_id") != prompt_id
        except (ValueError, AttributeError, RecursionError):
            return False  # no event of ComfyUI; how the run stands is asked for anyway
        if of_another:
            return False
        self.begun = True
        has_numbers = all(isinstance(data.get(name), (int, float)) for name in ("value", "max"))
        if event.get("type") == "progress" and has_numbers:
            if self.bar is None or (self.node, self.bar.total) != (data.get("node"), data["max"]):
                self.close()
                self.node, self.bar = data.get("node"), Bar(data["max"], self.silent)
            self.bar.update(data["value"], node_label(self.workflow.prompt, str(self.node)))
        ends = ("execution_success", "execution_error", "execution_interrupted")
        return event.get("type") in ends or (event.get("type") == "executing" and data.get("node") is None)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


def raise_failure(entry: Mapping[str, Any], workflow: Workflow) -> None:
    """Raise what the history says went wrong, if anything did."""
    status = entry.get("status") or {}
    if status.get("status_str") != "error":
        return
    for event, data in status.get("messages", ()):
        if event == "execution_error":
            message = " ".join(str(data.get("exception_message")).split()) or str(data.get("exception_type"))
            raise NodeError(f"{node_label(workflow.prompt, str(data.get('node_id')))}: {message}")
        if event == "execution_interrupted":
            raise RunnerError("the run was interrupted on the server")
    raise RunnerError("the run failed on the server, which does not say why")


def refusals(answer: Mapping[str, Any], workflow: Workflow) -> list[str]:
    """The server's complaints about a graph, one sentence each."""
    sentences = [
        f"{node_label(workflow.prompt, node_id)}: {fault.get('message')}"
        + (f" ({fault['details']})" if fault.get("details") else "")
        for node_id, problems in (answer.get("node_errors") or {}).items()
        for fault in problems.get("errors", ())
    ]
    general = answer.get("error") or {}
    if isinstance(general, str):
        general = {"message": general}
    return sentences or [f"the server refuses the workflow: {general.get('message', 'it does not say why')}"]
