"""What a real ComfyUI holds before and after runs that are interrupted and runs that fail, and how fast it stops.

    COMFYUI_DIR=... COMFYUI_PYTHON=... python benchmarks/interrupts.py --count 20

The small model's text to video, on the CPU with one thread. Each run has a seed of its own. Interrupts come at points
spread over the sampling; failures are, in turn, a LoRA whose weights are no numbers, found when the first stage ends,
and a prompt bound to an area. Memory is looked at after a garbage collection.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import _package
import torch
from _comfy import add_probe, running
from pyramid_video.models import checkpoints
from pyramid_video.models.lora import LoRA, LoRASettings, lora_state, save_lora
from pyramid_video.runner.connection import Connection
from safetensors.torch import load_file

MODEL = _package.ROOT / "models" / "pretrained" / "diffusion_models" / "pyramid_video_small.safetensors"
BROKEN_LORA = "no_numbers.safetensors"
SEED = 1
SILENCE_SECONDS = 600.0
MEGABYTE = 1 << 20
COUNTED = ("tensors", "tensor_bytes", "networks", "loaded")


@dataclass
class Run:
    """How a run ended: success, error or interrupted, and when an interrupt was sent and obeyed."""

    status: str = ""
    message: str = ""
    steps: list[float] = field(default_factory=list)  # times at which progress was reported
    asked: float = 0.0
    stopped: float = 0.0


class Client:
    """One server, its folder, and a small workflow on it."""

    def __init__(self, port: int, base: Path) -> None:
        self.address, self.base = f"http://127.0.0.1:{port}", base
        self.listener = Connection(self.address).listen("interrupts")

    def request(self, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        with urlopen(self.address + path, data, timeout=60) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def run(self, prompt: dict[str, Any], stop_at: int | None = None) -> Run:
        """Queue `prompt` and follow it; interrupt it when its sampler tells the step `stop_at`."""
        run = Run()
        prompt_id = self.request("/prompt", {"prompt": prompt, "client_id": "interrupts"})["prompt_id"]
        while not run.status:
            message = self.listener.next_text(SILENCE_SECONDS)
            if message is None:
                raise RuntimeError(f"the server was silent for {SILENCE_SECONDS:.0f} s")
            event = json.loads(message)
            kind, data = event["type"], event["data"]
            if data.get("prompt_id") != prompt_id:
                continue
            if kind == "progress" and data["node"] == SAMPLER:
                run.steps.append(time.monotonic())
                if stop_at is not None and data["value"] >= stop_at and not run.asked:
                    run.asked = time.monotonic()
                    self.request("/interrupt", {})
            elif kind in ("execution_success", "execution_error", "execution_interrupted"):
                run.status, run.stopped = kind.removeprefix("execution_"), time.monotonic()
                run.message = data.get("exception_message", "").strip()
        while prompt_id not in self.request(f"/history/{prompt_id}"):  # written a moment later, with its cache
            time.sleep(0.05)
        return run

    def latents(self) -> torch.Tensor:
        """Those of the seed that stays the same."""
        finished = self.run(workflow(SEED))
        if finished.status != "success":
            raise RuntimeError(finished.message)
        newest = max((self.base / "output").glob("interrupts_*.latent"), key=lambda file: file.stat().st_mtime_ns)
        return load_file(newest)["latent_tensor"].clone()

    def held(self) -> dict[str, int]:
        return self.request("/memory_probe")


def workflow(seed: int, failing: str = "") -> dict[str, Any]:
    """Text to video with its latents as the result; `failing` is "", "lora" or "area"."""
    prompt = json.loads((_package.ROOT / "workflows" / "api" / "text_to_video.json").read_text("utf-8"))
    for node in [key for key, node in prompt.items() if node["class_type"] in ("CreateVideo", "SaveVideo")]:
        del prompt[node]
    inputs = prompt[SAMPLER]["inputs"]
    inputs["seed"] = seed
    saving = {"samples": [SAMPLER, 0], "filename_prefix": "interrupts"}
    prompt["save"] = {"class_type": "SaveLatent", "inputs": saving}
    if failing == "lora":
        lora = {"model": inputs["model"], "lora_name": BROKEN_LORA, "strength_model": 1.0}
        prompt["lora"] = {"class_type": "LoraLoaderModelOnly", "inputs": lora}
        inputs["model"] = ["lora", 0]
    elif failing == "area":
        area = {"conditioning": inputs["positive"], "width": 64, "height": 64, "x": 0, "y": 0, "strength": 1.0}
        prompt["area"] = {"class_type": "ConditioningSetArea", "inputs": area}
        inputs["positive"] = ["area", 0]
    return prompt


SAMPLER = "9"  # of the shipped workflow


def write_broken_lora(path: Path) -> None:
    network, _ = checkpoints.load(MODEL, ("miniflux",), dtype=torch.float32)
    lora = LoRA(network, LoRASettings(2, 1.0, "attention"), torch.Generator().manual_seed(0))
    state = {key: torch.full_like(value, torch.nan) for key, value in lora_state(lora.parts(lora.state_dict())).items()}
    path.parent.mkdir(parents=True)
    save_lora(path, state, {"kind": "lora", "config": {}})


def interrupt_runs(client: Client, count: int, steps: int, first_seed: int) -> list[Run]:
    """Runs stopped at points spread over the first four fifths of their `steps`; later they might be done before."""
    points = [1 + number * (4 * steps // 5) // max(1, count - 1) for number in range(count)]
    return [client.run(workflow(first_seed + number), stop_at=point) for number, point in enumerate(points)]


def fail_runs(client: Client, count: int, first_seed: int) -> list[Run]:
    return [client.run(workflow(first_seed + number, ("lora", "area")[number % 2])) for number in range(count)]


def expect(runs: list[Run], status: str) -> None:
    for run in runs:
        if run.status != status:
            raise RuntimeError(f"a run ended as {run.status}, not as {status}: {run.message}")


def tell(when: str, held: dict[str, int]) -> None:
    print(
        f"{when:28} {held['rss'] / MEGABYTE:6.0f} MB resident, {held['tensors']} tensors of "
        f"{held['tensor_bytes'] / MEGABYTE:.2f} MB, {held['networks']} networks, {held['loaded']} loaded"
    )


def measure(client: Client, count: int) -> bool:
    """Print what is held after each kind of accident; says whether nothing stayed and the clip is the same after."""
    first = client.latents()
    steps = len(client.run(workflow(SEED + 1)).steps)
    expect(interrupt_runs(client, 2, steps, 100), "interrupted")
    expect(fail_runs(client, 2, 300), "error")
    client.latents()
    before = client.held()
    tell("before", before)
    exact = True
    for kind in ("interrupted", "error"):
        made = interrupt_runs(client, count, steps, 1000) if kind == "interrupted" else fail_runs(client, count, 2000)
        expect(made, kind)
        same = torch.equal(client.latents(), first)
        after = client.held()
        tell(f"after {count} runs: {kind}", after)
        exact = exact and same and all(after[name] == before[name] for name in COUNTED)
        if kind == "interrupted":
            delays = [run.stopped - run.asked for run in made]
            call = statistics.median(b - a for run in made for a, b in zip(run.steps, run.steps[1:], strict=False))
            print(f"interrupts are obeyed after  {statistics.median(delays):.3f} s, {max(delays):.3f} s at most")
            print(f"a step takes                 {call:.3f} s")
    client.request("/free", {"unload_models": True, "free_memory": True})
    time.sleep(3)
    tell("after /free", client.held())
    return exact


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20, help="runs of each kind (default: 20)")
    count = parser.parse_args().count
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        write_broken_lora(base / "models" / "loras" / BROKEN_LORA)
        (base / "custom_nodes").mkdir()
        add_probe(base)
        with running(base) as (port, _):
            exact = measure(Client(port, base), count)
    print("nothing left behind, same clip" if exact else "SOMETHING CHANGED")
    raise SystemExit(0 if exact else 1)


if __name__ == "__main__":
    main()
