"""The requests to a running ComfyUI: its nodes, queue and history, files there and back, each with patience."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from . import responses
from .connection import Connection, Listener, NotFound, Refusal
from .errors import LostError, PassingError, RunnerError, ServerError, WorkflowError, shown
from .responses import read_response
from .server_reports import refusals
from .workflow import Workflow

POLL_SECONDS = 1.0
RETRY_SECONDS = 30.0  # how long a server may not respond in the middle of a run
CANCEL_SECONDS = 5.0  # how long an interrupted run waits for the server to hear of it
RUNNING, PENDING = "queue_running", "queue_pending"  # ComfyUI's names of its queues
T = TypeVar("T")


class ServerAPI:
    """One ComfyUI, for any number of threads. `say` is called once when it does not respond."""

    def __init__(self, url: str, say: Callable[[str], None]) -> None:
        self.connection = Connection(url)
        self.url = self.connection.name
        self.say = say
        self.stopped = threading.Event()  # set, it interrupts all runs, as Ctrl-C does in the main thread
        self.waiting = False  # for a response, which has been said

    def close(self) -> None:
        self.connection.close()

    def stop(self) -> None:
        """Interrupt all that is waited for."""
        self.connection.stop(self.stopped.set)

    def nodes(self) -> dict[str, Any]:
        """What every node on the server says of itself."""

        def request() -> Any:
            try:
                return self.get("/object_info", responses.NODES)
            except PassingError as error:
                if error.status is None:  # nobody is there, and nothing is lost yet
                    raise ServerError(str(error)) from None
                raise

        return self.retrying(request)

    def submit(self, workflow: Workflow, client_id: str, prompt_id: str) -> str:
        """Hand the graph over and return its id there; WorkflowError with the server's own complaints.

        When the response is lost, the server is asked whether it took the graph before it is handed over once more.
        """
        extra = {"extra_pnginfo": workflow.extra_pnginfo} if workflow.extra_pnginfo else {}
        body = {"prompt": workflow.prompt, "client_id": client_id, "prompt_id": prompt_id, "extra_data": extra}
        lost = False

        def request() -> dict[str, Any]:
            nonlocal lost
            if lost and self.knows(prompt_id):
                return {"prompt_id": prompt_id}
            try:
                return read_response(self.connection.post("/prompt", body), responses.QUEUED, self.url)
            except LostError:
                lost = True
                raise

        try:
            response = self.retrying(request)
        except Refusal as error:
            complaints = read_response(error.text or b"{}", responses.REFUSED, self.url)
            raise WorkflowError(refusals(complaints, workflow)) from error
        except PassingError as error:
            if error.status == 500:  # it is there, and fails on this graph each time
                raise RunnerError(f"the server cannot take this workflow: {error}") from error
            raise
        taken = response["prompt_id"]
        if not re.fullmatch(r"[\w-]{1,100}", taken):
            raise ServerError(f"what answers at {self.url} is not ComfyUI: it calls the prompt {shown(taken)}")
        if response.get("node_errors"):  # the server would run the rest and drop this branch without a word
            self.cancel(taken)
            raise WorkflowError(refusals(response, workflow))
        return taken

    def knows(self, prompt_id: str) -> bool:
        """Whether a prompt waits, runs, or is done on the server."""
        try:
            history = self.get(f"/history/{prompt_id}", responses.HISTORY)
        except NotFound:
            history = {}
        return prompt_id in history or queue_of(prompt_id, self.get("/queue", responses.QUEUE)) is not None

    def listen(self, client_id: str) -> Listener | None:
        """A connection for live progress, or None where the server or a proxy has none; the run is polled anyway."""
        try:
            return self.connection.listen(client_id)
        except OSError:
            return None

    def entry(self, prompt_id: str) -> dict[str, Any] | None:
        """What the server's history says about a prompt; None while it is not done."""
        return self.retrying(lambda: self.get(f"/history/{prompt_id}", responses.HISTORY)).get(prompt_id)

    def queues(self) -> dict[str, Any]:
        return self.retrying(lambda: self.get("/queue", responses.QUEUE))

    def cancel(self, prompt_id: str) -> None:
        """Take a prompt out of the queue, or interrupt it when it runs; others are left alone."""
        end = time.monotonic() + CANCEL_SECONDS
        self.connection.post("/queue", {"delete": [prompt_id]}, CANCEL_SECONDS)
        queues = self.connection.get("/queue", max(0.1, end - time.monotonic()))
        if queue_of(prompt_id, read_response(queues, responses.QUEUE, self.url)) == RUNNING:
            self.connection.post("/interrupt", {"prompt_id": prompt_id}, max(0.1, end - time.monotonic()))

    def upload(self, path: Path, subfolder: str) -> str:
        """Put one file into a folder below the server's input folder; returns the name it has there."""
        try:  # again is harmless: the server knows the same file by its content
            response = self.retrying(lambda: self.connection.upload("/upload/image", path, {"subfolder": subfolder}))
        except ServerError:
            raise
        except RunnerError as error:
            why = "" if isinstance(error, Refusal) else f": {error}"
            raise RunnerError(f"the server at {self.url} does not take the input file {path.name}{why}") from error
        stored = read_response(response, responses.UPLOADED, self.url)
        return "/".join(filter(None, (stored.get("subfolder"), stored["name"])))

    def download(self, name: str, subfolder: str, path: Path) -> None:
        """Write a file of the server's output folder to `path`; NotFound where it is gone."""
        query = {"filename": name, "subfolder": subfolder, "type": "output"}
        self.retrying(lambda: self.connection.download("/view", query, path))

    def retrying(self, request: Callable[[], T]) -> T:
        """The response to a request, repeated for as long as a server may be silent."""
        deadline = time.monotonic() + RETRY_SECONDS
        pause = POLL_SECONDS
        while True:
            self.pause(0)
            try:
                response = request()
            except PassingError as error:
                if time.monotonic() > deadline:
                    raise
                if not self.waiting:
                    self.waiting = True
                    self.say(f"{error}; trying again for {RETRY_SECONDS:.0f} seconds")
                self.pause(pause)
                pause = min(2 * pause, 8 * POLL_SECONDS)
            else:
                self.waiting = False
                return response

    def pause(self, seconds: float) -> None:
        """Wait a moment; KeyboardInterrupt when the runs on this server have been stopped."""
        if self.stopped.wait(seconds):
            raise KeyboardInterrupt

    def get(self, path: str, shape: Any) -> Any:
        return read_response(self.connection.get(path), shape, self.url)


def queue_of(prompt_id: str, queues: Mapping[str, Any]) -> str | None:
    """Which of the server's queues a prompt is in."""
    found = [key for key in (RUNNING, PENDING) if any(item[1:2] == [prompt_id] for item in queues[key])]
    return found[0] if found else None
