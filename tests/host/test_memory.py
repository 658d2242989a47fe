"""Memory as the host wants it, on real servers: no caches, /free, other models in between, accidents.

Little memory is in `door_memory.py`: `--lowvram` does not go with `--cpu`.
"""

from __future__ import annotations

import time

import pytest
import torch
from _comfy import add_probe, running
from comfy_client import Client
from core_graphs import SEED, STEPS, Runs, node, pyramid, start
from write_core_model import NAME as CORE_MODEL

FREE_SECONDS = 60


def ours(seed: int = SEED) -> tuple[dict, list]:
    graph = start()
    return graph, pyramid(graph, seed=seed)


@pytest.fixture(scope="module")
def core_graph(run_inside):
    """A model of the host's own, sampled by the host, with the text of ours."""
    run_inside("write_core_model.py")

    def build(seed: int = SEED) -> tuple[dict, list]:
        graph = {key: value for key, value in start().items() if key in ("clip", "positive", "negative")}
        graph["core model"] = node("UNETLoader", unet_name=CORE_MODEL, weight_dtype="default")
        graph["image"] = node("EmptySD3LatentImage", width=128, height=128, batch_size=1)
        wires = {"model": ["core model", 0], "latent_image": ["image", 0]}
        wires |= {key: [key, 0] for key in ("positive", "negative")}
        settings = {"steps": STEPS, "cfg": 3.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
        graph["core"] = node("KSampler", **wires, **settings, seed=seed)
        return graph, ["core", 0]

    return build


def alone(runs: Runs, made: tuple[dict, list]) -> torch.Tensor:
    return runs.latents(made[0], made[1])[0]


def free(comfy) -> dict:
    """Ask the server to let go of everything; what it holds then."""
    comfy.request("/free", {"unload_models": True, "free_memory": True})
    end = time.monotonic() + FREE_SECONDS
    while (held := comfy.get("/memory_probe"))["networks"] and time.monotonic() < end:
        time.sleep(0.2)
    return held


def test_free_lets_go_of_every_network_and_the_next_run_is_the_same(comfy, base):
    runs = Runs(comfy, base)
    before = alone(runs, ours())
    assert comfy.get("/memory_probe")["networks"]
    held = free(comfy)
    assert (held["networks"], held["loaded"]) == (0, 0)
    assert torch.equal(alone(runs, ours()), before)


def test_models_of_ours_and_the_hosts_take_turns(comfy, base, core_graph):
    runs = Runs(comfy, base)
    graph, wire = ours()
    core, core_wire = core_graph()
    expected = alone(runs, (graph, wire)), alone(runs, (core, core_wire))
    assert expected[1].shape == (1, 16, 16, 16) and expected[1].isfinite().all() and expected[1].std() > 0.1
    free(comfy)
    both = runs.latents({**core, **graph}, core_wire, wire)
    assert torch.equal(both[0], expected[1]) and torch.equal(both[1], expected[0])
    for turn in (SEED + 1, SEED):  # another seed in between, so that the last answers are made and not remembered
        made = alone(runs, ours(turn)), alone(runs, core_graph(turn))
    assert torch.equal(made[0], expected[0]) and torch.equal(made[1], expected[1])


def test_without_caches_everything_is_the_same_and_nothing_is_kept(comfy, base, models, tmp_path):
    expected = alone(Runs(comfy, base), ours())
    (tmp_path / "models").symlink_to(models, target_is_directory=True)
    (tmp_path / "custom_nodes").mkdir()
    add_probe(tmp_path)
    with running(tmp_path, "--cache-none") as (port, _):
        small = Client(port)
        runs = Runs(small, tmp_path)
        for _ in range(2):
            assert torch.equal(alone(runs, ours()), expected)
        assert small.get("/memory_probe")["networks"] == 0


def accident(comfy, kind: str, seed: int) -> None:
    """A run that is interrupted, or that fails, in the middle."""
    graph, wire = ours(seed)
    seen = []

    def interrupt(line: str) -> None:
        if kind == "interrupted" and not seen:
            seen.append(line)
            comfy.request("/interrupt", {})

    if kind == "error":
        masking = {"conditioning": ["positive", 0], "mask": ["mask", 0], "strength": 1.0}
        graph["area"] = node("ConditioningSetMask", **masking, set_cond_area="mask bounds")  # an area, which is refused
        graph["mask"] = node("SolidMask", value=1.0, width=64, height=64)
        graph["video"]["inputs"]["positive"] = ["area", 0]
    graph["save"] = node("SaveLatent", samples=wire, filename_prefix="latent")
    report = comfy.run(graph, on_line=interrupt)
    assert report.status == kind, (report.status, report.message)


@pytest.mark.parametrize("kind", ["interrupted", "error"])
def test_an_accident_leaves_nothing_behind(comfy, base, kind):
    runs = Runs(comfy, base)
    expected = alone(runs, ours())
    accident(comfy, kind, SEED + 1)
    before = comfy.get("/memory_probe")
    for turn in range(3):
        accident(comfy, kind, SEED + 2 + turn)
    after = comfy.get("/memory_probe")
    counted = ("tensors", "tensor_bytes", "networks", "loaded")
    assert [after[name] for name in counted] == [before[name] for name in counted]
    assert torch.equal(alone(runs, ours()), expected)
