"""What a server says of its nodes, in the forms of older and newer ComfyUI."""

from __future__ import annotations

import json
from pathlib import Path

from pyramid_video.runner.registry import node_specs
from pyramid_video.runner.specs import spec_of_info
from pyramid_video.runner.workflow import from_json

FILE = Path(__file__).resolve().parents[2] / "workflows" / "text_to_video_gan.json"
SAVE_VIDEO = {  # as ComfyUI 0.33 describes it: a choice of `codec` may bring inputs of its own
    "display_name": "Save Video",
    "input": {
        "required": {
            "video": ["VIDEO", {}],
            "filename_prefix": ["STRING", {"default": "video/ComfyUI"}],
            "format": ["COMBO", {"default": "auto", "options": ["auto", "mp4"]}],
            "codec": [
                "COMFY_DYNAMICCOMBO_V3",
                {"options": [{"key": "auto", "inputs": {}}, {"key": "h264", "inputs": {"required": {}}}]},
            ],
        }
    },
    "output": ["VIDEO"],
    "output_node": True,
}


def test_a_choice_that_brings_inputs_is_a_value_of_the_file():
    spec = spec_of_info("SaveVideo", SAVE_VIDEO, is_closed=True)
    codec = spec.inputs["codec"]
    assert codec.is_widget and codec.choices == ("auto", "h264") and codec.default == "auto"
    assert not spec.is_closed  # what the choice brings is in no list


def test_a_workflow_read_with_newer_descriptions_is_the_same_prompt():
    ui = json.loads(FILE.read_text("utf-8"))
    older = node_specs()
    newer = {**older, "SaveVideo": spec_of_info("SaveVideo", SAVE_VIDEO, is_closed=True)}
    assert from_json(ui, newer, "gan").prompt == from_json(ui, older, "gan").prompt
