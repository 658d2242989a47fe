"""Who may import whom, and that nothing of ComfyUI is touched but what it offers: read from the source itself."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("media", "models", "samplers", "training", "recipes", "host", "drawings", "nodes", "runner")
FORBIDDEN = {  # parts that a part may not import
    "media": {"models", "samplers", "training", "recipes", "host", "drawings", "nodes", "runner"},
    "models": {"media", "samplers", "training", "recipes", "host", "drawings", "nodes", "runner"},
    "samplers": {"training", "recipes", "host", "drawings", "nodes", "runner"},
    "training": {"recipes", "host", "drawings", "nodes", "runner"},
    "recipes": {"host", "drawings", "nodes", "runner"},
    "host": {"training", "recipes", "drawings", "nodes", "runner"},
    "drawings": {"recipes", "nodes", "runner"},
    "nodes": {"recipes", "runner"},
    "runner": set(),
}
HOST_MODULES = {"comfy", "comfy_api", "comfy_execution", "comfy_extras", "execution", "folder_paths", "latent_preview"}
HOST_MODULES |= {"node_helpers", "server", "app", "middleware"}
HOST_FILES = sorted((ROOT / "host" / "comfyui").glob("*.py"))


def files(part: str) -> list[Path]:
    return sorted((ROOT / part).rglob("*.py"))


def imports(path: Path) -> Iterator[tuple[int, str, str]]:
    """(level, module, name) of every import; level 0 is absolute, 2 is another part of the package."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.level, node.module or "", alias.name) for alias in node.names)


@pytest.mark.parametrize("part", PARTS)
def test_parts_import_only_what_lies_below_them(part):
    for path in files(part):
        depth = len(path.relative_to(ROOT / part).parts) + 1
        for level, module, name in imports(path):
            if level == depth:
                other = (module or name).split(".")[0]
                assert other not in FORBIDDEN[part], f"{path} imports {other}"
            assert level or not module.startswith("pyramid_video"), f"{path} imports the package by its name"


@pytest.mark.parametrize("part", PARTS)
def test_only_the_door_imports_comfyui(part):
    for path in files(part):
        if path in HOST_FILES:
            continue
        for level, module, _ in imports(path):
            assert level or module.split(".")[0] not in HOST_MODULES, f"{path} imports {module}"


@pytest.mark.parametrize("path", HOST_FILES, ids=lambda path: path.stem)
def test_the_door_uses_nothing_private_of_comfyui(path):
    """No import of a name with an underscore, and no such attribute but our own."""
    for level, module, imported in imports(path):
        private = [word for word in (*module.split("."), imported) if word.startswith("_") and word != "__future__"]
        assert level or not private, f"{path} imports the private {private[0]} of {module}"
    tree = ast.parse(path.read_text("utf-8"))
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    own |= {node.attr for node in attributes if isinstance(node.ctx, ast.Store)}
    for node in attributes:
        if node.attr.startswith("_") and not node.attr.startswith("__"):
            ours = isinstance(node.value, ast.Name) and node.value.id == "self" and node.attr in own
            assert ours, f"{path}:{node.lineno} uses the private {ast.unparse(node)}"


def test_the_rules_are_read_from_something():
    assert len(HOST_FILES) > 5 and all(files(part) for part in PARTS)
    assert any(module == "comfy.samplers" for path in files("host") for _, module, _ in imports(path))
