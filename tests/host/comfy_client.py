"""As much of a ComfyUI client as the tests need: HTTP, and a websocket that only listens."""

from __future__ import annotations

import base64
import json
import os
import socket
import struct
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

START_SECONDS, RUN_SECONDS = 240, 300
TEXT, BINARY = 1, 2
PREVIEW, TEXT_LINE = 1, 3  # ComfyUI's kinds of binary message
PAGE_FLAGS = '{"type": "feature_flags", "data": {"supports_preview_metadata": true}}'
OnEvent = Callable[[str, dict[str, Any]], None]


@dataclass
class Report:
    """What the server said about one run."""

    status: str = "unknown"  # success, error, interrupted
    message: str = ""
    progress: list[tuple[int, int]] = field(default_factory=list)  # (value, total) of the sampler
    previews: list[bytes] = field(default_factory=list)  # JPEG files
    lines: list[str] = field(default_factory=list)  # text written on nodes
    outputs: dict[str, Any] = field(default_factory=dict)


class Client:
    """Talks to one server on this machine."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.name = f"test-{os.getpid()}"

    def request(self, path: str, body: Any = None) -> bytes:
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", data, timeout=60) as answer:
            return answer.read()

    def get(self, path: str) -> Any:
        return json.loads(self.request(path))

    def refusal(self, prompt: dict[str, Any]) -> dict[str, Any]:
        """The `node_errors` with which the server refuses a prompt."""
        try:
            self.request("/prompt", {"prompt": prompt, "client_id": self.name})
        except urllib.error.HTTPError as error:
            return json.loads(error.read())["node_errors"]
        raise AssertionError("the server took a prompt that it should refuse")

    def run(
        self,
        prompt: dict[str, Any],
        sampler: str | None = None,
        on_event: OnEvent | None = None,
        as_page: bool = False,
        on_line: Callable[[str], None] | None = None,
    ) -> Report:
        """Queue a prompt and follow it to its end; progress is that of the node `sampler`.

        `as_page` says what ComfyUI's page says: that it knows newer previews, and the workflow that the prompt is of.
        `on_event` sees every event, `on_line` each line of text on a node.
        """
        report = Report()
        body = {"prompt": prompt, "client_id": self.name}
        if as_page:
            body["extra_data"] = {"extra_pnginfo": {"workflow": {"nodes": [], "links": []}}}
        with listen(self.port, self.name, PAGE_FLAGS if as_page else None) as messages:
            prompt_id = json.loads(self.request("/prompt", body))["prompt_id"]
            for kind, payload in messages:
                if kind == BINARY:
                    line = keep_binary(report, payload)
                    if line is not None and on_line is not None:
                        on_line(line)
                    continue
                event = json.loads(payload)
                if event["data"].get("prompt_id") != prompt_id:
                    continue
                keep_event(report, event["type"], event["data"], sampler)
                if on_event is not None:
                    on_event(event["type"], event["data"])
                if report.status != "unknown":
                    break
        report.outputs = self.outputs(prompt_id)
        return report

    def outputs(self, prompt_id: str) -> dict[str, Any]:
        """What the nodes of a finished run gave; the server writes it down a moment after it says that it is done."""
        end = time.monotonic() + START_SECONDS
        while prompt_id not in (history := self.get(f"/history/{prompt_id}")) and time.monotonic() < end:
            time.sleep(0.05)
        return history[prompt_id]["outputs"]


def keep_binary(report: Report, payload: bytes) -> str | None:
    """Keep a preview or a line of text; gives back the line."""
    (kind,) = struct.unpack(">I", payload[:4])
    if kind == PREVIEW:
        report.previews.append(payload[8:])
    elif kind == TEXT_LINE:
        (length,) = struct.unpack(">I", payload[4:8])
        report.lines.append(payload[8 + length :].decode())
        return report.lines[-1]
    return None


def keep_event(report: Report, kind: str, data: dict[str, Any], sampler: str | None) -> None:
    if kind == "progress" and data["node"] == sampler:
        report.progress.append((data["value"], data["max"]))
    elif kind in ("execution_success", "execution_error", "execution_interrupted"):
        report.status = kind.removeprefix("execution_")
        report.message = data.get("exception_message", "")


class listen:
    """The messages `(TEXT or BINARY, payload)` of the server's websocket, one after the other (RFC 6455).

    `first` is what the client says when it is connected.
    """

    def __init__(self, port: int, name: str, first: str | None = None) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=RUN_SECONDS)
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET /ws?clientId={name} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self.stream = self.socket.makefile("rb")
        while self.stream.readline().strip():
            pass  # the answer's header
        if first is not None:
            payload = first.encode()  # of less than 126 bytes, masked with zeros
            self.socket.sendall(bytes([0x81, 0x80 | len(payload), 0, 0, 0, 0]) + payload)

    def __enter__(self) -> Iterator[tuple[int, bytes]]:
        return self.messages()

    def __exit__(self, *exception: object) -> None:
        self.stream.close()
        self.socket.close()

    def messages(self) -> Iterator[tuple[int, bytes]]:
        kind, parts = 0, []
        while True:
            first, second = self.stream.read(2)
            length = second & 127
            if length >= 126:
                length = int.from_bytes(self.stream.read(2 if length == 126 else 8), "big")
            payload = self.stream.read(length)
            if first & 15 in (TEXT, BINARY):
                kind, parts = first & 15, []
            elif first & 15:
                continue  # a ping; the server does not mind silence for as long as a test takes
            parts.append(payload)
            if first & 128:
                yield kind, b"".join(parts)
