"""Queues a workflow on a running ComfyUI, follows it, and fetches what it made."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from ..host import get_host
from ..host.folders import annotated, resolve_inside
from . import responses, server_api
from .connection import Listener, NotFound
from .errors import RunnerError, ServerError, WorkflowError, node_label
from .execute import Outcome
from .folders import check_writable
from .links import check_links
from .registry import node_classes
from .server_api import RUNNING, ServerAPI, queue_of
from .server_files import ServerFile, files_of, name_anew, named
from .server_reports import Progress, cached_nodes, raise_failure
from .specs import NodeSpec, spec_of_info
from .staging import Staging
from .validate import check_numbers, check_types
from .workflow import Workflow

MOST_TIMES_AGAIN = 4  # that a run is queued whose files are gone from the server's output folder
OUR_NODES = "PyramidVideo"  # what the ids of our own nodes begin with


class Server:
    """One ComfyUI server; several threads may run workflows on it. `say` is called once when it does not respond."""

    def __init__(self, url: str, silent: bool = False, say: Callable[[str], None] = lambda text: None) -> None:
        self.api = ServerAPI(url, say)
        self.url = self.api.url
        self.silent = silent
        self.uploaded: dict[tuple[str, int, int], str] = {}  # input files here, with time and size, and names there

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.api.close()

    def stop(self) -> None:
        """Interrupt all runs."""
        self.api.stop()

    def is_there(self) -> bool:
        """Whether the server responds, or does so within a short while."""
        try:
            self.api.queues()
        except RunnerError:
            return False
        return True

    def specs(self) -> dict[str, NodeSpec]:
        """What every node on the server takes and gives; those that run here too are known to be closed."""
        known, found = node_classes(), self.api.nodes()
        return {
            name: spec_of_info(name, info, name in known)
            for name, info in found.items()
            if responses.fits(info, responses.NODE)
        }

    def run(self, workflow: Workflow, specs: Mapping[str, NodeSpec], staging: Staging) -> Outcome:
        """Queue the workflow, wait for its end, fetch its files; an interrupt here interrupts it there.

        The files wait in `staging` for their names. ServerError when the server is gone or forgot the workflow.
        """
        self.check(workflow, specs)
        self.upload_inputs(workflow, specs)
        for _ in range(MOST_TIMES_AGAIN):
            entry = self.run_once(workflow)
            try:
                return self.fetch(entry, workflow, staging)
            except NotFound:
                staging.clear()
                if not name_anew(workflow, cached_nodes(entry)):
                    raise
        raise RunnerError(f"the server at {self.url} says that it made the files, but has none of them")

    def run_once(self, workflow: Workflow) -> dict[str, Any]:
        """Queue the workflow and wait for its entry in the server's history."""
        client_id, prompt_id = uuid.uuid4().hex, str(uuid.uuid4())
        listener = self.api.listen(client_id)
        try:
            prompt_id = self.api.submit(workflow, client_id, prompt_id)
            entry = self.follow(prompt_id, workflow, listener)
        except KeyboardInterrupt:
            with suppress(RunnerError):  # a server that is gone runs nothing any more
                self.api.cancel(prompt_id)
            raise
        finally:
            if listener is not None:
                listener.close()
        raise_failure(entry, workflow)
        return entry

    def check(self, workflow: Workflow, specs: Mapping[str, NodeSpec]) -> None:
        """Raise WorkflowError for what can be known to be wrong before anything is sent."""
        lacking = sorted(
            {node["class_type"] for node in workflow.prompt.values() if node["class_type"].startswith(OUR_NODES)}
            & set(node_classes()) - set(specs)
        )
        if lacking and not any(name.startswith(OUR_NODES) for name in specs):
            raise WorkflowError(f"the server at {self.url} does not have the Pyramid Video nodes; install them there")
        if lacking:
            names = ", ".join(lacking)
            raise WorkflowError(f"the server at {self.url} has an older Pyramid Video without {names}; update it there")
        check_types(workflow.prompt, specs)
        check_links(workflow.prompt, specs)
        check_numbers(workflow.prompt)

    def upload_inputs(self, workflow: Workflow, specs: Mapping[str, NodeSpec]) -> None:
        """Send the input files that the workflow names and this machine has.

        The workflow then names them as the server does. It keeps the same file once, and another of the same name
        beside it: a picture that was changed here is not taken for the one that was sent earlier.
        """
        for node_id, node in workflow.prompt.items():
            for name, spec in specs[node["class_type"]].inputs.items():
                value = node["inputs"].get(name)
                if not spec.takes_files or not isinstance(value, str):
                    continue
                plain, place = annotated(value)
                if place != "input":
                    continue
                try:
                    path = get_host().input_file(plain)
                except (ValueError, FileNotFoundError):
                    continue  # the server says what it lacks
                folder = PurePosixPath(plain.replace("\\", "/")).parent.as_posix()
                sent = plain, path.stat().st_mtime_ns, path.stat().st_size
                if sent not in self.uploaded:
                    self.uploaded[sent] = self.api.upload(path, "" if folder == "." else folder)
                workflow.set_value(node_id, name, self.uploaded[sent])

    def follow(self, prompt_id: str, workflow: Workflow, listener: Listener | None) -> dict[str, Any]:
        """Wait for the end of a prompt and give back its entry in the server's history."""
        progress, poll = Progress(workflow, self.silent), server_api.POLL_SECONDS
        polled, ended = 0.0, None  # when it was said to have ended
        try:
            while True:
                self.api.pause(poll if listener is None else 0)
                if listener is not None:
                    try:
                        ends = progress.take_event(listener.next_text(poll), prompt_id)
                    except OSError:
                        listener, ends = None, False
                    if ends and ended is None:
                        ended, polled = time.monotonic(), 0.0
                    if time.monotonic() - polled < poll:
                        continue
                entry = self.api.entry(prompt_id)
                polled = time.monotonic()
                if entry is not None:
                    return entry
                queue = queue_of(prompt_id, self.api.queues())
                progress.begun |= queue == RUNNING
                if queue is None and self.api.entry(prompt_id) is None:
                    raise ServerError(
                        f"the server at {self.url} no longer knows this prompt; was it restarted or cleared?"
                    )
                if ended is not None and polled - ended > server_api.RETRY_SECONDS:
                    raise ServerError(f"the server at {self.url} says that the run has ended, but not how")
        except ServerError as error:
            error.begun = progress.begun
            raise
        finally:
            progress.close()

    def fetch(self, entry: Mapping[str, Any], workflow: Workflow, staging: Staging) -> Outcome:
        """Fetch every output file of a run. Where that fails, the error names what is left on the server."""
        outcome = Outcome()
        for node_id, output in (entry.get("outputs") or {}).items():
            texts = output.get("text") if isinstance(output.get("text"), list) else ()
            label = node_label(workflow.prompt, node_id)
            outcome.notes += [f"{label}: {text}" for text in texts if isinstance(text, str)]
        files = list(files_of(entry, self.url))
        try:
            for file in files:
                check_writable(staging.out)
                outcome.files.append(self.fetch_file(file, staging))
        except NotFound as error:
            raise NotFound(f"{error}; it says that it made {named(files)}") from error
        except RunnerError as error:
            error.args = (f"{error}; it has made {named(files)}, which lies in its output folder",)
            raise
        if not files:
            outcome.notes.append(f"the server at {self.url} saved no file: the workflow has no node such as Save Video")
        return outcome

    def fetch_file(self, file: ServerFile, staging: Staging) -> Path:
        """Fetch one file; the name is the server's, and so not to be trusted."""
        prefix, suffix = file.split(self.url)
        target = resolve_inside(staging.out, f"{file.subfolder or '.'}/{prefix}", "name of a server's file")
        arrived = staging.add(target.parent, target.name, suffix)
        self.api.download(file.name, file.subfolder, arrived)
        return arrived
