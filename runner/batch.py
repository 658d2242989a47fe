"""A workflow for each prompt of a file: every right one is delivered once, every other one is named at the end."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

from .delivery import Batch
from .execute import execute
from .jobs import Job, read_jobs
from .memory import Memory
from .opening import check_writable, open_here
from .ranks import own_share, refuse_shared_training, wait_for_all
from .results import key_of
from .workflow import Workflow

T = TypeVar("T")


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
