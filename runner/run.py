"""`pyramid-video run FILE`: one workflow, or one for each prompt of a file, here or on ComfyUI servers."""

from __future__ import annotations

import argparse
import errno
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import RunnerError, plain

if TYPE_CHECKING:
    from ..host.standalone import StandaloneHost
    from .execute import Outcome
    from .server import Server
    from .specs import NodeSpec
    from .workflow import Workflow

SPARE_BYTES = 16 << 20  # a clip needs far less; below this a disk is as good as full


def add_parser(commands) -> argparse.ArgumentParser:
    """Add `run` to the commands."""
    run = commands.add_parser("run", help="run a workflow file here, or on a ComfyUI server")
    run.add_argument("file", metavar="FILE", help="workflow (UI or API format), or a video that carries its workflow")
    run.add_argument("--prompt", metavar="TEXT", help="what the video shows")
    run.add_argument("--negative", metavar="TEXT", help="what it should not show")
    run.add_argument("--seed", type=int, metavar="N", help="another seed is another clip")
    run.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NODE.INPUT=VALUE",
        help="set one input; NODE is an id, a title, or a type that occurs once; may be repeated",
    )
    run.add_argument(
        "--prompts",
        type=Path,
        metavar="FILE",
        help="run once for each line: a prompt (.txt), or an object with prompt, negative, seed, NODE.INPUT (.jsonl)",
    )
    run.add_argument(
        "--out", type=Path, default=Path("output"), metavar="DIR", help="where files go (default: ./output)"
    )
    run.add_argument(
        "--input", type=Path, metavar="DIR", help="where pictures and videos to load lie (default: ./input)"
    )
    run.add_argument(
        "--server",
        action="append",
        default=[],
        metavar="URL",
        help="queue it on this ComfyUI instead of running it here; repeated, the servers share the --prompts",
    )
    run.add_argument("--json", action="store_true", help="print one JSON object and no progress")
    run.add_argument("--device", metavar="D", help="cpu, cuda, cuda:1, mps, ... (default: the best there is)")
    run.set_defaults(command=run_command)
    return run


def run_command(options: argparse.Namespace) -> int:
    started = time.monotonic()
    check_folders(options)
    if options.server and (options.models or options.device):
        raise RunnerError("--models and --device say nothing to a server; it has its own")
    if options.prompts:
        from .batch import run_batch

        report = run_batch(options)
    else:
        outcome = run_on_server(options) if options.server else run_here(options)
        report = {"status": "success", "files": [str(path) for path in outcome.files], "notes": outcome.notes}
        if not options.json:
            print(*outcome.files, sep="\n")
    if options.json:
        print(json.dumps({**report, "seconds": round(time.monotonic() - started, 2)}))
    return 0 if report["status"] == "success" else 1


def run_here(options: argparse.Namespace) -> Outcome:
    """Check everything, then run in this process."""
    from .execute import Outcome, execute
    from .ranks import is_first, own_outputs
    from .registry import node_classes
    from .validate import validate

    host, workflow, specs = open_here(options)
    classes = node_classes()
    outputs = validate(workflow.prompt, classes, specs)
    check_writable(options.out)
    _ = host.device  # a device that is not there is better said now
    wanted, on_note = own_outputs(workflow.prompt, outputs, classes), None if host.silent else print_note
    outcome = execute(workflow.prompt, wanted, classes, workflow.extra_pnginfo, on_note)
    return outcome if is_first() else Outcome()


def print_note(text: str) -> None:
    """Show what a node has to say, which may hold words of strangers; stdout is for the paths of the files."""
    print(*map(plain, text.split("\n")), sep="\n", file=sys.stderr)


def close_stdout() -> None:
    """Let go of a stdout that nobody reads any more, or Python complains once more at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def open_here(options: argparse.Namespace) -> tuple[StandaloneHost, Workflow, Mapping[str, NodeSpec]]:
    """The host of this process, the workflow with the options carried out, and what its nodes take."""
    from ..host import use_host
    from ..host.standalone import StandaloneHost
    from .ranks import is_first
    from .registry import node_specs
    from .workflow import locate, read_workflow

    silent = options.json or not is_first()
    host = StandaloneHost(options.models, options.input, options.out, options.device, silent)
    use_host(host)
    specs = node_specs()
    workflow = read_workflow(locate(options.file), specs)
    change(workflow, specs, options)
    return host, workflow, specs


def run_on_server(options: argparse.Namespace) -> Outcome:
    """Queue the same workflow elsewhere."""
    if len(options.server) > 1:
        raise RunnerError("several servers share the prompts of a file; add --prompts FILE, or name one --server")
    server, workflow, specs = open_on_server(options, options.server[0], silent=options.json)
    check_writable(options.out)
    outcome = server.run(workflow, specs)
    if not options.json:
        for note in outcome.notes:
            print_note(note)
    return outcome


def open_on_server(
    options: argparse.Namespace, url: str, silent: bool
) -> tuple[Server, Workflow, Mapping[str, NodeSpec]]:
    """A server, the workflow with the options carried out, and what that server's nodes take."""
    from ..host import use_host
    from ..host.standalone import StandaloneHost
    from .server import Server
    from .workflow import locate, read_workflow

    use_host(StandaloneHost(inputs=options.input, output=options.out))
    path = locate(options.file)
    server = Server(url, silent)
    specs = server.specs()
    workflow = read_workflow(path, specs)
    change(workflow, specs, options)
    return server, workflow, specs


def change(workflow: Workflow, specs: Mapping[str, NodeSpec], options: argparse.Namespace) -> None:
    """Carry out the options that change the workflow; --set comes last and wins."""
    from .overrides import set_input, set_seed, set_text

    if options.prompt is not None:
        set_text(workflow, specs, "positive", options.prompt)
    if options.negative is not None:
        set_text(workflow, specs, "negative", options.negative)
    if options.seed is not None:
        set_seed(workflow, options.seed)
    for assignment in options.set:
        set_input(workflow, specs, assignment)


def check_folders(options: argparse.Namespace) -> None:
    """Refuse folders that are not there."""
    for name in ("models", "input"):
        folder = getattr(options, name, None)
        if folder is not None and not folder.is_dir():
            raise RunnerError(f"--{name}: there is no folder {folder}")


def check_writable(folder: Path) -> None:
    """Refuse an output folder that cannot be written or is full, before the long work starts."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise RunnerError(f"the output folder {folder} cannot be written: {reason}") from error
    free = shutil.disk_usage(folder).free
    if free < SPARE_BYTES:
        raise RunnerError(f"the output folder {folder} has only {free >> 20} MB left: {os.strerror(errno.ENOSPC)}")
