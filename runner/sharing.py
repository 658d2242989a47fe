"""Shares the jobs of a batch over servers: each has a few in its queue, and what a dead one had goes to the others."""

from __future__ import annotations

import argparse
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from .errors import RunnerError, ServerError, WorkflowError, sentence
from .folders import check_writable
from .jobs import Job
from .opening import open_on_server
from .server import Server
from .server_api import CANCEL_SECONDS
from .specs import NodeSpec
from .staging import staged
from .texts import fill_names
from .workflow import Workflow

if TYPE_CHECKING:
    from .delivery import Batch

QUEUED_AT_ONCE = 2  # at each server: one runs, and the next begins while the files of the first are fetched
# A job that kills servers is not handed on for ever. One that only waited behind another may be lost more often.
MOST_LOSSES, LOST_RUNNING = 9, 3


class Work:
    """The jobs that are to be done, for several threads: one that is given back is done by whoever is next."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.waiting = deque(jobs)
        self.running = 0
        self.losses: Counter[int] = Counter()  # of lines
        self.stopped = False
        self.changed = threading.Condition()

    def take(self) -> Job | None:
        """The next job; None when all are done, which is known only when nobody can give one back any more."""
        with self.changed:
            while not self.waiting and self.running and not self.stopped:
                self.changed.wait()
            if not self.waiting or self.stopped:
                return None
            self.running += 1
            return self.waiting.popleft()

    def finish(self) -> None:
        with self.changed:
            self.running -= 1
            self.changed.notify_all()

    def give_back(self, job: Job, begun: bool) -> bool:
        """Put a lost job to the front again, unless it was lost too often; says whether it was put there."""
        with self.changed:
            self.running -= 1
            self.losses[job.line] += LOST_RUNNING if begun else 1
            again = self.losses[job.line] < MOST_LOSSES
            if again:
                self.waiting.appendleft(job)
            self.changed.notify_all()
            return again

    def stop(self) -> None:
        """Hand out no more."""
        with self.changed:
            self.stopped = True
            self.changed.notify_all()


def share(batch: Batch, jobs: Sequence[Job], options: argparse.Namespace) -> None:
    """Do all jobs on the servers; those that no server could do are reported as failed."""
    work = Work(jobs)
    gone: dict[str, str] = {}  # server and what was the matter
    with ExitStack() as stack:
        opened = []
        for url in dict.fromkeys(options.server):
            server = stack.enter_context(Server(url, silent=True, say=batch.announce))
            try:
                base, specs = open_on_server(options, server)
                server.check(base, specs)  # one that lacks a node would fail every job that it gets
            except ServerError as error:
                leave_out(server, error, batch, gone)
            except WorkflowError as error:
                raise WorkflowError([f"{problem} (on {server.url})" for problem in error.problems]) from error
            else:
                batch.add_notes(base.notes, f"{server.url}: ")
                opened.append((server, base, specs))
        threads = [
            threading.Thread(target=serve, args=(*place, work, batch, gone), daemon=True)
            for place in opened
            for _ in range(QUEUED_AT_ONCE)
        ]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive():
                    thread.join(0.2)  # without a limit Ctrl-C would wait, too
        except KeyboardInterrupt:
            work.stop()
            for server, *_ in opened:
                server.stop()
            end = time.monotonic() + CANCEL_SECONDS + 1
            for thread in threads:
                thread.join(max(0.0, end - time.monotonic()))
            raise
    batch.fail_all(list(work.waiting), RunnerError(f"no server is left for it: {'; '.join(gone.values())}"))


def leave_out(server: Server, error: Exception, batch: Batch, gone: dict[str, str]) -> None:
    """Go on without a server that does not answer."""
    if server.url not in gone:
        gone[server.url] = sentence(error)
        batch.remark(f"a server was left out: {gone[server.url]}")


def serve(
    server: Server,
    base: Workflow,
    specs: Mapping[str, NodeSpec],
    work: Work,
    batch: Batch,
    gone: dict[str, str],
) -> None:
    """Do one job after the other on a server for as long as it answers."""
    while (job := work.take()) is not None:
        try:
            workflow = job.changed(base, specs)
            key = batch.key_of(workflow, specs)
            if not batch.skips(job, key):
                check_writable(batch.results.folder)
                fill_names(workflow)
                with staged(batch.results.folder) as staging:
                    batch.deliver(job, key, workflow, server.run(workflow, specs, staging), staging)
        except ServerError as error:
            if not work.give_back(job, error.begun):
                batch.fail(job, RunnerError(f"given up, as servers go down with it: {sentence(error)}"))
            if not server.is_there():
                leave_out(server, error, batch, gone)
                return
        except KeyboardInterrupt:
            work.finish()
            return
        except Exception as error:
            batch.fail(job, error, server.url)
            work.finish()
        except BaseException:  # nobody waits for a thread that is gone
            work.finish()
            raise
        else:
            work.finish()
