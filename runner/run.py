"""`pyramid-video run FILE`: one workflow, or one for each prompt of a file, here or on ComfyUI servers."""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ..training.run.launch import is_first
from .errors import RunnerError
from .folders import a_name, a_path, check_folders, check_writable
from .numbers import a_count, a_length, a_seed
from .opening import open_here, open_on_server
from .ranks import are_connected
from .terminal import print_note

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..host.standalone.host import StandaloneHost
    from .execute import Outcome
    from .specs import NodeSpec
    from .workflow import Workflow


def add_parser(commands) -> argparse.ArgumentParser:
    """Add `run` to the commands."""
    run = commands.add_parser("run", help="run a workflow file here, or on a ComfyUI server")
    run.add_argument(
        "file", type=a_name, metavar="FILE", help="workflow (UI or API format), or a video that carries its workflow"
    )
    run.add_argument("--prompt", metavar="TEXT", help="what the video shows")
    run.add_argument("--negative", metavar="TEXT", help="what it should not show")
    run.add_argument("--seed", type=a_seed, metavar="N", help="another seed gives another clip")
    run.add_argument("--seconds", type=a_length, metavar="S", help="how long the clip is")
    run.add_argument("--size", metavar="WxH", help="width and height of the clip, as in 128x128")
    run.add_argument("--steps", type=a_count, metavar="N", help="steps of the sampler (of a pyramid's first frame)")
    run.add_argument(
        "--lora",
        type=a_name,
        action="append",
        default=[],
        metavar="NAME[:STRENGTH]",
        help="use a LoRA; may be repeated",
    )
    run.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NODE.INPUT=VALUE",
        help="set one input of the node with this title, type or id; NODE. may be left out where one node has the "
        "input; `show` lists them; may be repeated",
    )
    run.add_argument(
        "--prompts",
        type=a_path,
        metavar="FILE",
        help="run once for each line: a prompt (.txt), or an object with prompt, negative, seed, NODE.INPUT (.jsonl)",
    )
    run.add_argument(
        "--out", type=a_path, default=Path("output"), metavar="DIR", help="where files go (default: ./output)"
    )
    run.add_argument(
        "--input", type=a_path, metavar="DIR", help="folder of the pictures and videos to load (default: ./input)"
    )
    run.add_argument(
        "--server",
        type=a_name,
        action="append",
        default=[],
        metavar="URL",
        help="queue it on this ComfyUI instead of running it here; repeated, the servers share the --prompts",
    )
    run.add_argument(
        "--json",
        action="store_true",
        help="print JSON and no progress: one object; before it one for each of --prompts",
    )
    run.add_argument("--device", metavar="D", help="cpu, cuda, cuda:1, mps, ... (default: the best there is)")
    run.set_defaults(command=run_command)
    return run


def run_command(options: argparse.Namespace) -> int:
    started = time.monotonic()
    check_folders(options)
    if options.server and (options.models or options.device):
        raise RunnerError("--models and --device have no effect on a server, which has its own")
    if options.prompts:
        from .batch import run_batch

        report = run_batch(options)
    else:
        outcome = run_on_server(options) if options.server else run_here(options)
        report = {"status": "success", "files": [str(path) for path in outcome.files], "notes": outcome.notes}
        if not options.json:
            print(*outcome.files, sep="\n")
            if not outcome.files and not outcome.notes:
                print_note("nothing was saved: no node of this workflow writes a file")
    if options.json and (is_first() or not are_connected()):
        print(json.dumps({**report, "seconds": round(time.monotonic() - started, 2)}))
    # A launcher would bury what was just said under a traceback of its own.
    return 0 if report["status"] == "success" or are_connected() else 1


def run_here(options: argparse.Namespace) -> Outcome:
    """Check everything, then run in this process."""
    return execute_here(*open_here(options), options.out)


@cache
def spare_what_is_loaded() -> None:
    """Let Python's collector of garbage pass over torch, which it would look through again and again for nothing."""
    gc.freeze()


def execute_here(host: StandaloneHost, workflow: Workflow, specs: Mapping[str, NodeSpec], out: Path) -> Outcome:
    """Check a workflow that is as it shall be, then run it with the host of this process."""
    from .execute import Outcome, execute
    from .ranks import own_outputs
    from .registry import node_classes
    from .texts import choose_texts, fill_names
    from .validate import validate

    choose_texts(workflow, specs)
    fill_names(workflow)
    classes = node_classes()
    outputs = validate(workflow.prompt, classes, specs)
    check_writable(out)
    _ = host.device  # a device that is not there is better said now
    spare_what_is_loaded()
    wanted, on_note = own_outputs(workflow.prompt, outputs, classes), None if host.silent else print_note
    for note in workflow.notes if on_note else ():
        on_note(note)
    outcome = execute(workflow.prompt, wanted, classes, workflow.extra_pnginfo, on_note)
    outcome.notes[:0] = workflow.notes
    return outcome if is_first() else Outcome()


def run_on_server(options: argparse.Namespace) -> Outcome:
    """Queue the same workflow elsewhere."""
    if len(options.server) > 1:
        raise RunnerError("several servers share the prompts of a file; add --prompts FILE, or name one --server")
    from .server import Server
    from .staging import SINGLE, staged
    from .texts import choose_texts, fill_names

    def say(text: str) -> None:
        print(f"pyramid-video: {text}", file=sys.stderr)

    with Server(options.server[0], options.json, say) as server:
        workflow, specs = open_on_server(options, server)
        choose_texts(workflow, specs)
        fill_names(workflow)
        check_writable(options.out)
        with staged(options.out, SINGLE) as staging:
            outcome = server.run(workflow, specs, staging)
            outcome.files = list(staging.deliver({}).values())
    outcome.notes[:0] = workflow.notes
    if not options.json:
        for note in outcome.notes:
            print_note(note)
    return outcome
