"""python client.py http://127.0.0.1:8188 "a tiger moving left" 7 makes a clip on a ComfyUI server and fetches it."""

import json
import sys
import time
import uuid
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen

server, prompt, seed = sys.argv[1:]


def call(path, body=None):
    data = None if body is None else json.dumps(body).encode()
    try:
        with urlopen(server.partition("#")[0].rstrip("/") + path, data, timeout=60) as answer:
            return answer.read()
    except HTTPError as error:
        sys.exit(f"the server answers {error.code} to {path}: {error.read(500).decode(errors='replace')}")
    except (OSError, HTTPException) as error:
        sys.exit(f"no server answers at {server}: {error}")


def ask(path, body=None):
    try:
        return json.loads(call(path, body))
    except ValueError:
        sys.exit(f"what answers at {server} is not ComfyUI")


graph = json.loads(Path(__file__).with_name("text_to_video.json").read_text("utf-8"))
for node in graph.values():
    if node["_meta"]["title"] == "Prompt":
        node["inputs"]["text"] = prompt
    if "seed" in node["inputs"]:
        node["inputs"]["seed"] = int(seed)
# With a client_id the history also names files that were made earlier, when nothing has changed.
prompt_id = ask("/prompt", {"prompt": graph, "client_id": uuid.uuid4().hex})["prompt_id"]
while prompt_id not in (history := ask(f"/history/{prompt_id}")):
    queue = ask("/queue")
    waiting = [item[1] for item in queue["queue_running"] + queue["queue_pending"]]
    if prompt_id not in waiting and prompt_id not in ask(f"/history/{prompt_id}"):
        sys.exit("the server no longer has this prompt; it was deleted from the queue")
    time.sleep(0.5)
status = history[prompt_id]["status"]
if status["status_str"] != "success":
    sys.exit(status["messages"][-1][1].get("exception_message", "the run was interrupted"))
files = [file for output in history[prompt_id]["outputs"].values() for file in output.get("images", [])]
saved = [file for file in files if file["type"] == "output"]  # not a picture that a block shows meanwhile
for file in saved:
    name = Path(file["filename"]).name  # in this folder, whatever the server says
    Path(name).write_bytes(call(f"/view?{urlencode(file)}"))
    print(name)
if not saved:
    sys.exit("the server made no file")
