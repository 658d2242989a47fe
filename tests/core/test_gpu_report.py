"""The program for whoever has a card runs to its end on a CPU, and what it says is complete."""

from __future__ import annotations

import gc
import json
import sys
import time
import weakref
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
import _gpu_checks
import _gpu_speeds
import gpu


def test_the_report_has_every_check_model_and_option(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("_gpu_speeds.REPEATS", 1)
    assert gpu.main(["--device", "cpu", "--steps", "1", "--json", str(tmp_path / "report.json")]) == 0
    report = json.loads((tmp_path / "report.json").read_text("utf-8"))
    names = " ".join(check["name"] for check in report["checks"])
    assert all(word in names for word in ("fp32", "bf16", "fp8", "pyramid", "flow", "diffusion", "gan", "vae"))
    assert all(check["right"] for check in report["checks"])
    assert not [row for row in report["speeds"] if "failed" in row]
    options = {(row["model"], row["option"]) for row in report["speeds"]}
    for model in ("miniflux", "sd3"):
        wanted = ["bf16", "bf16, keys kept", "bf16, compiled", "stored in fp8"]
        wanted += ["products in fp8"] if hasattr(torch.nn.functional, "scaled_mm") else []
        assert options >= {(model, option) for option in wanted}, model
    assert options >= {("helios", "bf16"), ("helios", "stored in fp8")}
    assert {clip["model"] for clip in report["clips"]} == {"miniflux", "sd3"}
    printed = capsys.readouterr().out
    assert all(f"| {row['model']} | {row['size']} | {row['option']} |" in printed for row in report["speeds"])


def test_a_clip_that_differs_and_numbers_that_differ_are_wrong():
    clip = torch.zeros(2, 4, 4, 3)
    assert _gpu_checks.alike("same", clip, clip.clone()).right
    assert not _gpu_checks.alike("other", clip, clip + 0.01).right
    case = _gpu_checks.Case(next(_gpu_checks.REFERENCE.glob("dit_flux_a*.json")))
    network = case.network()
    with torch.no_grad():
        next(network.parameters()).add_(0.1)
    assert _gpu_checks.largest_error(case, network, "transformer", torch.device("cpu")) > 0.001


def test_references_are_compared_without_tf32_and_clips_made_as_people_make_them(monkeypatch):
    def allowed():
        return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32

    usual = allowed()
    assert any(usual)
    monkeypatch.setattr(_gpu_checks, "reference_checks", lambda device: iter([allowed()]))
    monkeypatch.setattr(_gpu_checks, "clip_checks", lambda device, steps: iter([allowed()]))
    assert list(_gpu_checks.checks(torch.device("cpu"), 1)) == [(False, False), usual]
    assert allowed() == usual


def test_what_fails_is_a_row_and_time_that_is_over_too(monkeypatch):
    meter = gpu.Meter(torch.device("cpu"))

    def full():
        raise torch.OutOfMemoryError("no room")

    assert gpu.tried(full, meter, lambda: 1.0) == {"failed": "out of memory"}
    assert gpu.tried(lambda: 1 / 0, meter, lambda: 1.0)["failed"].startswith("ZeroDivisionError")
    assert gpu.tried(full, meter, lambda: -1.0) == {"failed": "no time left"}


def test_a_network_is_gone_before_the_next_is_made(monkeypatch):
    """A card may hold one of them alone."""
    make, made, left = _gpu_speeds.network_of, [], []

    def watched(*arguments):
        gc.collect()
        left.append([kind for kind, network in made if network() is not None])
        made.append((arguments[0][0].__name__, weakref.ref(network := make(*arguments))))
        return network

    monkeypatch.setattr(_gpu_speeds, "network_of", watched)

    def measure(meter, work, prepare):
        prepare()
        work()
        return {"seconds": 1.0}

    monkeypatch.setattr(gpu.Meter, "measure", measure)
    monkeypatch.setattr(_gpu_speeds, "COMPILE_SECONDS", 10**9)
    assert list(gpu.measured(torch.device("cpu"), time.monotonic() + 10**6))
    assert len(left) >= 5 and not any(left), left


def test_a_check_that_cannot_be_made_is_wrong_and_the_rest_is_measured(tmp_path, monkeypatch):
    def broken(device, steps):
        yield _gpu_checks.Check("first", 0.0, 1.0, True)
        raise RuntimeError("no kernel image is available for execution on the device")

    rows = [{"model": "vae", "size": "8x8", "option": "bf16", "failed": "no time left"}]
    monkeypatch.setattr(gpu, "checks", broken)
    monkeypatch.setattr(gpu, "measured", lambda device, end: iter(rows))
    assert gpu.main(["--device", "cpu", "--json", str(tmp_path / "report.json")]) == 1
    report = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert [check["right"] for check in report["checks"]] == [True, False] and report["speeds"] == rows
    assert "no kernel image" in report["checks"][1]["name"]


def test_between_measured_units_lies_a_straight_line():
    from _gpu_speeds import between

    assert [between(unit, {0: 1.0, 4: 3.0, 8: 3.0}) for unit in (0, 2, 4, 6, 8)] == [1.0, 2.0, 3.0, 3.0, 3.0]
