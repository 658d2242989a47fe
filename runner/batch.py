"""A workflow for each prompt of a file: every right one is delivered once, every other one is named at the end."""

from __future__ import annotations

import argparse
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from .errors import sentence
from .execute import Outcome, execute
from .jobs import Job, read_jobs
from .memory import Memory
from .ranks import own_share, refuse_shared_training, wait_for_all
from .results import Results, key_of
from .run import check_writable, close_stdout, open_here
from .workflow import Workflow

T = TypeVar("T")


class Batch:
    """What has come of the jobs so far; several threads may report."""

    def __init__(self, options: argparse.Namespace, jobs: Sequence[Job]) -> None:
        self.path: Path = options.prompts
        self.silent: bool = options.json
        self.debug: bool = options.debug
        self.results = Results(options.out)
        self.total = len(jobs)
        self.files: list[Path] = []
        self.notes: list[str] = []  # what nodes said; too much to print for hundreds of prompts
        self.gone: list[str] = []  # servers that were left out, and why
        self.made = self.skipped = 0
        self.failed: dict[int, str] = {}  # line and sentence
        self.lock = threading.Lock()

    def skips(self, key: str) -> bool:
        """Whether this was delivered by an earlier command."""
        with self.lock:
            known = self.results.has(key)
            self.skipped += known
        return known

    def deliver(self, job: Job, key: str, workflow: Workflow, outcome: Outcome) -> None:
        with self.lock:
            self.results.add(workflow, key, outcome.files)
            self.files += outcome.files
            self.notes += [f"line {job.line}: {note}" for note in outcome.notes]
            self.made += 1
            if not self.silent:
                self.show(outcome.files)
        self.say(f"line {job.line} is done")

    def show(self, files: Sequence[Path]) -> None:
        """Print the paths; when their reader, such as `head`, has seen enough, the rest is made all the same."""
        try:
            print(*files, sep="\n", end="\n" * bool(files), flush=True)
        except BrokenPipeError:
            close_stdout()

    def fail(self, job: Job, error: Exception, server: str | None = None) -> None:
        with self.lock:
            self.failed[job.line] = sentence(error) + (f" (on {server})" if server else "")
        if self.debug:
            traceback.print_exception(error)
        self.say(f"line {job.line} failed")

    def say(self, text: str) -> None:
        if not self.silent:
            done = self.made + self.skipped + len(self.failed)
            with suppress(BrokenPipeError):  # nobody reads it any more
                print(f"{done} of {self.total}: {text}", file=sys.stderr, flush=True)

    def report(self) -> dict[str, Any]:
        """Name what failed; returns what --json prints."""
        faults = [f"{self.path}, line {line}: {fault}" for line, fault in sorted(self.failed.items())]
        summary = f"{self.made} of {self.total} made, {self.skipped} were there, {len(faults)} failed"
        if not self.silent:
            print(*[f"pyramid-video: {text}" for text in (*self.gone, *faults, summary)], sep="\n", file=sys.stderr)
        return {
            "status": "error" if faults else "success",
            "files": [str(path) for path in self.files],
            "notes": [*self.gone, *self.notes],
            "problems": faults,
            "made": self.made,
            "skipped": self.skipped,
        }


def run_batch(options: argparse.Namespace) -> dict[str, Any]:
    """Run the workflow for every prompt, here or on servers; returns what --json prints."""
    jobs = own_share(read_jobs(options.prompts))
    check_writable(options.out)
    batch = Batch(options, jobs)
    if options.server:
        from .sharing import share

        share(batch, jobs, options)
    else:
        run_all_here(batch, jobs, options)
    report = batch.report()
    wait_for_all()
    return report


def run_all_here(batch: Batch, jobs: Sequence[Job], options: argparse.Namespace) -> None:
    """One after the other in this process."""
    from .registry import node_classes
    from .validate import validate

    host, base, specs = open_here(options)
    classes = node_classes()
    _ = host.device  # a device that is not there is better said now

    def right_ones() -> Iterator[tuple[Job, str, Workflow, list[str]]]:
        for job in jobs:
            try:
                workflow = job.changed(base, specs)
                key = key_of(workflow)
                if batch.skips(key):
                    continue
                outputs = validate(workflow.prompt, classes, specs)
                refuse_shared_training(workflow.prompt, classes)
            except Exception as error:
                batch.fail(job, error)
                continue
            yield job, key, workflow, outputs

    memory = Memory()
    for (job, key, workflow, outputs), following in with_next(right_ones()):
        if following is not None:
            memory.expect(following[2].prompt, following[3], classes)
        try:
            check_writable(options.out)
            outcome = execute(workflow.prompt, outputs, classes, workflow.extra_pnginfo, memory=memory)
            batch.deliver(job, key, workflow, outcome)
        except Exception as error:
            batch.fail(job, error)


def with_next(items: Iterable[T]) -> Iterator[tuple[T, T | None]]:
    """Every item and the one after it."""
    rest = iter(items)
    current = next(rest, None)
    while current is not None:
        following = next(rest, None)
        yield current, following
        current = following
