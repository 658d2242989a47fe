"""Queues a workflow on a running ComfyUI, follows it, and fetches what it made."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from http.client import HTTPException, IncompleteRead
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from ..host import get_host
from ..host.standalone_progress import Bar
from .core_files import save_as
from .errors import NodeError, RunnerError, WorkflowError, node_label
from .execute import Outcome
from .links import check_links
from .registry import node_classes
from .specs import NodeSpec, spec_of_info
from .validate import check_types
from .websocket import Listener
from .workflow import Workflow

POLL_SECONDS = 1.0
PATIENCE_SECONDS = 30.0  # how long a server may not answer in the middle of a run


class Server:
    """One ComfyUI server and this client of it."""

    def __init__(self, url: str, silent: bool = False) -> None:
        self.url = (url if "://" in url else f"http://{url}").rstrip("/")
        self.client_id = uuid.uuid4().hex
        self.silent = silent

    def specs(self) -> dict[str, NodeSpec]:
        """What every node on the server takes and gives; those that run here too are known to be closed."""
        known = node_classes()
        return {name: spec_of_info(name, info, name in known) for name, info in self.get("/object_info").items()}

    def run(self, workflow: Workflow, specs: Mapping[str, NodeSpec]) -> Outcome:
        """Queue the workflow, wait for its end, save its files; an interrupt here interrupts it there."""
        check_types(workflow.prompt, specs)
        check_links(workflow.prompt, specs)
        self.upload_inputs(workflow, specs)
        listener = self.listen()
        prompt_id = self.queue(workflow)
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
                workflow.set_value(node_id, name, self.upload(path, "" if folder == "." else folder))

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

    def queue(self, workflow: Workflow) -> str:
        """Hand the graph over; WorkflowError with the server's own complaints."""
        extra = {"extra_pnginfo": {"workflow": workflow.ui}} if workflow.ui else {}
        body = {"prompt": workflow.prompt, "client_id": self.client_id, "extra_data": extra}
        try:
            answer = self.post("/prompt", body)
        except HTTPError as error:
            raise WorkflowError(refusals(decode(error.read() or b"{}", self.url), workflow)) from error
        if answer.get("node_errors"):  # the server would run the rest and drop this branch without a word
            self.cancel(answer["prompt_id"])
            raise WorkflowError(refusals(answer, workflow))
        return answer["prompt_id"]

    def listen(self) -> Listener | None:
        """A connection for live progress, or None where the server or a proxy has none; the run is polled anyway."""
        try:
            return Listener(f"{self.url}/ws?clientId={self.client_id}")
        except OSError:
            return None

    def follow(self, prompt_id: str, workflow: Workflow, listener: Listener | None) -> dict[str, Any]:
        """Wait for the end of a prompt and give back its entry in the server's history."""
        progress = Progress(workflow, self.silent)
        polled = 0.0
        try:
            while True:
                if listener is None:
                    time.sleep(POLL_SECONDS)
                else:
                    try:
                        ended = progress.hear(listener.next_text(POLL_SECONDS), prompt_id)
                    except OSError:
                        listener, ended = None, False
                    if not ended and time.monotonic() - polled < POLL_SECONDS:
                        continue
                entry = self.patiently(f"/history/{prompt_id}").get(prompt_id)
                polled = time.monotonic()
                if entry is not None:
                    return entry
                if not self.is_queued(prompt_id) and prompt_id not in self.patiently(f"/history/{prompt_id}"):
                    raise RunnerError(
                        f"the server at {self.url} no longer knows this prompt; was it restarted or cleared?"
                    )
        finally:
            progress.close()

    def is_queued(self, prompt_id: str) -> bool:
        queue = self.patiently("/queue")
        return any(item[1] == prompt_id for key in ("queue_running", "queue_pending") for item in queue.get(key, ()))

    def cancel(self, prompt_id: str) -> None:
        """Take a prompt out of the queue, or interrupt it when it runs; others are left alone."""
        self.post("/queue", {"delete": [prompt_id]})
        running = self.get("/queue").get("queue_running", ())
        if any(item[1] == prompt_id for item in running):
            self.post("/interrupt", {"prompt_id": prompt_id})

    def fetch(self, entry: Mapping[str, Any], workflow: Workflow) -> Outcome:
        """Save every output file under its own prefix in our output folder."""
        outcome = Outcome()
        for node_id, output in entry.get("outputs", {}).items():
            label = node_label(workflow.prompt, node_id)
            outcome.notes += [f"{label}: {text}" for text in output.get("text", ()) if isinstance(text, str)]
            for item in (item for items in output.values() if isinstance(items, list) for item in items):
                if isinstance(item, dict) and item.get("type") == "output" and "filename" in item:
                    outcome.files.append(self.fetch_file(item))
        return outcome

    def fetch_file(self, item: Mapping[str, str]) -> Path:
        data = self.call(f"/view?{urlencode({key: item.get(key, '') for key in ('filename', 'subfolder', 'type')})}")
        stem, _, suffix = item["filename"].rpartition(".")
        prefix = re.sub(r"_\d+_?$", "", stem)  # our own number follows, so nothing is overwritten
        folder = get_host().output_dir
        saved = save_as(folder, f"{item.get('subfolder') or '.'}/{prefix}", suffix, lambda path: path.write_bytes(data))
        return folder / saved["subfolder"] / saved["filename"]

    def patiently(self, path: str) -> dict[str, Any]:
        """GET that outlasts a short silence of the server."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return self.get(path)
            except RunnerError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(POLL_SECONDS)

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
            raise RunnerError(f"the server at {self.url} answers {error.code} ({error.reason}) to {path}") from error
        except IncompleteRead as error:
            raise RunnerError(f"no ComfyUI answers at {self.url}: the answer broke off") from error
        except (URLError, OSError, ValueError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise RunnerError(f"no ComfyUI answers at {self.url}: {reason}") from error


class Progress:
    """The bar of the node that is running on the server."""

    def __init__(self, workflow: Workflow, silent: bool) -> None:
        self.workflow = workflow
        self.silent = silent
        self.node: str | None = None
        self.bar: Bar | None = None

    def hear(self, text: str | None, prompt_id: str) -> bool:
        """Take in one event; True when it says that the prompt has ended."""
        if text is None:
            return False
        event = json.loads(text)
        data = event.get("data") or {}
        if data.get("prompt_id") != prompt_id:
            return False
        if event.get("type") == "progress":
            if self.bar is None or (self.node, self.bar.total) != (data.get("node"), data["max"]):
                self.close()
                self.node, self.bar = data.get("node"), Bar(data["max"], self.silent)
            self.bar.update(data["value"], node_label(self.workflow.prompt, str(self.node)))
        ends = ("execution_success", "execution_error", "execution_interrupted")
        return event.get("type") in ends or (event.get("type") == "executing" and data.get("node") is None)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


def raise_failure(entry: Mapping[str, Any], workflow: Workflow) -> None:
    """Raise what the history says went wrong, if anything did."""
    status = entry.get("status") or {}
    if status.get("status_str") != "error":
        return
    for event, data in status.get("messages", ()):
        if event == "execution_error":
            message = " ".join(str(data.get("exception_message")).split()) or str(data.get("exception_type"))
            raise NodeError(f"{node_label(workflow.prompt, str(data.get('node_id')))}: {message}")
        if event == "execution_interrupted":
            raise RunnerError("the run was interrupted on the server")
    raise RunnerError("the run failed on the server, which does not say why")


def refusals(answer: Mapping[str, Any], workflow: Workflow) -> list[str]:
    """The server's complaints about a graph, one sentence each."""
    sentences = [
        f"{node_label(workflow.prompt, node_id)}: {fault.get('message')}"
        + (f" ({fault['details']})" if fault.get("details") else "")
        for node_id, problems in (answer.get("node_errors") or {}).items()
        for fault in problems.get("errors", ())
    ]
    general = answer.get("error") or {}
    if isinstance(general, str):
        general = {"message": general}
    return sentences or [f"the server refuses the workflow: {general.get('message', 'it does not say why')}"]


def quoted(name: str) -> str:
    """A file name between the quotes of a form's header, where ComfyUI takes line ends and semicolons for its end."""
    return name.translate(str.maketrans({"\\": r"\\", '"': r"\"", "\r": "%0D", "\n": "%0A", ";": "%3B"}))


def decode(data: bytes, url: str) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:
        raise RunnerError(f"what answers at {url} is not ComfyUI") from error
