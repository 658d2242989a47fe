"""Small nodes that need no model, for tests of the runner."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyramid_video.runner.specs import NodeSpec, spec_of_class


class Maker:
    RETURN_TYPES = ("THING", "INT")
    FUNCTION = "make"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "text": ("STRING", {"default": "hello", "multiline": True}),
                "seed": ("INT", {"default": 1, "min": 0, "max": 100, "control_after_generate": True}),
                "strength": ("FLOAT", {"default": 0.5, "min": 0.0, "max": 1.0}),
                "mode": (["slow", "fast"],),
            },
            "optional": {"on": ("BOOLEAN", {"default": True})},
        }

    def make(self, text: str, seed: int, strength: float, mode: str, on: bool = True):
        return f"{text}/{seed}/{strength}/{mode}/{on}", seed


class Changer:
    RETURN_TYPES = ("THING",)
    FUNCTION = "change"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"thing": ("THING",), "suffix": ("STRING", {"default": "!"})},
            "optional": {"other": ("THING",)},
        }

    def change(self, thing: str, suffix: str, other: str = ""):
        if suffix == "fail":
            raise ValueError("this suffix\nis not allowed")
        return (thing + suffix + other,)


class Guide:
    """Has the two sides that --prompt and --negative look for."""

    RETURN_TYPES = ("THING",)
    FUNCTION = "join"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"positive": ("THING",)}, "optional": {"negative": ("THING",)}}

    def join(self, positive: str, negative: str = ""):
        return (f"{positive}|{negative}",)


class Keep:
    """Keeps what reaches it in `kept`, with the hidden inputs."""

    RETURN_TYPES = ()
    OUTPUT_NODE = True
    FUNCTION = "keep"
    kept: list[Any] = []

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"thing": ("THING",)},
            "hidden": {"node": "UNIQUE_ID", "prompt": "PROMPT", "extra": "EXTRA_PNGINFO"},
        }

    @classmethod
    def VALIDATE_INPUTS(cls):
        return True

    def keep(self, thing, node, prompt, extra):
        Keep.kept.append((thing, node, prompt, extra))
        return {"ui": {"text": [str(thing)]}}


class Picky:
    """Its own check replaces the range."""

    RETURN_TYPES = ("THING",)
    FUNCTION = "pick"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"size": ("INT", {"default": 8, "min": 0, "max": 10})}}

    @classmethod
    def VALIDATE_INPUTS(cls, size: Any = None):
        return True if size % 8 == 0 else f"size {size} is no multiple of 8"

    def pick(self, size: int):
        return (str(size),)


class PrimitiveText:
    RETURN_TYPES = ("STRING",)
    FUNCTION = "give"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("STRING", {"default": ""})}}

    def give(self, value: str):
        return (value,)


CLASSES: Mapping[str, type] = {node.__name__: node for node in (Maker, Changer, Guide, Keep, Picky, PrimitiveText)}


def specs() -> dict[str, NodeSpec]:
    return {name: spec_of_class(name, node) for name, node in CLASSES.items()}


def good_prompt() -> dict[str, dict[str, Any]]:
    """Maker 1 and 2 into Changer 3 into Keep 4; everything about it is right."""

    def maker(text: str) -> dict[str, Any]:
        values = {"text": text, "seed": 7, "strength": 0.25, "mode": "fast", "on": False}
        return {"class_type": "Maker", "inputs": values, "_meta": {"title": f"Make {text}"}}

    return {
        "1": maker("a"),
        "2": maker("b"),
        "3": {"class_type": "Changer", "inputs": {"thing": ["1", 0], "suffix": "!", "other": ["2", 0]}},
        "4": {"class_type": "Keep", "inputs": {"thing": ["3", 0]}, "_meta": {"title": "The end"}},
    }
