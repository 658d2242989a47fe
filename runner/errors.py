"""The errors a user of the runner reads: each is one plain sentence."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import islice
from reprlib import Repr
from typing import Any

from ..models.near_names import LONGEST_NAME, MOST_LISTED, near_name, near_or_known
from ..models.plain_text import plain as without_controls

MOST_PROBLEMS = 100  # that are looked for in one graph
LONGEST_SENTENCE = 600  # characters
SHORT = Repr()  # of a value that may be huge: the beginning of it
SHORT.maxlist = SHORT.maxdict = SHORT.maxtuple = 20
SHORT.maxstring = SHORT.maxother = SHORT.maxlong = LONGEST_NAME


class RunnerError(Exception):
    """Something in the workflow, the options or the surroundings that the user can put right."""

    def __init__(self, message: str) -> None:
        super().__init__(plain(message))


class WorkflowError(RunnerError):
    """A file that is no workflow, or a workflow that cannot run; `problems` has one sentence for each fault."""

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = list(map(plain, [problems] if isinstance(problems, str) else problems))
        super().__init__(in_one(self.problems))


class NodeError(RunnerError):
    """A node that failed while it ran; the cause is chained."""


class ServerError(RunnerError):
    """A server that is gone or forgot a prompt; the prompt itself may be right, and run elsewhere."""

    begun = False  # whether the prompt was running, so that it may be the reason


class PassingError(ServerError):
    """A fault that may have passed when the same is tried again; `status` where the server or a proxy gave one."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class LostError(PassingError):
    """The response was lost, or came from a proxy: the request may have been carried out all the same."""


def in_one(problems: Sequence[str], listed: bool = False) -> str:
    """The first of several faults, and how many more there are; `listed` where the others can be read beside it."""
    more = len(problems) - 1
    return problems[0] + (f" (and {more} more{'' if listed else ': --json lists them all'})" if more else "")


def problems_of(error: Exception) -> list[str]:
    """All that an error has to say, one sentence for each fault."""
    return error.problems if isinstance(error, WorkflowError) else [sentence(error)]


def sentence(error: Exception) -> str:
    """What the user reads. Errors nobody foresaw say so."""
    text = " ".join(str(error).split())
    if isinstance(error, (RunnerError, ValueError, OSError)) and text:
        return plain(text)
    return f"unexpected {type(error).__name__}: {plain(text)} (--debug shows where)"


def plain(text: str) -> str:
    """A text from anybody's file as a terminal may show it: without control characters, and of some length."""
    if len(text) > LONGEST_SENTENCE:
        text = f"{text[: LONGEST_SENTENCE // 2]} ... {text[-LONGEST_SENTENCE // 2 :]}"
    return without_controls(text).replace("\n", " ")


def first(problems: Iterable[str]) -> list[str]:
    """As many problems as anybody reads; a graph of a million faults is not looked through to its end."""
    return list(islice(problems, MOST_PROBLEMS))


def shown(value: Any) -> str:
    """A value as a sentence can hold it."""
    text = repr(value[:LONGEST_NAME]) if isinstance(value, str) else SHORT.repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def nearest(name: object, known: Iterable[object]) -> str:
    """The end of a sentence that names the known name nearest to `name`, or nothing when none is near."""
    near = near_name(name, known)
    return f"; the nearest is {near!r}" if near is not None else ""


def nearest_or_known(name: object, known: Collection[object], listed: str) -> str:
    """The end of a sentence that names the known name nearest to `name`, or else those there are.

    `listed` says where all of them are listed, for where they are too many.
    """
    has_all = len(known) <= MOST_LISTED or nearest(name, known)
    return near_or_known(name, known) + ("" if has_all else f" ({listed})")


def node_label(prompt: dict, node_id: str) -> str:
    """How a sentence calls a node: its id and the title people see."""
    node = prompt.get(node_id, {})
    title = (node.get("_meta") or {}).get("title") or node.get("class_type") or "?"
    return plain(f"node {node_id[:LONGEST_NAME]} ({title[:LONGEST_NAME]})")
