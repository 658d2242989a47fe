"""python client.py http://127.0.0.1:8188 "a tiger moving left" 7 makes a clip on a ComfyUI server and fetches it."""

import json
import sys
import time
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import urlopen

server, prompt, seed = sys.argv[1:]


def call(path, body=None):
    data = None if body is None else json.dumps(body).encode()
    with urlopen(server + path, data, timeout=60) as answer:
        return answer.read()


graph = json.loads(Path(__file__).with_name("text_to_video.json").read_text("utf-8"))
for node in graph.values():
    if node["_meta"]["title"] == "Prompt":
        node["inputs"]["text"] = prompt
    if "seed" in node["inputs"]:
        node["inputs"]["seed"] = int(seed)
prompt_id = json.loads(call("/prompt", {"prompt": graph}))["prompt_id"]
while prompt_id not in (history := json.loads(call(f"/history/{prompt_id}"))):
    time.sleep(0.5)
if history[prompt_id]["status"]["status_str"] != "success":
    sys.exit(str(history[prompt_id]["status"]["messages"][-1]))
for output in history[prompt_id]["outputs"].values():
    for file in output.get("images", []):
        if file["type"] == "output":  # not a picture that a block shows meanwhile
            Path(file["filename"]).write_bytes(call(f"/view?{urlencode(file)}"))
            print(file["filename"])
