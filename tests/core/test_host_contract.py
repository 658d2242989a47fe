"""Both hosts are a `protocol.Host`: the same methods with the same arguments, read from the source itself."""

from __future__ import annotations

import ast

import pytest
from conftest import ROOT

OWN = {  # what only the command line calls, of the host that it makes itself
    "StandaloneHost": {"folders", "silent", "input_roots"},
    "ComfyHost": {"folders"},
}


def members(path: str, name: str) -> dict[str, str | None]:
    """The public methods of a class with their arguments and defaults; None for what is read without a call."""
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    (body,) = (node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
    found: dict[str, str | None] = {}
    for node in body:
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            stores = (each for each in ast.walk(node) if isinstance(each, ast.Attribute))
            found |= {each.attr: None for each in stores if isinstance(each.ctx, ast.Store)}
        elif isinstance(node, ast.FunctionDef):
            for argument in ast.walk(node.args):
                if isinstance(argument, ast.arg):
                    argument.annotation = None
            found[node.name] = None if node.decorator_list else ast.unparse(node.args)
        elif isinstance(node, ast.Assign):
            found |= {target.id: None for target in node.targets if isinstance(target, ast.Name)}
    return {name: arguments for name, arguments in found.items() if not name.startswith("_")}


@pytest.mark.parametrize(
    ("path", "name", "contract"),
    [
        ("host/comfyui/host.py", "ComfyHost", "Host"),
        ("host/standalone/host.py", "StandaloneHost", "Host"),
        ("host/comfyui/any_model.py", "AnyModel", "AnyModel"),
        ("host/standalone/any_model.py", "AnyModel", "AnyModel"),
        ("host/comfyui/model_training.py", "ModelTraining", "ModelTraining"),
    ],
)
def test_a_host_has_what_the_contract_says_and_nothing_else(path, name, contract):
    wanted, found = members("host/protocol.py", contract), members(path, name)
    own = OWN.get(name, set())
    assert {each: found[each] for each in found.keys() - own} == wanted
    assert own <= found.keys()
