"""A block from its one list of inputs: what a host reads of it, and what its method gets."""

from __future__ import annotations

import math

import pytest
from pyramid_video.nodes.block import Block, Bool, Choice, Float, Int, Output, Text, Wire, registered


@registered
class Toy(Block):
    ID, NAME = "Toy", "Toy"
    CATEGORY = "toys"
    DESCRIPTION = "Gives back what it gets."
    ALIASES = "plaything, 玩具"
    REQUIRED = (Wire("model", "MODEL").tip("Any."), Int("count", 3, 1, 9, 2).tip("How many."))
    OPTIONAL = (
        Float("scale", 0.5, 0.0, 1.0, 0.1, exact=True).tip("How large."),
        Choice("kind", lambda: ["a", "b"]).tip("Which."),
        Text("words", "none", multiline=True).tip("What."),
        Bool("on", True).tip("Whether."),
        Wire("vae", "VAE").tip("Another."),
    )
    OUTPUTS = (Output("INT", "The count.", "number"), Output("MODEL", "The model."))
    FUNCTION = "run"

    def run(self, model, count, **rest):
        return model, count, rest


def test_a_host_reads_the_mappings_from_the_list():
    assert Toy.INPUT_TYPES() == {
        "required": {
            "model": ("MODEL", {"tooltip": "Any."}),
            "count": ("INT", {"default": 3, "min": 1, "max": 9, "step": 2, "tooltip": "How many."}),
        },
        "optional": {
            "scale": (
                "FLOAT",
                {"default": 0.5, "min": 0.0, "max": 1.0, "step": 0.1, "round": False, "tooltip": "How large."},
            ),
            "kind": (["a", "b"], {"tooltip": "Which."}),
            "words": ("STRING", {"default": "none", "multiline": True, "tooltip": "What."}),
            "on": ("BOOLEAN", {"default": True, "tooltip": "Whether."}),
            "vae": ("VAE", {"tooltip": "Another."}),
        },
    }
    assert Toy.RETURN_TYPES == ("INT", "MODEL") and Toy.RETURN_NAMES == ("number", "MODEL")
    assert Toy.OUTPUT_TOOLTIPS == ("The count.", "The model.") and Toy.SEARCH_ALIASES == ["plaything", "玩具"]


def test_what_is_not_given_is_its_default_and_a_wire_none():
    model, count, rest = Toy().run(model="m")
    assert (model, count) == ("m", 3)
    assert rest == {"scale": 0.5, "kind": None, "words": "none", "on": True, "vae": None}


def test_inputs_may_be_given_in_their_order():
    assert Toy().run("m", 5, 0.2, "b", vae="v") == Toy().run(model="m", count=5, scale=0.2, kind="b", vae="v")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"count": 0}, "input 'count' is 0; the least is 1"),
        ({"count": 10}, "input 'count' is 10; the most is 9"),
        ({"scale": math.nan}, "input 'scale' is nan, which is not a number"),
    ],
)
def test_numbers_outside_their_range_are_refused_whichever_way_they_come(given, words):
    with pytest.raises(ValueError, match=words):
        Toy().run(model="m", **given)
