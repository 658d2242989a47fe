"""Queues a workflow on a running ComfyUI, follows it, and fetches what it made."""

from __future__ import annotations

import re
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from ..host import get_host
from ..host.folders import annotated, resolve_inside
from . import answers
from .answers import read_answer
from .connection import Connection, Listener, NotFound, Refusal
from .errors import LostError, PassingError, RunnerError, ServerError, WorkflowError, node_label
from .execute import Outcome
from .links import check_links
from .opening import check_writable
from .registry import node_classes
from .server_files import ServerFile, files_of, name_anew, named
from .server_reports import Progress, cached_nodes, raise_failure, refusals
from .specs import NodeSpec, spec_of_info
from .staging import Staging
from .validate import check_numbers, check_types
from .workflow import Workflow

POLL_SECONDS = 1.0
PATIENCE_SECONDS = 30.0  # how long a server may not answer in the middle of a run
LAST_WORDS_SECONDS = 5.0  # how long an interrupted run waits for the server to hear of it
RUNNING, PENDING = "queue_running", "queue_pending"  # ComfyUI's names of its queues
MOST_TIMES_AGAIN = 4  # that a run is queued whose files are gone from the server's output folder
OUR_NODES = "PyramidVideo"  # what the ids of our own nodes begin with
T = TypeVar("T")


