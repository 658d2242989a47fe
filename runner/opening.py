"""What the options of a command name: a host or a server, and the workflow as they change it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
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
    from .foreign import pass_over_newer
    from .registry import node_specs
    from .workflow import locate, read_workflow

    silent = options.json or not is_first()
    host = StandaloneHost(options.models, options.input, options.out, options.device, silent)
    use_host(host)
    specs = node_specs()
    workflow = read_workflow(locate(options.file), specs)
    change(workflow, specs, options)
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
    """Carry out the options that change the workflow; --set comes last and wins."""
    from .foreign import fit_in
    from .overrides import set_input, set_seed, set_text
    from .shorthands import set_seconds, set_size, set_steps, use_loras

    if options.prompt is not None:
        set_text(workflow, specs, "positive", options.prompt)
    if options.negative is not None:
        set_text(workflow, specs, "negative", options.negative)
    if options.seed is not None:
        set_seed(workflow, options.seed)
    if options.seconds is not None:
        set_seconds(workflow, specs, options.seconds)
    if options.size is not None:
        set_size(workflow, specs, options.size)
    if options.steps is not None:
        set_steps(workflow, specs, options.steps)
    use_loras(workflow, specs, options.lora)
    for assignment in options.set:
        set_input(workflow, specs, assignment)
    fit_in(workflow, specs)
