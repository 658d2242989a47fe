"""A stand-in for a ComfyUI server with a real queue: it runs a prompt when it is told to, and can die or forget."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

INFO = {
    "Say": {
        "input": {"required": {"text": ["STRING", {}], "seed": ["INT", {"min": 0}]}},
        "output": ["THING"],
    },
    "Guide": {"input": {"required": {"positive": ["THING"]}}, "output": ["THING"]},
    "Write": {
        "input": {"required": {"thing": ["THING"], "filename_prefix": ["STRING", {}]}},
        "output": [],
        "output_node": True,
    },
}
WORKFLOW = {
    "1": {"class_type": "Say", "inputs": {"text": "old", "seed": 1}},
    "2": {"class_type": "Guide", "inputs": {"positive": ["1", 0]}},
    "3": {"class_type": "Write", "inputs": {"thing": ["2", 0], "filename_prefix": "clips/made"}},
}


class FakeComfy:
    """Runs one prompt at a time. A text that begins with "bad" fails while it runs, one with "refused" is not taken.

    `before_run(server, text)` is called in the server's own thread before each run.
    """

    def __init__(self, before_run: Callable[[FakeComfy, str], None] = lambda server, text: None) -> None:
        self.before_run = before_run
        self.pending: list[tuple[str, dict]] = []
        self.running: list[tuple[str, dict]] = []
        self.history: dict[str, dict] = {}
        self.ran: list[str] = []  # texts, in order
        self.metadata: list[dict] = []
        self.posted: list[str] = []  # paths
        self.shown_running: set[str] = set()  # prompts that a client has seen run
        self.most_queued = 0
        self.alive = True
        self.change = threading.Condition()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        threading.Thread(target=self.work, daemon=True).start()

    def work(self) -> None:
        while True:
            with self.change:
                self.change.wait_for(lambda: self.pending or not self.alive)
                if not self.alive:
                    return
                self.running = [self.pending.pop(0)]
                prompt_id, prompt = self.running[0]
            text = prompt["1"]["inputs"]["text"]
            self.before_run(self, text)
            with self.change:
                if not self.alive:
                    return
                if self.running:  # else it was cleared meanwhile
                    self.ran.append(text)
                    self.history[prompt_id] = self.entry(text, prompt)
                self.running = []

    def entry(self, text: str, prompt: dict) -> dict:
        if text.startswith("bad"):
            fault = ["execution_error", {"node_id": "2", "exception_message": f"no {text}"}]
            return {"status": {"status_str": "error", "messages": [fault]}, "outputs": {}}
        folder, _, name = prompt["3"]["inputs"]["filename_prefix"].rpartition("/")
        file = {"filename": f"{name}_00001_.mp4", "subfolder": folder, "type": "output"}
        return {"status": {"status_str": "success", "messages": []}, "outputs": {"3": {"images": [file]}}}

    def die(self) -> None:
        """Go without a word: nothing is answered any more, and nothing runs."""
        with self.change:
            self.alive = False
            self.change.notify_all()
        threading.Thread(target=self.server.shutdown).start()
        self.server.socket.close()

    def forget(self) -> None:
        """Lose queue and history, as a server that is restarted does."""
        with self.change:
            self.pending, self.running, self.history = [], [], {}

    def get(self, path: str, query: dict) -> object:
        if path == "/object_info":
            return INFO
        with self.change:
            if path == "/queue":
                self.shown_running |= {prompt_id for prompt_id, _ in self.running}
                self.change.notify_all()
                queues = {"queue_running": self.running, "queue_pending": self.pending}
                return {name: [[0, prompt_id] for prompt_id, _ in queue] for name, queue in queues.items()}
            if path.startswith("/history/"):
                prompt_id = path.removeprefix("/history/")
                return {prompt_id: self.history[prompt_id]} if prompt_id in self.history else {}
        return f"video {query['filename'][0]}".encode() if path == "/view" else None

    def post(self, path: str, body: dict) -> tuple[int, object]:
        self.posted.append(path)
        if path != "/prompt":
            return 200, {}
        if body["prompt"]["1"]["inputs"]["text"].startswith("refused"):
            return 400, {"error": {"message": "refused"}, "node_errors": {}}
        with self.change:
            prompt_id = body.get("prompt_id") or uuid.uuid4().hex
            self.pending.append((prompt_id, body["prompt"]))
            self.metadata.append(body["extra_data"])
            self.most_queued = max(self.most_queued, len(self.pending) + len(self.running))
            self.change.notify_all()
        return 200, {"prompt_id": prompt_id, "number": 1, "node_errors": {}}

    def handler(fake):
        class Handler(BaseHTTPRequestHandler):
            def answer(self, code: int, data: object) -> None:
                if not fake.alive:
                    self.close_connection = True
                    return
                content = data if isinstance(data, bytes) else json.dumps(data).encode()
                self.send_response(404 if data is None else code)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                self.answer(200, fake.get(parts.path, parse_qs(parts.query)))

            def do_POST(self) -> None:
                self.answer(*fake.post(self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))

            def log_message(self, *_) -> None:
                pass

        return Handler
