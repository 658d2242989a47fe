"""The command line: `pyramid-video run FILE`, and `nodes`, `models`, `train`.

Heavy imports happen where they are needed, so that a misspelt option is answered at once.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import re
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from .errors import RunnerError, WorkflowError, nearest
from .train import add_parser as add_train_parser

if TYPE_CHECKING:
    from .execute import Outcome
    from .workflow import Workflow

SPARE_BYTES = 16 << 20  # a clip needs far less; below this a disk is as good as full
INTERRUPTED = 130


class Parser(argparse.ArgumentParser):
    """Says what is wrong with the options in one sentence, as every other fault is said."""

    def error(self, message: str) -> NoReturn:
        raise RunnerError(f"{message}; see {self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, 1 for an error, 130 for Ctrl-C."""
    words = sys.argv[1:] if argv is None else argv
    options = argparse.Namespace(debug=False, json="--json" in words)  # until they are read
    try:
        options, unknown = make_parser().parse_known_args(words)
        refuse(unknown, options.parser)
        code = options.command(options)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return complain(options, "interrupted", "interrupted", [])  # nothing half written is left behind
    except BrokenPipeError:  # the reader of stdout, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains once more at its end
        return 1
    except Exception as error:
        if options.debug:
            traceback.print_exc()
        problems = error.problems if isinstance(error, WorkflowError) else [sentence(error)]
        return complain(options, "error", sentence(error), problems)


def sentence(error: Exception) -> str:
    """What the user reads. Errors nobody foresaw say so."""
    text = " ".join(str(error).split())
    if isinstance(error, (RunnerError, ValueError, OSError)) and text:
        return text
    return f"unexpected {type(error).__name__}: {text} (--debug shows where)"


def complain(options: argparse.Namespace, status: str, message: str, problems: Sequence[str]) -> int:
    print(f"pyramid-video: {message}", file=sys.stderr)
    if getattr(options, "json", False):
        print(json.dumps({"status": status, "error": message, "problems": list(problems)}))
    return INTERRUPTED if status == "interrupted" else 1


def make_parser() -> Parser:
    parser = Parser(prog="pyramid-video", description="Make video from text with workflow files.")
    parser.set_defaults(command=lambda options: parser.print_help() or 0, parser=parser, debug=False)
    commands = parser.add_subparsers(metavar="COMMAND")

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
        "--out", type=Path, default=Path("output"), metavar="DIR", help="where files go (default: ./output)"
    )
    run.add_argument(
        "--input", type=Path, metavar="DIR", help="where pictures and videos to load lie (default: ./input)"
    )
    run.add_argument("--server", metavar="URL", help="queue it on this ComfyUI instead of running it here")
    run.add_argument("--json", action="store_true", help="print one JSON object and no progress")
    run.set_defaults(command=run_command)

    nodes = commands.add_parser("nodes", help="list the nodes that run here")
    nodes.set_defaults(command=nodes_command)
    models = commands.add_parser("models", help="list the models, what each is, and the folders they lie in")
    models.set_defaults(command=models_command)
    for command in (run, models):
        command.add_argument("--models", type=Path, metavar="DIR", help="more models, laid out as ComfyUI's models/")
    run.add_argument("--device", metavar="D", help="cpu, cuda, cuda:1, mps, ... (default: the best there is)")
    for command in (run, nodes, models, add_train_parser(commands)):
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
        command.set_defaults(parser=command)
    return parser


def refuse(unknown: Sequence[str], parser: Parser) -> None:
    """Raise RunnerError for the first word that a command does not take; of an option it names the nearest."""
    if not unknown:
        return
    if not unknown[0].startswith("-"):
        parser.error(f"{unknown[0]!r} belongs to no option; put text of several words in quotes")
    word = unknown[0].partition("=")[0]
    known = re.findall(r"--[\w-]+", parser.format_usage())
    parser.error(f"there is no option {word}{nearest(word, known)}")


def run_command(options: argparse.Namespace) -> int:
    started = time.monotonic()
    check_folders(options)
    outcome = run_on_server(options) if options.server else run_here(options)
    if options.json:
        report = {"status": "success", "files": [str(path) for path in outcome.files], "notes": outcome.notes}
        print(json.dumps({**report, "seconds": round(time.monotonic() - started, 2)}))
    else:
        print(*outcome.files, sep="\n")
    return 0


def run_here(options: argparse.Namespace) -> Outcome:
    """Check everything, then run in this process."""
    from ..host import use_host
    from ..host.standalone import StandaloneHost
    from .execute import Outcome, execute
    from .ranks import is_first, own_outputs
    from .registry import node_classes, node_specs
    from .validate import validate
    from .workflow import locate, read_workflow

    host = StandaloneHost(
        options.models, options.input, options.out, options.device, silent=options.json or not is_first()
    )
    use_host(host)
    specs = node_specs()
    workflow = read_workflow(locate(options.file), specs)
    change(workflow, specs, options)
    outputs = validate(workflow.prompt, node_classes(), specs)
    check_writable(options.out)
    _ = host.device  # a device that is not there is better said now
    extra = {"workflow": workflow.ui} if workflow.ui else None
    classes = node_classes()
    wanted = own_outputs(workflow.prompt, outputs, classes)
    outcome = execute(workflow.prompt, wanted, classes, extra, None if host.silent else print_note)
    return outcome if is_first() else Outcome()


def print_note(text: str) -> None:
    """Show what a node has to say; stdout is for the paths of the files."""
    print(text, file=sys.stderr)


def run_on_server(options: argparse.Namespace) -> Outcome:
    """Queue the same workflow elsewhere."""
    from ..host import use_host
    from ..host.standalone import StandaloneHost
    from .server import Server
    from .workflow import locate, read_workflow

    if options.models or options.device:
        raise RunnerError("--models and --device say nothing to a server; it has its own")
    use_host(StandaloneHost(inputs=options.input, output=options.out))
    path = locate(options.file)
    server = Server(options.server, silent=options.json)
    specs = server.specs()
    workflow = read_workflow(path, specs)
    change(workflow, specs, options)
    check_writable(options.out)
    outcome = server.run(workflow, specs)
    if not options.json:
        for note in outcome.notes:
            print_note(note)
    return outcome


def change(workflow: Workflow, specs, options: argparse.Namespace) -> None:
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


def nodes_command(options: argparse.Namespace) -> int:
    from ..host import use_host
    from ..host.standalone import StandaloneHost
    from .listing import node_lines
    from .registry import node_specs

    use_host(StandaloneHost())
    print(*node_lines(node_specs()), sep="\n")
    return 0


def models_command(options: argparse.Namespace) -> int:
    from ..host.standalone import StandaloneHost
    from .listing import model_lines

    check_folders(options)
    for line in model_lines(StandaloneHost(options.models)):
        print(line)
    return 0


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
