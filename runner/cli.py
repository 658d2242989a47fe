"""The command line: `pyramid-video run FILE` (`run`), `train` (`train`), and here `show`, `nodes` and `models`.

Heavy imports happen where they are needed, so that a misspelt option is answered at once.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

from .errors import RunnerError, in_one, nearest, plain, problems_of
from .folders import a_name, a_path, check_folders
from .quantise import add_parser as add_quantise_parser
from .ranks import end_if_connected
from .run import add_parser as add_run_parser
from .signals import INTERRUPTED, ending_as_ctrl_c
from .terminal import unfailing_output
from .train import add_parser as add_train_parser


class Parser(argparse.ArgumentParser):
    """Says what is wrong with the options in one sentence, as every other fault is said."""

    def error(self, message: str) -> NoReturn:
        if bare := re.fullmatch(r"argument (\S+): expected one argument", message):
            message = f"{bare[1]} needs a value; one that begins with - is written as {bare[1]}=VALUE"
        raise RunnerError(f"{message}; see {self.prog} --help")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Name the nearest choice, also of the commands; argparse has no other place for it before Python 3.14."""
        if action.choices is not None and value not in action.choices:
            allowed = ", ".join(map(str, action.choices))
            raise argparse.ArgumentError(action, f"takes {allowed}, not {value!r}{nearest(value, action.choices)}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, 1 for an error, 130 for Ctrl-C."""
    with unfailing_output(), ending_as_ctrl_c():
        code = run_command(sys.argv[1:] if argv is None else argv)
        end_if_connected(code)
        return code


def run_command(arguments: Sequence[str]) -> int:
    options = argparse.Namespace(debug=False, json="--json" in arguments)  # until they are read
    try:
        options, unknown = make_parser().parse_known_args(arguments)
        refuse(unknown, options.parser)
        return options.command(options)
    except KeyboardInterrupt as stop:  # nothing half written is left behind; a run of training says what is
        return complain(options, "interrupted", plain(": ".join(["interrupted", *map(str, stop.args)])))
    except Exception as error:
        if options.debug:
            traceback.print_exc()
        problems = problems_of(error)
        return complain(options, "error", in_one(problems, getattr(options, "json", False)), problems)


def complain(options: argparse.Namespace, status: str, message: str, problems: Sequence[str] = ()) -> int:
    has_json = hasattr(options, "json")  # which lists all problems
    for text in [message] if has_json else problems or [message]:
        print(f"pyramid-video: {text}", file=sys.stderr)
    if has_json and options.json:
        print(json.dumps({"status": status, "error": message, "problems": list(problems)}))
    return INTERRUPTED if status == "interrupted" else 1


def make_parser() -> Parser:
    parser = Parser(prog="pyramid-video", description="Make video from text with workflow files.")
    parser.set_defaults(command=lambda options: parser.print_help() or 0, parser=parser, debug=False)
    parser.add_argument("--version", action="version", version=f"pyramid-video {version()}")
    commands = parser.add_subparsers(metavar="COMMAND")

    show = commands.add_parser("show", help="list the blocks of a workflow, their values, and how to set them")
    show.add_argument(
        "file", type=a_name, metavar="FILE", help="workflow, or a video or picture that carries its workflow"
    )
    show.add_argument("--json", action="store_true", help="print one JSON object")
    show.set_defaults(command=show_command)
    nodes = commands.add_parser("nodes", help="list the nodes that run here")
    nodes.set_defaults(command=nodes_command)
    models = commands.add_parser("models", help="list the models, what each is, and the folders they lie in")
    models.set_defaults(command=models_command)
    run = add_run_parser(commands)
    for command in (run, show, models):
        command.add_argument("--models", type=a_path, metavar="DIR", help="more models, laid out as ComfyUI's models/")
    for command in (run, show, nodes, models, add_train_parser(commands), add_quantise_parser(commands)):
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
        command.set_defaults(parser=command)
    return parser


def refuse(unknown: Sequence[str], parser: Parser) -> None:
    """Raise RunnerError for the first argument that a command does not take; of an option it names the nearest."""
    if not unknown:
        return
    if not unknown[0].startswith("-"):
        parser.error(f"{unknown[0]!r} does not belong to an option; put text of several words in quotes")
    option = unknown[0].partition("=")[0]
    known = re.findall(r"--[\w-]+", parser.format_usage())
    parser.error(f"there is no option {option}{nearest(option, known)}")


def version() -> str:
    from .. import __version__

    return __version__


def show_command(options: argparse.Namespace) -> int:
    from ..host import use_host
    from ..host.standalone.host import StandaloneHost
    from .registry import node_specs
    from .showing import described, workflow_lines
    from .workflow import locate, read_workflow

    check_folders(options)
    use_host(StandaloneHost(options.models))
    specs = node_specs()
    workflow = read_workflow(locate(options.file), specs)
    if options.json:
        print(json.dumps(described(workflow, specs)))
    else:
        print(*workflow_lines(workflow, specs), sep="\n")
    return 0


def nodes_command(options: argparse.Namespace) -> int:
    from ..host import use_host
    from ..host.standalone.host import StandaloneHost
    from .listing import node_lines
    from .registry import node_specs

    use_host(StandaloneHost())
    print(*node_lines(node_specs()), sep="\n")
    return 0


def models_command(options: argparse.Namespace) -> int:
    from ..host.standalone.host import StandaloneHost
    from .listing import model_lines

    check_folders(options)
    for line in model_lines(StandaloneHost(options.models)):
        print(line)
    return 0
