"""The lines of a file of prompts: what each wants of the workflow."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from .carriers import parse
from .errors import RunnerError, nearest
from .foreign import fit_in
from .naming import name_files
from .overrides import assign, find_input, get_seed, get_text, refuse_unused, set_seed, set_text
from .specs import NodeSpec
from .texts import choose_texts
from .workflow import Workflow

SIDES = {"prompt": "positive", "negative": "negative"}
KEYS = (*SIDES, "seed")


@dataclass(frozen=True)
class Job:
    """One line. What it leaves out stays as the workflow and the command line have it."""

    line: int
    settings: Mapping[str, Any] = field(default_factory=dict)  # the KEYS, and NODE.INPUT
    fault: str = ""  # why the line cannot be read

    def changed(self, workflow: Workflow, specs: Mapping[str, NodeSpec]) -> Workflow:
        """A copy of the workflow that does what the line wants, its files named after prompt and seed.

        RunnerError when the line cannot be read or the workflow has no place for what it sets.
        """
        if self.fault:
            raise RunnerError(self.fault)
        workflow = copy.deepcopy(workflow)
        given, sets = [], []
        for key in sorted(self.settings, key=lambda key: key not in KEYS):  # NODE.INPUT comes last
            places = workflow.places_set(partial(self.carry_out, key, workflow, specs))
            (given if key in KEYS else sets).append((repr(key), places))
        refuse_unused(workflow, given, sets)
        fit_in(workflow, specs)
        choose_texts(workflow, specs)
        name_files(workflow, specs, get_text(workflow, specs), get_seed(workflow))
        return workflow

    def carry_out(self, key: str, workflow: Workflow, specs: Mapping[str, NodeSpec]) -> None:
        value = self.settings[key]
        if key in SIDES:
            set_text(workflow, specs, SIDES[key], value)
        elif key == "seed":
            set_seed(workflow, value)
        else:
            wanted, _, name = key.rpartition(".")
            assign(workflow, find_input(workflow, specs, wanted, name)[0], name, value)


def read_jobs(path: Path) -> tuple[list[Job], list[int]]:
    """The jobs of a file, one for each line that is not empty, and the numbers of lines that want what another does.

    A line that cannot be read has its `fault`.

    A `.txt` file has a prompt in each line. A `.jsonl` file has an object with any of `prompt`, `negative`, `seed`
    and `NODE.INPUT`, which mean what the options `--prompt`, `--negative`, `--seed` and `--set` mean. Of lines that
    want the same only the first is a job. Raises RunnerError for other files.
    """
    if path.suffix.lower() not in (".txt", ".jsonl"):
        raise RunnerError(f"--prompts takes a .txt with a prompt in each line or a .jsonl with an object, not {path}")
    try:
        lines = path.read_text("utf-8-sig").split("\n")
    except FileNotFoundError as error:
        raise RunnerError(f"--prompts: there is no file {path}") from error
    except UnicodeDecodeError as error:
        raise RunnerError(f"--prompts: {path} is not text in UTF-8") from error
    except OSError as error:
        raise RunnerError(f"--prompts: {path} cannot be read: {error.strerror or error}") from error
    read = read_object if path.suffix.lower() == ".jsonl" else read_text
    jobs: dict[str, Job] = {}
    repeated = []
    for number, line in enumerate(map(str.strip, lines), 1):
        if line:
            job = read(number, line)
            wanted = f"line {number}" if job.fault else json.dumps(job.settings, sort_keys=True)
            if jobs.setdefault(wanted, job) is not job:
                repeated.append(number)
    if not jobs:
        raise RunnerError(f"--prompts: {path} has no prompts in it")
    return list(jobs.values()), repeated


def read_text(number: int, line: str) -> Job:
    return Job(number, {"prompt": line})


def read_object(number: int, line: str) -> Job:
    """One line of a `.jsonl` file."""
    try:
        settings = parse(line)
    except (ValueError, RecursionError) as error:
        return Job(number, fault=f"this is not valid JSON: {error}")
    if not isinstance(settings, dict):
        return Job(number, fault='a line is an object such as {"prompt": "a tiger", "seed": 3}')
    return Job(number, settings, fault_of(settings))


def fault_of(settings: Mapping[str, Any]) -> str:
    """What is wrong with an object, or nothing."""
    for key, value in settings.items():
        wanted, dot, name = key.rpartition(".")
        if key not in KEYS and not (wanted and dot and name):
            return f"{key!r} means nothing here{nearest(key, KEYS)}; inputs are named NODE.INPUT"
        if key in ("prompt", "negative") and not isinstance(value, str):
            return f"{key!r} takes text, not {json.dumps(value)[:60]}"
        if key == "seed" and (isinstance(value, bool) or not isinstance(value, int)):
            return f"'seed' takes a whole number, not {json.dumps(value)[:60]}"
    return ""
