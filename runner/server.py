"""Queues a workflow on a running ComfyUI, follows it, and fetches what it made."""

from __future__ import annotations

import json
import re
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.client import HTTPException, IncompleteRead
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from ..host import get_host
from .core_files import save_as
from .errors import RunnerError, ServerError, WorkflowError, node_label, shown
from .execute import Outcome
from .links import check_links
from .registry import node_classes
from .server_reports import Progress, raise_failure, refusals
from .specs import NodeSpec, spec_of_info
from .validate import check_numbers, check_types
from .websocket import Listener
from .workflow import Workflow

POLL_SECONDS = 1.0
PATIENCE_SECONDS = 30.0  # how long a server may not answer in the middle of a run
RUNNING, PENDING = "queue_running", "queue_pending"  # ComfyUI's names of its queues
GONE = (502, 503, 504)  # what a proxy answers for a server that is not there
T = TypeVar("T")


class Server:
    """One ComfyUI server; several threads may run workflows on it."""

    def __init__(self, url: str, silent: bool = False) -> None:
        self.url = (url if "://" in url else f"http://{url}").rstrip("/")
        self.silent = silent
        self.stopped = threading.Event()  # set, it interrupts all runs, as Ctrl-C does in the main thread
        self.uploaded: dict[str, str] = {}  # names of input files here and there

    def specs(self) -> dict[str, NodeSpec]:
        """What every node on the server takes and gives; those that run here too are known to be closed."""
        known = node_classes()
        return {name: spec_of_info(name, info, name in known) for name, info in self.get("/object_info").items()}

    def run(self, workflow: Workflow, specs: Mapping[str, NodeSpec]) -> Outcome:
        """Queue the workflow, wait for its end, save its files; an interrupt here interrupts it there.

        ServerError when the server is gone or forgot the workflow; no file was saved then.
        """
        self.check(workflow, specs)
        self.upload_inputs(workflow, specs)
        client_id = uuid.uuid4().hex
        listener = self.listen(client_id)
        try:
            prompt_id = self.queue(workflow, client_id)
            try:
                entry = self.follow(prompt_id, workflow, listener)
            except KeyboardInterrupt:
                with suppress(RunnerError):  # a server that is gone runs nothing any more
                    self.cancel(prompt_id)
                raise
        finally:
            if listener is not None:
                listener.close()
        raise_failure(entry, workflow)
        return self.fetch(entry, workflow)

    def check(self, workflow: Workflow, specs: Mapping[str, NodeSpec]) -> None:
        """Raise WorkflowError for what can be known to be wrong before anything is sent."""
        check_types(workflow.prompt, specs)
        check_links(workflow.prompt, specs)
        check_numbers(workflow.prompt)

    def answers(self) -> bool:
        """Whether the server is there, or comes back within a short while."""
        try:
            self.patiently(lambda: self.get("/queue"))
        except RunnerError:
            return False
        return True

    def upload_inputs(self, workflow: Workflow, specs: Mapping[str, NodeSpec]) -> None:
        """Send the input files that the workflow names, the server lacks, and this machine has.

        The workflow then names them as the server does, which never overwrites another file of the same name.
        """
        for node_id, node in workflow.prompt.items():
            for name, spec in specs[node["class_type"]].inputs.items():
                value = node["inputs"].get(name)
                takes_files = spec.options.get("image_upload") or spec.options.get("video_upload")
                if not takes_files or not isinstance(value, str) or value in (spec.choices or ()):
                    continue
                try:
                    path = get_host().input_file(value)
                except (ValueError, FileNotFoundError):
                    continue  # the server says what it lacks
                folder = PurePosixPath(value.replace("\\", "/")).parent.as_posix()
                if value not in self.uploaded:
                    self.uploaded[value] = self.upload(path, "" if folder == "." else folder)
                workflow.set_value(node_id, name, self.uploaded[value])

    def upload(self, path: Path, subfolder: str) -> str:
        """Put one file into a folder below the server's input folder; returns the name it has there."""
        border = uuid.uuid4().hex
        head = (
            f"--{border}\r\n"
            f'Content-Disposition: form-data; name="subfolder"\r\n\r\n{subfolder}\r\n'
            f"--{border}\r\n"
            f'Content-Disposition: form-data; name="image"; filename="{quoted(path.name)}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        body = head.encode() + path.read_bytes() + f"\r\n--{border}--\r\n".encode()
        try:
            answer = self.call("/upload/image", body, f"multipart/form-data; boundary={border}")
        except HTTPError as error:
            raise RunnerError(f"the server at {self.url} does not take the input file {path.name}") from error
        stored = decode(answer, self.url)
        return "/".join(filter(None, (stored.get("subfolder"), stored["name"])))

    def queue(self, workflow: Workflow, client_id: str) -> str:
        """Hand the graph over; WorkflowError with the server's own complaints."""
        extra = {"extra_pnginfo": workflow.extra_pnginfo} if workflow.extra_pnginfo else {}
        body = {"prompt": workflow.prompt, "client_id": client_id, "extra_data": extra}
        try:
            answer = self.post("/prompt", body)
        except HTTPError as error:
            raise WorkflowError(refusals(decode(error.read() or b"{}", self.url), workflow)) from error
        if answer.get("node_errors"):  # the server would run the rest and drop this branch without a word
            self.cancel(answer["prompt_id"])
            raise WorkflowError(refusals(answer, workflow))
        return answer["prompt_id"]

    def listen(self, client_id: str) -> Listener | None:
        """A connection for live progress, or None where the server or a proxy has none; the run is polled anyway."""
        try:
            return Listener(f"{self.url}/ws?clientId={client_id}")
        except OSError:
            return None

    def follow(self, prompt_id: str, workflow: Workflow, listener: Listener | None) -> dict[str, Any]:
        """Wait for the end of a prompt and give back its entry in the server's history."""
        progress = Progress(workflow, self.silent)
        polled = 0.0
        try:
            while True:
                self.pause(POLL_SECONDS if listener is None else 0)
                if listener is not None:
                    try:
                        ended = progress.hear(listener.next_text(POLL_SECONDS), prompt_id)
                    except OSError:
                        listener, ended = None, False
                    if not ended and time.monotonic() - polled < POLL_SECONDS:
                        continue
                entry = self.entry(prompt_id)
                polled = time.monotonic()
                if entry is not None:
                    return entry
                queue = self.queue_of(prompt_id)
                progress.begun |= queue == RUNNING
                if queue is None and self.entry(prompt_id) is None:
                    raise ServerError(
                        f"the server at {self.url} no longer knows this prompt; was it restarted or cleared?"
                    )
        except ServerError as error:
            error.begun = progress.begun
            raise
        finally:
            progress.close()

    def entry(self, prompt_id: str) -> dict[str, Any] | None:
        """What the server's history says about a prompt; None while it is not done."""
        return self.patiently(lambda: self.get(f"/history/{prompt_id}")).get(prompt_id)

    def queue_of(self, prompt_id: str) -> str | None:
        """Which of the server's queues a prompt is in."""
        queues = self.patiently(lambda: self.get("/queue"))
        found = [key for key in (RUNNING, PENDING) if any(item[1] == prompt_id for item in queues.get(key, ()))]
        return found[0] if found else None

    def cancel(self, prompt_id: str) -> None:
        """Take a prompt out of the queue, or interrupt it when it runs; others are left alone."""
        self.post("/queue", {"delete": [prompt_id]})
        if self.queue_of(prompt_id) == RUNNING:
            self.post("/interrupt", {"prompt_id": prompt_id})

    def fetch(self, entry: Mapping[str, Any], workflow: Workflow) -> Outcome:
        """Save every output file under its own prefix in our output folder, once all of them have arrived."""
        outcome, arrived = Outcome(), []
        for node_id, output in entry.get("outputs", {}).items():
            label = node_label(workflow.prompt, node_id)
            outcome.notes += [f"{label}: {text}" for text in output.get("text", ()) if isinstance(text, str)]
            for item in (item for items in output.values() if isinstance(items, list) for item in items):
                if isinstance(item, dict) and item.get("type") == "output" and "filename" in item:
                    query = urlencode({key: item.get(key, "") for key in ("filename", "subfolder", "type")})
                    arrived.append((item, self.patiently(lambda query=query: self.call(f"/view?{query}"))))
        outcome.files = [self.save(item, data) for item, data in arrived]
        return outcome

    def save(self, item: Mapping[str, str], data: bytes) -> Path:
        """Write one file; the name is the server's, so it is looked at as one from a stranger."""
        stem, _, suffix = str(item["filename"]).rpartition(".")
        if not stem or not re.fullmatch(r"\w{1,9}", suffix):
            raise RunnerError(f"the server at {self.url} names a file {item['filename']!r}, which is no name for one")
        prefix = re.sub(r"_\d+_?$", "", stem)  # our own number follows, so nothing is overwritten
        folder = get_host().output_dir
        saved = save_as(folder, f"{item.get('subfolder') or '.'}/{prefix}", suffix, lambda path: path.write_bytes(data))
        return folder / saved["subfolder"] / saved["filename"]

    def patiently(self, ask: Callable[[], T]) -> T:
        """Ask in a way that outlasts a short silence of the server."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return ask()
            except ServerError:
                if time.monotonic() > deadline:
                    raise
                self.pause(POLL_SECONDS)

    def pause(self, seconds: float) -> None:
        """Wait a moment; KeyboardInterrupt when the runs on this server have been stopped."""
        if self.stopped.wait(seconds):
            raise KeyboardInterrupt

    def get(self, path: str) -> Any:
        return decode(self.call(path), self.url)

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        return decode(self.call(path, json.dumps(body).encode(), "application/json") or b"{}", self.url)

    def call(self, path: str, body: bytes | None = None, kind: str | None = None) -> bytes:
        """One HTTP request. HTTPError is left to the caller where the server explains itself (status 400)."""
        headers = {"Content-Type": kind} if kind else {}
        try:
            with urlopen(Request(self.url + path, body, headers), timeout=60) as answer:
                return answer.read()
        except HTTPError as error:
            if error.code == 400:
                raise
            kind = ServerError if error.code in GONE else RunnerError
            raise kind(f"the server at {self.url} answers {error.code} ({error.reason}) to {path}") from error
        except IncompleteRead as error:
            raise ServerError(f"no ComfyUI answers at {self.url}: the answer broke off") from error
        except (URLError, OSError, ValueError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise ServerError(f"no ComfyUI answers at {self.url}: {reason}") from error


def quoted(name: str) -> str:
    """A file name between the quotes of a form's header, where ComfyUI takes line ends and semicolons for its end."""
    return name.translate(str.maketrans({"\\": r"\\", '"': r"\"", "\r": "%0D", "\n": "%0A", ";": "%3B"}))


def decode(data: bytes, url: str) -> dict[str, Any]:
    """An answer of the server; all that are read here are objects."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ServerError(f"what answers at {url} is not ComfyUI") from error
    if not isinstance(found, dict):
        raise ServerError(f"what answers at {url} is not ComfyUI: it says {shown(found)}")
    return found
