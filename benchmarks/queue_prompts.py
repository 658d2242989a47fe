"""Queues prompts on a real ComfyUI, one broken in ten: is each right one delivered once, each broken one named, and
does the server's memory stay flat?

    COMFYUI_DIR=... COMFYUI_PYTHON=... python benchmarks/queue_prompts.py --count 200

Broken are in turn: a seed that the server refuses, an input that does not exist, a model of another family (found only
while it runs), and a line that is no JSON.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import _package  # noqa: F401  makes the checkout importable
import psutil
from _comfy import running
from pyramid_video.host.standalone.video import read_metadata
from pyramid_video.runner.cli import main as pyramid_video

SUBJECTS = ("tiger", "penguin", "cow", "whale", "snail")
MEGABYTE = 1 << 20


@dataclass
class Measurement:
    """What came of a queue of prompts."""

    right: set[tuple[str, int]]  # prompt and seed
    broken: set[int]  # lines
    delivered: Counter[tuple[str, int]]  # prompt and seed, as the files say
    named: set[int]  # lines
    seconds: float
    memory: list[tuple[int, int]]  # files delivered so far, bytes the server held then

    def is_exact(self) -> bool:
        """Every right one delivered once, every broken one named, and nothing else."""
        return self.delivered == Counter(self.right) and self.named == self.broken

    def fifths(self) -> list[float]:
        """Mean bytes the server held during each fifth of the deliveries; NaN where none was measured."""
        last = max(done for done, _ in self.memory)
        parts = [[size for done, size in self.memory if i * last < 5 * done <= (i + 1) * last] for i in range(5)]
        return [sum(sizes) / len(sizes) if sizes else float("nan") for sizes in parts]


def right_line(number: int) -> dict:
    return {"prompt": f"a {SUBJECTS[number % len(SUBJECTS)]} moving left", "seed": number}


def broken_line(number: int) -> str:
    kinds = (
        json.dumps({"prompt": "a cow", "seed": -number}),
        json.dumps({"seed": number, "6.first_stepz": 3}),
        json.dumps({"seed": number, "1.model_name": "pyramid_video_small_gan.safetensors"}),
        f'{{"seed": {number}',
    )
    return kinds[number // 10 % len(kinds)]


def measure(count: int, port: int, process: int, folder: Path, options: Sequence[str] = ()) -> Measurement:
    """Queue `count` prompts on the server of a port and a process id, with more `options` of the command line."""
    broken = set(range(10, count + 1, 10))
    right = [right_line(number) for number in range(1, count + 1) if number not in broken]
    lines = [broken_line(i) if i in broken else json.dumps(right_line(i)) for i in range(1, count + 1)]
    prompts, out = folder / "prompts.jsonl", folder / "out"
    prompts.write_text("\n".join(lines))
    memory: list[tuple[int, int]] = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.5):
            memory.append((len(list(out.rglob("*.mp4"))), psutil.Process(process).memory_info().rss))

    watcher = threading.Thread(target=watch)
    watcher.start()
    started, said = time.monotonic(), io.StringIO()
    words = ["run", "text_to_video.json", "--prompts", str(prompts), "--server", f"127.0.0.1:{port}"]
    try:
        with redirect_stdout(said):
            pyramid_video([*words, "--out", str(out), "--json", *options])
    finally:
        ended.set()
        watcher.join()
    report = json.loads(said.getvalue().splitlines()[-1])
    notes = [json.loads(read_metadata(path)["pyramid_video"]) for path in out.rglob("*.mp4")]
    return Measurement(
        {(line["prompt"], line["seed"]) for line in right},
        broken,
        Counter((note["prompt"], note["seed"]) for note in notes),
        {int(problem.split(", line ")[1].split(":")[0]) for problem in report["problems"]},
        time.monotonic() - started,
        memory,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200, help="prompts, a tenth of them broken (default: 200)")
    count = parser.parse_args().count
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with running(folder) as (port, process):
            found = measure(count, port, process, folder)
    twice = sum(times - 1 for times in found.delivered.values())
    print(f"right prompts   {len(found.right)}, delivered {len(found.right & set(found.delivered))}, twice {twice}")
    print(f"broken prompts  {len(found.broken)}, named {len(found.broken & found.named)}")
    print(f"wrongly named   {len(found.named - found.broken)}")
    print(f"time            {found.seconds:.0f} s, {found.seconds / count:.2f} s a prompt")
    fifths = ", ".join(f"{size / MEGABYTE:.0f}" for size in found.fifths())
    print(
        f"server memory   {fifths} MB in each fifth of the deliveries, {max(m for _, m in found.memory) >> 20} at most"
    )
    print("exact" if found.is_exact() else "NOT EXACT")


if __name__ == "__main__":
    main()
