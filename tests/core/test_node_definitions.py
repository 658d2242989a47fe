"""What saved workflows and prompts hold of a block stays: nodes, inputs, their order, types, defaults and choices.

`tests/cases/nodes.json` is what was released. Blocks, optional inputs at the end, choices and wider ranges may be added
(and then to the file, too); nothing in it changes. Texts may.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from pyramid_video.host import use_host
from pyramid_video.nodes import NODE_CLASS_MAPPINGS

FILE = Path(__file__).resolve().parents[1] / "cases" / "nodes.json"
SAVED = json.loads(FILE.read_text("utf-8"))
FIELDS = ("RETURN_TYPES", "RETURN_NAMES", "CATEGORY", "FUNCTION", "OUTPUT_NODE", "OUTPUT_IS_LIST")
RANGE = {"min": lambda now, then: now <= then, "max": lambda now, then: now >= then}


@pytest.fixture(autouse=True)
def host():
    """A host whose lists of files and samplers are the same everywhere."""
    lists = {"sampler_names": ["<sampler>"], "scheduler_names": ["<scheduler>"]}
    use_host(SimpleNamespace(list_models=lambda kind: [f"<{kind}>"], **lists))
    yield
    use_host(None)


def definition(node: type) -> dict:
    """What is kept of a block, as JSON holds it."""
    inputs = {
        group: {
            name: {"type": kind, **{key: value for key, value in (options or [{}])[0].items() if key != "tooltip"}}
            for name, (kind, *options) in entries.items()
        }
        for group, entries in node.INPUT_TYPES().items()
    }
    fields = {name: getattr(node, name) for name in FIELDS if hasattr(node, name)}
    return json.loads(json.dumps({"inputs": inputs, **fields}))


def test_no_block_is_gone_and_every_block_is_kept_from_now_on():
    new = {name: definition(node) for name, node in NODE_CLASS_MAPPINGS.items() if name not in SAVED}
    assert not new, f"add to {FILE.name}: {json.dumps(new)}"
    assert not set(SAVED) - set(NODE_CLASS_MAPPINGS)


@pytest.mark.parametrize("name", SAVED)
def test_a_block_is_what_saved_workflows_hold(name):
    now, then = definition(NODE_CLASS_MAPPINGS[name]), SAVED[name]
    assert {key: value for key, value in now.items() if key != "inputs"} == {
        key: value for key, value in then.items() if key != "inputs"
    }
    assert list(now["inputs"].get("required", {})) == list(then["inputs"].get("required", {}))
    kept = list(then["inputs"].get("optional", {}))
    assert list(now["inputs"].get("optional", {}))[: len(kept)] == kept, "values of widgets are saved by their order"
    for group, entries in then["inputs"].items():
        for entry, options in entries.items():
            same_input(now["inputs"][group][entry], options, f"{name}.{entry}")


def same_input(now: dict, then: dict, where: str) -> None:
    """All that was said of an input is said of it still; choices and ranges may have grown."""
    assert set(then) <= set(now), where
    for key, value in then.items():
        if isinstance(value, list):
            assert [choice for choice in now[key] if choice in value] == value, where
        elif key in RANGE:
            assert RANGE[key](now[key], value), where
        else:
            assert now[key] == value and type(now[key]) is type(value), f"{where}: {key}"
