"""What the options of a command name: a host or a server, and the workflow as they change it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..host.standalone.host import StandaloneHost
    from .server import Server
    from .specs import NodeSpec
    from .workflow import Workflow


def open_here(options: argparse.Namespace) -> tuple[StandaloneHost, Workflow, Mapping[str, NodeSpec]]:
    """The host of this process, the workflow with the options carried out, and what its nodes take."""
    from ..host import use_host
    from ..host.standalone.host import StandaloneHost
    from ..training.run.launch import is_first
    from .errors import RunnerError
    from .foreign import pass_over_newer
    from .registry import node_specs
    from .validate import check_types
    from .workflow import locate, read_workflow

    silent = options.json or not is_first()
    host = StandaloneHost(options.models, options.input, options.out, options.device, silent)
    use_host(host)
    specs = node_specs()
    workflow = read_workflow(locate(options.file), specs)
    try:
        change(workflow, specs, options)
    except RunnerError:
        check_types(workflow.prompt, specs, here=True)  # an option finds nothing in a node that nobody knows
        raise
    workflow.notes += pass_over_newer(workflow.prompt, specs)
    return host, workflow, specs


def open_on_server(options: argparse.Namespace, server: Server) -> tuple[Workflow, Mapping[str, NodeSpec]]:
    """The workflow with the options carried out, and what that server's nodes take."""
    from ..host import use_host
    from ..host.standalone.host import StandaloneHost
    from .foreign import pass_over_newer
    from .workflow import locate, read_workflow

    use_host(StandaloneHost(inputs=options.input, output=options.out))
    path = locate(options.file)
    specs = server.specs()
    workflow = read_workflow(path, specs)
    change(workflow, specs, options)
    workflow.notes += pass_over_newer(workflow.prompt, specs)
    return workflow, specs


def change(workflow: Workflow, specs: Mapping[str, NodeSpec], options: argparse.Namespace) -> None:
    """Carry out the options that change the workflow; --set comes last. RunnerError where one undoes another."""
    from .foreign import check_switched_on, fit_in
    from .overrides import carry_out, refuse_unused, set_seed, set_text
    from .shorthands import set_seconds, set_size, set_steps, use_loras

    changes = [
        ("--prompt", options.prompt, lambda text: set_text(workflow, specs, "positive", text)),
        ("--negative", options.negative, lambda text: set_text(workflow, specs, "negative", text)),
        ("--seed", options.seed, lambda seed: set_seed(workflow, seed)),
        ("--seconds", options.seconds, lambda seconds: set_seconds(workflow, specs, seconds)),
        ("--size", options.size, lambda size: set_size(workflow, specs, size)),
        ("--steps", options.steps, lambda steps: set_steps(workflow, specs, steps)),
        ("--lora", options.lora or None, lambda names: use_loras(workflow, specs, names)),
    ]

    check_switched_on(workflow, specs)
    given = [
        (option, workflow.places_set(partial(apply, value))) for option, value, apply in changes if value is not None
    ]
    refuse_unused(workflow, given, carry_out(workflow, specs, options.set))
    fit_in(workflow, specs)
