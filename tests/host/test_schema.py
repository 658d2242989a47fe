"""What a real ComfyUI says of the blocks: the same by its v3 schema, where it has one, as by the mappings elsewhere."""

from __future__ import annotations

import pytest
from pyramid_video.nodes import NODE_CLASS_MAPPINGS
from pyramid_video.runner.registry import node_specs
from pyramid_video.runner.specs import spec_of_info

LISTS = {"sampler_name", "scheduler"}  # of the host's own, as are all lists of files


@pytest.fixture(scope="module")
def described(comfy) -> dict:
    return comfy.get("/object_info")


@pytest.mark.parametrize("block", NODE_CLASS_MAPPINGS)
def test_the_host_describes_a_block_as_it_is(described, block):
    info, ours = described[block], node_specs()[block]
    theirs = spec_of_info(block, info, is_closed=True)
    assert (theirs.display_name, theirs.description) == (ours.display_name, ours.description)
    assert (theirs.outputs, theirs.is_output) == (ours.outputs, ours.is_output)
    assert list(theirs.inputs) == list(ours.inputs), "saved workflows hold the values of widgets in this order"
    for name, spec in ours.inputs.items():
        other = theirs.inputs[name]
        assert (other.type, other.required) == (spec.type, spec.required), name
        assert {key: other.options.get(key) for key in spec.options} == dict(spec.options), name
        assert spec.type != "COMBO" or name in LISTS or name.endswith("_name") or other.choices == spec.choices, name


@pytest.mark.parametrize("block", NODE_CLASS_MAPPINGS)
def test_the_host_names_its_outputs(described, block):
    info, node = described[block], NODE_CLASS_MAPPINGS[block]
    assert info["output_name"] == list(getattr(node, "RETURN_NAMES", node.RETURN_TYPES))
    assert info["output_tooltips"] == list(node.OUTPUT_TOOLTIPS)
    assert info["output_is_list"] == list(getattr(node, "OUTPUT_IS_LIST", [False] * len(node.RETURN_TYPES)))
    assert info.get("search_aliases", node.SEARCH_ALIASES) == node.SEARCH_ALIASES
    assert info["category"] == node.CATEGORY


def test_a_host_with_a_schema_registers_it(described):
    """Such a host knows aliases, and says of its own nodes what only a schema says."""
    if "search_aliases" in described["KSampler"]:
        assert "price_badge" in described["PyramidVideoSampler"]
    else:
        assert "price_badge" not in described["PyramidVideoSampler"]


def test_a_name_that_leads_elsewhere_is_refused_before_the_run(comfy):
    folder = {"class_type": "PyramidVideoFolderDataset", "inputs": {"folder": "../elsewhere", "size": 64}}
    folder["inputs"] |= {"frames": 9, "fps": 8.0, "multiple": 64}
    shown = {"class_type": "PyramidVideoDatasetPreview", "inputs": {"dataset": ["1", 0], "count": 1, "seed": 0}}
    saved = {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}}
    errors = comfy.refusal({"1": folder, "2": shown, "3": saved})
    assert "elsewhere" in str(errors["1"]["errors"])
