"""What docs/server.md says of a server: its client, its events, and a queue of prompts, on a real ComfyUI."""

from __future__ import annotations

import json
import subprocess
import sys

from conftest import ROOT
from pyramid_video.host.standalone.video import read_clip
from queue_prompts import measure
from tiny_models import MODEL, TEXT, VAE

CLIENT = ROOT / "workflows" / "api" / "client.py"
FAST = {
    "1.model_name": MODEL,
    "2.vae_name": VAE,
    "3.text_encoder_name": TEXT,
    "6.first_steps": 1,
    "6.video_steps": 1,
    "8.length_unit": "frames",
    "8.frames": 5,
    "8.width": 64,
    "8.height": 64,
}


def test_the_client_makes_a_clip_and_fetches_it(server, tmp_path):
    url = f"http://127.0.0.1:{server[0]}"
    words = [sys.executable, str(CLIENT), url, "a penguin going up", "11"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (name,) = done.stdout.split()
    assert read_clip(tmp_path / name).images.shape == (17, 128, 128, 3)


def test_every_right_prompt_is_delivered_once_and_every_broken_one_named(server, tmp_path):
    sets = [word for target, value in FAST.items() for word in ("--set", f"{target}={value}")]
    found = measure(40, *server, tmp_path, sets)
    assert found.is_exact(), (found.delivered, found.named)
    assert len(found.delivered) == 36 and found.named == {10, 20, 30, 40}


def test_every_event_of_a_run_is_in_the_docs(comfy):
    prompt = json.loads((ROOT / "workflows" / "api" / "text_to_video.json").read_text("utf-8"))
    seen = set()
    report = comfy.run(prompt, on_event=lambda kind, data: seen.add(kind))
    assert report.status == "success", report.message
    text = (ROOT / "docs" / "server.md").read_text("utf-8")
    assert seen and not [kind for kind in seen if f"`{kind}`" not in text]
