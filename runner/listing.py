"""What `pyramid-video nodes` and `pyramid-video models` print."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..host.folders import BUNDLED, KINDS
from ..host.standalone.host import MODELS_VARIABLE, StandaloneHost
from .specs import NodeSpec


def node_lines(specs: dict[str, NodeSpec]) -> Iterator[str]:
    """Id, name and purpose of every node that runs here."""
    ids = max(len(spec.class_type) for spec in specs.values())
    names = max(len(spec.display_name) for spec in specs.values())
    for spec in sorted(specs.values(), key=lambda spec: spec.class_type):
        purpose = " ".join(spec.description.split()).split(". ")[0].rstrip(".")
        yield f"{spec.class_type:<{ids}}  {spec.display_name:<{names}}  {purpose}".rstrip()


def model_lines(host: StandaloneHost) -> Iterator[str]:
    """Every model by kind, what it is and where it lies, and the folders that were searched."""
    for kind in KINDS:
        yield f"{kind}:"
        entries = host.folders.entries(kind)
        for name, path in sorted(entries.items()):
            origin = "comes with the pack" if path.is_relative_to(BUNDLED) else str(path)
            yield f"  {name}: {describe(path, kind)} ({origin})"
        if not entries:
            yield "  none"
    yield "searched folders:"
    roots = dict.fromkeys([*(root for kind in KINDS for root in host.folders.own[kind]), *host.folders.shared])
    for root in roots:
        yield f"  {root}{'' if root.is_dir() else ' (not there)'}"
    yield f"Add a folder laid out as ComfyUI's models/ with --models DIR or the variable {MODELS_VARIABLE}."


def describe(path: Path, kind: str) -> str:
    """In a few words what a file or folder is, or what is wrong with it."""
    from ..models.checkpoint_kinds import TRANSFORMERS
    from ..models.checkpoints import KINDS as MEANINGS
    from ..models.checkpoints import CheckpointError, inspect
    from ..models.lora import load_lora
    from ..models.perceptual import load_perceptual

    try:
        if kind == "loras":
            return f"LoRA of {len(load_lora(path))} layers, {path.stat().st_size / 1e6:,.2f} MB"
        if kind == "classifiers":
            load_perceptual(path)
            return f"VGG16 for a perceptual loss, {path.stat().st_size / 1e6:,.1f} MB"
        info = inspect(path)
        size = sum(file.stat().st_size for file in info.files)
    except (CheckpointError, OSError) as error:
        return f"unusable, {error}"
    except Exception as error:  # a file that breaks the reader in a way nobody thought of must not hide the others
        return f"unusable, {type(error).__name__}: {' '.join(str(error).split())}"
    family = "" if info.kind not in TRANSFORMERS or info.family.name == "pyramid" else f", {info.family}"
    return MEANINGS[info.kind].title + family + (f", {size / 1e6:,.1f} MB" if size else "")
