"""What has come of a batch of prompts: what was delivered, what is skipped, what failed and why."""

from __future__ import annotations

import argparse
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .errors import sentence
from .execute import Outcome
from .jobs import Job
from .results import Results
from .workflow import Workflow


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
                print(*outcome.files, sep="\n", end="\n" * bool(outcome.files), flush=True)
        self.say(f"line {job.line} is done")

    def fail(self, job: Job, error: Exception, server: str | None = None) -> None:
        with self.lock:
            self.failed[job.line] = sentence(error) + (f" (on {server})" if server else "")
        if self.debug:
            traceback.print_exception(error)
        self.say(f"line {job.line} failed")

    def say(self, text: str) -> None:
        if not self.silent:
            done = self.made + self.skipped + len(self.failed)
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
