"""A workflow for each prompt of a file: every right one is delivered once, every other one is named at the end."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

from ..training.run.launch import is_first
from .delivery import Batch, finish_killed, ranges
from .errors import RunnerError
from .execute import execute
from .folders import check_writable
from .jobs import Job, read_jobs
from .opening import open_here
from .ranks import locked_for_all, own_share, refuse_shared_training, wait_for_all
from .result_cache import ResultCache
from .staging import staged
from .texts import fill_names
from .workflow import Workflow

LOCK = ".batch.lock"
T = TypeVar("T")


def run_batch(options: argparse.Namespace) -> dict[str, Any]:
    """Run the workflow for every prompt, here or on servers; returns what --json prints at the end."""
    if options.prompt is not None and options.prompts.suffix.lower() == ".txt":
        raise RunnerError(f"--prompt has no effect: each line of {options.prompts} is a prompt; leave one of them out")
    all_jobs, repeated = read_jobs(options.prompts)
    jobs = own_share(all_jobs)
    check_writable(options.out)
    with locked_for_all(options.out / LOCK, "making clips"):
        if is_first():
            finish_killed(options.out)
        wait_for_all()
        batch = Batch(options, jobs)
        if repeated and is_first():
            one = len(repeated) == 1
            batch.remark(
                f"{'line' if one else 'lines'} {ranges(repeated)} {'wants' if one else 'want'} the same as an earlier "
                "line, and the same seed gives the same clip: it is made once; give each line a seed for other clips"
            )
        if options.server:
            from .sharing import share

            share(batch, jobs, options)
        else:
            run_all_here(batch, jobs, options)
        wait_for_all()
        return batch.report()


def run_all_here(batch: Batch, jobs: Sequence[Job], options: argparse.Namespace) -> None:
    """One after the other in this process."""
    from .registry import node_classes
    from .validate import validate

    host, base, specs = open_here(options)
    batch.add_notes(base.notes)
    classes = node_classes()
    _ = host.device  # a device that is not there is better said now

    def right_ones() -> Iterator[tuple[Job, str, Workflow, list[str]]]:
        for job in jobs:
            try:
                workflow = job.changed(base, specs)
                key = batch.key_of(workflow, specs)
                if batch.skips(job, key):
                    continue
                outputs = validate(workflow.prompt, classes, specs)
                refuse_shared_training(workflow.prompt, classes)
            except Exception as error:
                batch.fail(job, error)
                continue
            yield job, key, workflow, outputs

    cache = ResultCache()
    for (job, key, workflow, outputs), following in with_next(right_ones()):
        if following is not None:
            cache.expect(following[2].prompt, following[3], classes)
        try:
            check_writable(options.out)
            fill_names(workflow)
            with staged(options.out) as staging:
                outcome = execute(workflow.prompt, outputs, classes, workflow.extra_pnginfo, cache=cache)
                batch.deliver(job, key, workflow, outcome, staging)
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