class Server:
    """One ComfyUI server; several threads may run workflows on it. `say` is told once when it does not answer."""

    def __init__(self, url: str, silent: bool = False, say: Callable[[str], None] = lambda text: None) -> None:
        self.connection = Connection(url)
        self.url = self.connection.name
        self.silent = silent
        self.say = say
        self.stopped = threading.Event()  # set, it interrupts all runs, as Ctrl-C does in the main thread
        self.waiting = False  # for an answer, which has been said
        self.uploaded: dict[tuple[str, int, int], str] = {}  # input files here, with time and size, and names there

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def stop(self) -> None:
        """Interrupt all runs."""
        self.stopped.set()
        self.connection.stop()

    def specs(self) -> dict[str, NodeSpec]:
        """What every node on the server takes and gives; those that run here too are known to be closed."""

        def ask() -> Any:
            try:
                return self.get("/object_info", answers.NODES)
            except PassingError as error:
                if error.status is None:  # nobody is there, and nothing is lost yet
                    raise ServerError(str(error)) from None
                raise

        known, found = node_classes(), self.patiently(ask)
        return {
            name: spec_of_info(name, info, name in known)
            for name, info in found.items()
            if answers.fits(info, answers.NODE)
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
        listener = self.listen(client_id)
        try:
            prompt_id = self.queue(workflow, client_id, prompt_id)
            entry = self.follow(prompt_id, workflow, listener)
        except KeyboardInterrupt:
            with suppress(RunnerError):  # a server that is gone runs nothing any more
                self.cancel(prompt_id)
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

    def answers(self) -> bool:
        """Whether the server is there, or comes back within a short while."""
        try:
            self.queues()
        except RunnerError:
            return False
        return True

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
                    self.uploaded[sent] = self.upload(path, "" if folder == "." else folder)
                workflow.set_value(node_id, name, self.uploaded[sent])

    def upload(self, path: Path, subfolder: str) -> str:
        """Put one file into a folder below the server's input folder; returns the name it has there."""
        try:  # again is harmless: the server knows the same file by its content
            answer = self.patiently(lambda: self.connection.upload("/upload/image", path, {"subfolder": subfolder}))
        except ServerError:
            raise
        except RunnerError as error:
            why = "" if isinstance(error, Refusal) else f": {error}"
            raise RunnerError(f"the server at {self.url} does not take the input file {path.name}{why}") from error
        stored = read_answer(answer, answers.UPLOADED, self.url)
        return "/".join(filter(None, (stored.get("subfolder"), stored["name"])))

    def queue(self, workflow: Workflow, client_id: str, prompt_id: str) -> str:
        """Hand the graph over and return its id there; WorkflowError with the server's own complaints.

        When the answer is lost, the server is asked whether it took the graph before it is handed over once more.
        """
        extra = {"extra_pnginfo": workflow.extra_pnginfo} if workflow.extra_pnginfo else {}
        body = {"prompt": workflow.prompt, "client_id": client_id, "prompt_id": prompt_id, "extra_data": extra}
        lost = False

        def hand_over() -> dict[str, Any]:
            nonlocal lost
            if lost and self.knows(prompt_id):
                return {"prompt_id": prompt_id}
            try:
                return read_answer(self.connection.post("/prompt", body), answers.QUEUED, self.url)
            except LostError:
                lost = True
                raise

        try:
            answer = self.patiently(hand_over)
        except Refusal as error:
            raise WorkflowError(self.complaints(error, workflow)) from error
        except PassingError as error:
            if error.status == 500:  # it is there, and fails on this graph each time
                raise RunnerError(f"the server cannot take this workflow: {error}") from error
            raise
        taken = answer["prompt_id"]
        if not re.fullmatch(r"[\w-]{1,100}", taken):
            raise ServerError(f"what answers at {self.url} is not ComfyUI: it calls the prompt {taken!r}")
        if answer.get("node_errors"):  # the server would run the rest and drop this branch without a word
            self.cancel(taken)
            raise WorkflowError(refusals(answer, workflow))
        return taken

    def complaints(self, refusal: Refusal, workflow: Workflow) -> list[str]:
        """What the server has against a graph, one sentence each."""
        return refusals(read_answer(refusal.text or b"{}", answers.REFUSED, self.url), workflow)

    def knows(self, prompt_id: str) -> bool:
        """Whether a prompt waits, runs, or is done on the server."""
        try:
            history = self.get(f"/history/{prompt_id}", answers.HISTORY)
        except NotFound:
            history = {}
        return prompt_id in history or place_of(prompt_id, self.get("/queue", answers.QUEUE)) is not None

    def listen(self, client_id: str) -> Listener | None:
        """A connection for live progress, or None where the server or a proxy has none; the run is polled anyway."""
        try:
            return self.connection.listen(client_id)
        except OSError:
            return None

    def follow(self, prompt_id: str, workflow: Workflow, listener: Listener | None) -> dict[str, Any]:
        """Wait for the end of a prompt and give back its entry in the server's history."""
        progress = Progress(workflow, self.silent)
        polled, ended = 0.0, None  # when it was said to have ended
        try:
            while True:
                self.pause(POLL_SECONDS if listener is None else 0)
                if listener is not None:
                    try:
                        ends = progress.hear(listener.next_text(POLL_SECONDS), prompt_id)
                    except OSError:
                        listener, ends = None, False
                    if ends and ended is None:
                        ended, polled = time.monotonic(), 0.0
                    if time.monotonic() - polled < POLL_SECONDS:
                        continue
                entry = self.entry(prompt_id)
                polled = time.monotonic()
                if entry is not None:
                    return entry
                place = place_of(prompt_id, self.queues())
                progress.begun |= place == RUNNING
                if place is None and self.entry(prompt_id) is None:
                    raise ServerError(
                        f"the server at {self.url} no longer knows this prompt; was it restarted or cleared?"
                    )
                if ended is not None and polled - ended > PATIENCE_SECONDS:
                    raise ServerError(f"the server at {self.url} says that the run has ended, but not how")
        except ServerError as error:
            error.begun = progress.begun
            raise
        finally:
            progress.close()

    def entry(self, prompt_id: str) -> dict[str, Any] | None:
        """What the server's history says about a prompt; None while it is not done."""
        return self.patiently(lambda: self.get(f"/history/{prompt_id}", answers.HISTORY)).get(prompt_id)

    def queues(self) -> dict[str, Any]:
        return self.patiently(lambda: self.get("/queue", answers.QUEUE))

    def cancel(self, prompt_id: str) -> None:
        """Take a prompt out of the queue, or interrupt it when it runs; others are left alone."""
        end = time.monotonic() + LAST_WORDS_SECONDS
        self.connection.post("/queue", {"delete": [prompt_id]}, LAST_WORDS_SECONDS)
        queues = self.connection.get("/queue", max(0.1, end - time.monotonic()))
        if place_of(prompt_id, read_answer(queues, answers.QUEUE, self.url)) == RUNNING:
            self.connection.post("/interrupt", {"prompt_id": prompt_id}, max(0.1, end - time.monotonic()))

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
        """Fetch one file; the name is the server's, so it is looked at as one from a stranger."""
        prefix, suffix = file.split(self.url)
        target = resolve_inside(staging.out, f"{file.subfolder or '.'}/{prefix}", "name of a server's file")
        arrived = staging.add(target.parent, target.name, suffix)
        query = {"filename": file.name, "subfolder": file.subfolder, "type": "output"}
        self.patiently(lambda: self.connection.download("/view", query, arrived))
        return arrived

    def patiently(self, ask: Callable[[], T]) -> T:
        """Ask in a way that outlasts a short silence of the server."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        pause = POLL_SECONDS
        while True:
            self.pause(0)
            try:
                answer = ask()
            except PassingError as error:
                if time.monotonic() > deadline:
                    raise
                if not self.waiting:
                    self.waiting = True
                    self.say(f"{error}; asking again for {PATIENCE_SECONDS:.0f} seconds")
                self.pause(pause)
                pause = min(2 * pause, 8 * POLL_SECONDS)
            else:
                self.waiting = False
                return answer

    def pause(self, seconds: float) -> None:
        """Wait a moment; KeyboardInterrupt when the runs on this server have been stopped."""
        if self.stopped.wait(seconds):
            raise KeyboardInterrupt

    def get(self, path: str, shape: Any) -> Any:
        return read_answer(self.connection.get(path), shape, self.url)


def place_of(prompt_id: str, queues: Mapping[str, Any]) -> str | None:
    """Which of the server's queues a prompt is in."""
    found = [key for key in (RUNNING, PENDING) if any(item[1:2] == [prompt_id] for item in queues[key])]
    return found[0] if found else None
