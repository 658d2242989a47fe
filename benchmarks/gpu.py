"""Checks a card and measures it, in ten minutes at most: `python benchmarks/gpu.py --json report.json`.

Checks: the official code's numbers with tiny weights in fp32, bf16 and fp8, and the clips of the small models, which
must be those of the CPU. Speeds: seconds and peak memory of calls of miniFLUX, SD3, Helios and the VAE at full size,
with random weights, every option on and off; no download is needed. What does not fit into memory says so. Prints a
table; `--json` keeps everything. On a CPU toys take the place of the real sizes, to see that the program runs.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import _package  # noqa: F401
import torch
from _gpu_checks import Check, attention_form, checks
from _gpu_options import fp8_multiplies, sage_attention
from _gpu_sizes import full_sizes, tiny_sizes
from _gpu_speeds import Meter, Row, clip_seconds, helios_rows, pyramid_rows, vae_rows
from pyramid_video.host.standalone.devices import choose_device
from pyramid_video.models.files import write_beside
from pyramid_video.models.out_of_memory import is_out_of_memory

HEAD = {"miniflux": 64, "helios": 128}  # features of an attention head


def main(arguments: list[str]) -> int:
    """Run everything; 1 where a check failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", help="cuda, cuda:1, xpu, mps, cpu; by default the best there is")
    parser.add_argument("--json", type=Path, help="write the report to this file")
    parser.add_argument("--minutes", type=float, default=9.0, help="nothing new is begun after so many")
    parser.add_argument("--steps", type=int, default=5, help="steps of the clips that are compared with the CPU's")
    options = parser.parse_args(arguments)
    device, end = choose_device(options.device), time.monotonic() + 60 * options.minutes
    report: dict[str, object] = {"device": described(device)}
    print(", ".join(f"{key} {value}" for key, value in report["device"].items()), flush=True)
    report["checks"] = []
    for check in all_checks(device, options.steps):
        report["checks"].append(vars(check))
        print(
            f"{'right' if check.right else 'WRONG'}: {check.name}: {check.measured:.3g} ({check.allowed:g})", flush=True
        )
    report["speeds"] = list(measured(device, end))
    report["clips"] = clip_seconds(report["speeds"])
    print(table(report))
    if options.json:
        with write_beside(options.json) as part:
            part.write_text(json.dumps(report, indent=1))
    wrong = sum(not check["right"] for check in report["checks"])
    print(f"{len(report['checks'])} checks, {wrong} wrong")
    return 1 if wrong else 0


def all_checks(device: torch.device, steps: int) -> Iterator[Check]:
    """The checks; one that the device cannot make is a wrong one, and the speeds are still measured."""
    try:
        yield from checks(device, steps)
    except Exception as error:
        yield Check(f"checks ended by {said(error)}", math.inf, 0.0, False)


def described(device: torch.device) -> dict[str, object]:
    """What a reader must know of the computer."""
    about: dict[str, object] = {"device": str(device), "torch": torch.__version__, "python": platform.python_version()}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        capability = f"{properties.major}.{properties.minor}"
        about |= {"name": properties.name, "memory_gb": round(properties.total_memory / 1e9, 1)}
        about |= {"capability": capability, "cuda": torch.version.cuda or torch.version.hip}
    about |= {"fp8_products": fp8_multiplies(device), "sage_attention": sage_attention() is not None}
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    return about | {f"attention_{name}": attention_form(device, dtype, head) for name, head in HEAD.items()}


def measured(device: torch.device, end: float) -> Iterator[dict[str, object]]:
    """The rows of the table; what failed says why and ends nothing else."""
    sizes, meter = tiny_sizes() if device.type == "cpu" else full_sizes(), Meter(device)
    left = lambda: end - time.monotonic()  # noqa: E731
    groups = (
        pyramid_rows("miniflux", sizes, meter, left),
        vae_rows(sizes, meter),
        pyramid_rows("sd3", sizes, meter, left),
        helios_rows(sizes, meter),
    )
    with torch.no_grad():
        for group in groups:
            try:
                for about, work in group:
                    row = {**about, **tried(work, meter, left)}
                    del work  # which holds a network, and the next one may need its room
                    yield row
            except Exception as error:  # where a network is made
                meter.release()
                yield {"model": group.__name__, "size": "", "option": "", "failed": said(error)}


def tried(work: Row, meter: Meter, left) -> dict[str, object]:
    if left() < 0:
        return {"failed": "no time left"}
    try:
        return work()
    except Exception as error:  # no memory, a kernel that this card lacks, a compiler that is not installed
        failed = said(error)
    meter.release()  # outside the handler, whose exception holds the tensors
    return {"failed": failed}


def said(error: Exception) -> str:
    if is_out_of_memory(error):
        return "out of memory"
    return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"


def table(report: dict) -> str:
    """The speeds as Markdown."""
    lines = ["| model | size | option | unit | stage | seconds | peak GB |", "|---|---|---|---|---|---|---|"]
    for row in report["speeds"]:
        took = f"{row['seconds']:.4f} | {row['peak_gb']:.2f}" if "seconds" in row else f"{row['failed']} | "
        unit = row.get("unit", f"{row['rows']} rows" if "rows" in row else "")
        lines.append(f"| {row['model']} | {row['size']} | {row['option']} | {unit} | {row.get('stage', '')} | {took} |")
    for clip in report["clips"]:
        lines.append(
            f"| {clip['model']} | {clip['size']} | {clip['option']} | a clip of 121 frames | | "
            f"{clip['clip_seconds']:.2f} | |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
