"""What has come of a batch of prompts: what was delivered, what is skipped, what failed and why."""

from __future__ import annotations

import argparse
import json
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from ..training.run.launch import is_first
from .contents import Contents
from .errors import in_one, problems_of
from .execute import Outcome
from .jobs import Job
from .ranks import are_connected, gathered
from .results import Results, key_of
from .specs import NodeSpec
from .staging import Staging, finish_plans
from .terminal import print_note
from .workflow import Workflow


class Batch:
    """What has come of the jobs so far; several threads may report. Lines of --json are printed as they come."""

    def __init__(self, options: argparse.Namespace, jobs: Sequence[Job]) -> None:
        self.path: Path = options.prompts
        self.silent: bool = options.json
        self.debug: bool = options.debug
        self.results = Results(options.out)
        self.contents = Contents(models=not options.server)
        self.total = len(jobs)
        self.files: list[Path] = []
        self.notes: list[str] = []  # what nodes said
        self.printed: set[str] = set()  # of these, without their lines
        self.gone: list[str] = []  # what is to be said of the batch as a whole: servers that were left out, and why
        self.made = self.skipped = 0
        self.failed: dict[int, list[str]] = {}  # line and what is wrong with it
        self.lock = threading.Lock()

    def key_of(self, workflow: Workflow, specs: Mapping[str, NodeSpec]) -> str:
        return key_of(workflow, specs, self.contents)

    def skips(self, job: Job, key: str) -> bool:
        """Whether this was delivered by an earlier command."""
        with self.lock:
            known = self.results.has(key)
            self.skipped += known
        if known:
            self.emit(job, "skipped", files=[str(file) for file, _ in self.results.files[key]])
        return known

    def deliver(self, job: Job, key: str, workflow: Workflow, outcome: Outcome, staging: Staging) -> None:
        """Give the files of a run their names and write them down."""
        entry = {**(workflow.made_for or {}), "key": key}
        with self.lock:
            names = staging.deliver(entry)
            files = [names.get(file, file) for file in outcome.files]
            self.results.add(entry, files)
            self.files += files
            self.made += 1
            if not self.silent:
                print(*files, sep="\n", end="\n" * bool(files), flush=True)
            notes = self.add_notes(outcome.notes, f"line {job.line}: ")
        self.emit(job, "success", **(workflow.made_for or {}), files=list(map(str, files)), notes=notes)
        self.say(f"line {job.line} is done")

    def fail(self, job: Job, error: Exception, server: str | None = None) -> None:
        if self.debug:
            traceback.print_exception(error)
        self.add_problems(job, [problem + (f" (on {server})" if server else "") for problem in problems_of(error)])
        self.say(f"line {job.line} failed")

    def fail_all(self, jobs: Sequence[Job], error: Exception) -> None:
        """Let the rest fail for one reason, which is said once."""
        for job in jobs:
            self.add_problems(job, problems_of(error))

    def add_notes(self, notes: Sequence[str], where: str = "") -> list[str]:
        """Keep what nodes said, and print what none of them said before; returns it with its line."""
        for note in notes:
            if not self.silent and note not in self.printed:
                print_note(where + note)
                self.printed.add(note)
        placed = [where + note for note in notes]
        self.notes += placed
        return placed

    def add_problems(self, job: Job, problems: list[str]) -> None:
        """Write down what is wrong with a line."""
        with self.lock:
            self.failed[job.line] = problems
        self.emit(job, "error", error=in_one(problems, listed=True), problems=problems)

    def emit(self, job: Job, status: str, **more: Any) -> None:
        """Print what came of one line as JSON."""
        if self.silent:
            print(json.dumps({"line": job.line, "status": status, **more}), flush=True)

    def say(self, text: str) -> None:
        if not self.silent:
            done = self.made + self.skipped + len(self.failed)
            print(f"{done} of {self.total}: {text}", file=sys.stderr, flush=True)

    def remark(self, text: str) -> None:
        """Say something of the batch as a whole, now and in the report of --json."""
        self.gone.append(text)
        self.announce(text)

    def announce(self, text: str) -> None:
        """Say something that passes."""
        if not self.silent:
            print(f"pyramid-video: {text}", file=sys.stderr, flush=True)

    def report(self) -> dict[str, Any]:
        """Name what failed, in all processes; returns what --json prints at the end."""
        parts = gathered((self.total, self.made, self.skipped, self.failed, self.files, self.gone + self.notes))
        totals, made, skipped, failed, files, notes = zip(*parts, strict=True)
        faults = {line: problems for part in failed for line, problems in part.items()}
        summary = f"{sum(made)} of {sum(totals)} made, {sum(skipped)} were there, {len(faults)} failed"
        if not self.silent and (is_first() or not are_connected()):
            said = {line: in_one(problems) for line, problems in faults.items()}
            lines = [f"{self.path}, {text}" for text in in_short(said)]
            print(*[f"pyramid-video: {text}" for text in (*lines, summary)], sep="\n", file=sys.stderr)
        return {
            "status": "error" if faults else "success",
            "files": [str(path) for part in files for path in part],
            "notes": [note for part in notes for note in part],
            "problems": [f"{self.path}, line {line}: {fault}" for line in sorted(faults) for fault in faults[line]],
            "made": sum(made),
            "skipped": sum(skipped),
        }


def finish_killed(out: Path) -> None:
    """Deliver what an earlier batch had finished when it was killed; only for the process that has the folder."""
    results = Results(out)
    for entry, files in finish_plans(out):
        if isinstance(entry.get("key"), str) and not results.has(entry["key"]):
            results.add(entry, files)


def in_short(faults: Mapping[int, str]) -> Iterator[str]:
    """Sentences on lines; those that say the same of many lines are one."""
    by_fault = sorted(faults, key=lambda line: (faults[line], line))
    groups = [list(lines) for _, lines in groupby(by_fault, key=faults.__getitem__)]
    for lines in sorted(groups):
        which = f"line {lines[0]}" if len(lines) == 1 else f"lines {ranges(lines)}"
        yield f"{which}: {faults[lines[0]]}"


def ranges(numbers: Iterable[int]) -> str:
    """Sorted numbers as people write them: 1-3, 7."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)
