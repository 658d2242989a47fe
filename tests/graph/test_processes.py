"""Two processes on a graph, by the command line and under FSDP, learn what one does that takes two batches a step."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import process_worker
import pytest
import torch
from process_worker import FAMILIES, HALF, STEPS
from pyramid_video.host import use_host
from pyramid_video.host.standalone.devices import accelerators
from pyramid_video.host.standalone.host import StandaloneHost
from pyramid_video.runner.cli import main
from safetensors.torch import load_file
from tiny_models import MODEL, TEXT, VAE, make_animations, make_models
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
WORKER = Path(process_worker.__file__)
LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
RUNS = (*FAMILIES, "lora", "vae")
SAVED = {**dict.fromkeys(FAMILIES, "diffusion_models"), "lora": "loras", "vae": "vae"}
TINY = {
    "1.subjects": "",
    "1.frames": 5,
    "2.vae_name": VAE,
    "3.text_encoder_name": TEXT,
    "4.model_name": MODEL,
    "5.steps": 3,
    "5.batch": 2,
    "5.learning_rate": 1e-3,
    "5.warmup": 0,
    "6.every": 2,
    "6.steps": 1,
    "7.clips": 9,
    "13.seconds": 0.5,
    "14.steps": 1,
}
# Of a `FrameDiscriminator`, and of all that score clips: a relativistic loss counts differences of scores alone.
CANCELLED = re.compile(r"discriminator\.layers\.(2|5|8)\.bias|.*discriminator\.(.*\.)?score\.bias")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Tiny models, animations, and a place in which the checkout is the package."""
    folder = tmp_path_factory.mktemp("folders")
    (folder / "input").mkdir()
    (folder / "site").mkdir()
    (folder / "site" / "pyramid_video").symlink_to(ROOT, target_is_directory=True)
    return make_models(folder / "models"), make_animations(folder / "input"), folder / "site"


def launch(site: Path, *words) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(site)}
    if accelerators():  # else it must be found out that there is none, or each process would be alone
        environment["ACCELERATE_USE_CPU"] = "true"
    command = [*LAUNCH, *map(str, words)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def one_thread():
    """As the processes have it: sums in another order would differ in the last digit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    use_host(None)


def state_of(run: Path) -> dict:
    return torch.load(run / "state.pt", weights_only=True)


def weights_of(state: dict) -> list[dict]:
    """Weights and averaged weights by name, without biases that an instance norm or a difference takes away.

    Their gradients are nothing but last digits, and Adam makes as much of those as of any gradient.
    """
    names = list(state["network"])
    averaged = dict(zip(names, state["average"]["shadow_params"], strict=True))
    found = (
        {name: each[name] for name in names if not CANCELLED.fullmatch(name)} for each in (state["network"], averaged)
    )
    return list(found)


def assert_same_run(folder: Path, other: Path) -> None:
    """All that is kept of two runs, but for the last digits."""
    found, wanted = state_of(folder), state_of(other)
    assert (found["step"], found["batches"]) == (wanted["step"], wanted["batches"])
    for weights in zip(weights_of(found), weights_of(wanted), strict=True):
        assert_same_weights(*weights)
    torch.testing.assert_close(found["optimizer"]["state"], wanted["optimizer"]["state"], rtol=1e-4, atol=1e-5)
    losses = [[json.loads(line) for line in (each / "losses.jsonl").open()] for each in (folder, other)]
    torch.testing.assert_close(*losses, rtol=1e-4, atol=1e-6)


def assert_same_weights(found: dict[str, Tensor], wanted: dict[str, Tensor], rtol: float = 1e-4) -> None:
    """The same but for some more than the last digits, since Adam enlarges small gradients.

    A step moves a weight by twenty times more than is allowed here, but for one in ten thousand of a tensor: the
    gradient of such a one is nothing but last digits.
    """
    assert found.keys() == wanted.keys()
    for name, weight in found.items():
        apart = ~torch.isclose(weight, wanted[name], rtol=rtol, atol=5e-5)
        assert apart.float().mean() <= 1e-4, (name, (weight - wanted[name]).abs().max())
        torch.testing.assert_close(weight, wanted[name], rtol=rtol, atol=1e-3)


def test_the_command_line_trains_one_graph_in_two_processes(folders, tmp_path, one_thread):
    """The first makes all the files, and they are those of one process that takes two batches a step."""
    models, inputs, site = folders
    words = ["run", str(ROOT / "workflows" / "train_flow.json"), "--models", str(models), "--input", str(inputs)]
    words += [word for name, value in TINY.items() for word in ("--set", f"{name}={value}")]
    launch(site, "-m", "pyramid_video", *words, "--out", tmp_path / "two")
    assert main([*words, "--device", "cpu", "--json", "--out", str(tmp_path / "one"), "--set", "5.accumulate=2"]) == 0
    assert_same_run(*(tmp_path / name / "training" / "my_flow" for name in ("two", "one")))
    timely = ("texts", "curves.png")  # files of other sizes; drawn while it trains where that takes long
    made = [
        {path.relative_to(place) for path in place.rglob("*") if not set(path.parts) & set(timely)}
        for place in (tmp_path / "two", tmp_path / "one")
    ]
    assert made[0] == made[1] and any(path.suffix == ".mp4" for path in made[0])


@pytest.fixture(scope="module")
def sharded(folders, tmp_path_factory):
    """Every kind of run, in two processes under FSDP."""
    models, inputs, site = folders
    output = tmp_path_factory.mktemp("sharded")
    launch(site, WORKER, models, inputs, output, 1, "fsdp")
    return output


def test_fsdp_learns_the_same_with_half_the_weights_in_each_process(folders, sharded, tmp_path, one_thread):
    """Also what is saved in the middle: one process without FSDP goes on from there to the same end."""
    models, inputs, _ = folders
    for rank in (0, 1):
        shares = json.loads((sharded / f"shares-{rank}.json").read_text())
        assert set(shares) == set(RUNS) and all(0.35 < share < 0.65 for share in shares.values())
    for output in (tmp_path / "one", tmp_path / "gone_on"):
        if output.name == "gone_on":
            shutil.copytree(sharded / "training", output / "training")
            for run in RUNS:
                (output / "training" / run / "state.pt").unlink()
                assert (output / "training" / run / f"state-{HALF}.pt").exists()
        use_host(StandaloneHost(models, inputs, output, silent=True, device="cpu"))
        with torch.inference_mode():
            process_worker.train_all(accumulate=2)
        for run in RUNS:
            assert state_of(output / "training" / run)["step"] == STEPS
            assert_same_run(sharded / "training" / run, output / "training" / run)
            files = [load_file(place / SAVED[run] / f"{run}.safetensors") for place in (sharded, output)]
            assert_same_weights(*files, rtol=1e-3)  # some are kept in half precision
