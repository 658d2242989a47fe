"""Values that are wrong by themselves are refused before the graph runs; what comes over a wire waits for its turn."""

from __future__ import annotations

import inspect

import pytest
from pyramid_video.host import use_host
from pyramid_video.host.standalone.host import StandaloneHost
from pyramid_video.nodes import NODE_CLASS_MAPPINGS

CHECKED = {
    block: node.VALIDATE_INPUTS for block, node in NODE_CLASS_MAPPINGS.items() if hasattr(node, "VALIDATE_INPUTS")
}
TRAINERS = [block for block, node in NODE_CLASS_MAPPINGS.items() if "run_name" in node.INPUT_TYPES()["required"]]
SAVERS = [block for block in CHECKED if "Save" in block]
DIFFUSION = {"family": "diffusion", "schedule": "cosine", "prediction": "epsilon", "zero_terminal_snr": True}


@pytest.fixture(autouse=True)
def host(tmp_path):
    (tmp_path / "input" / "clips").mkdir(parents=True)
    (tmp_path / "input" / "animations").mkdir()
    (tmp_path / "input" / "animations" / "fox.webp").touch()
    use_host(StandaloneHost(inputs=tmp_path / "input", output=tmp_path / "output", silent=True))
    yield
    use_host(None)


@pytest.mark.parametrize("block", CHECKED)
@pytest.mark.parametrize("value", [None, 7, 1.5, True, [], {}, "\0"])
def test_no_value_makes_a_check_fail(block, value):
    """The host calls it with whatever stands in the graph, and with None for what is linked."""
    answer = CHECKED[block](**dict.fromkeys(inspect.signature(CHECKED[block]).parameters, value))
    assert answer is True or (isinstance(answer, str) and answer)
    if value is None:
        assert answer is True


@pytest.mark.parametrize("block", CHECKED)
def test_the_defaults_of_a_block_are_no_fault(block):
    schema = NODE_CLASS_MAPPINGS[block].INPUT_TYPES()
    widgets = {**schema["required"], **schema.get("optional", {})}
    names = inspect.signature(CHECKED[block]).parameters
    assert CHECKED[block](**{name: widgets[name][1]["default"] for name in names}) is True


@pytest.mark.parametrize("block", [*TRAINERS, *SAVERS])
@pytest.mark.parametrize("name", ["../elsewhere", "/etc/passwd", "C:\\x", "", "  "])
def test_names_that_lead_elsewhere_are_refused(block, name):
    widget = "run_name" if block in TRAINERS else "name"
    assert isinstance(CHECKED[block](**{widget: name}), str)
    assert CHECKED[block](**{widget: "mine/second"}) is True


@pytest.mark.parametrize("block", ["PyramidVideoAnimationDataset", "PyramidVideoFolderDataset"])
def test_a_folder_that_is_not_there_is_named_with_the_nearest(block):
    others = {"subjects": ""} if block == "PyramidVideoAnimationDataset" else {}
    assert "the nearest is 'clips'" in CHECKED[block](folder="clip", **others)


def test_a_subject_that_is_not_there_is_named():
    check = CHECKED["PyramidVideoAnimationDataset"]
    assert check(folder="animations", subjects="fox") is True
    assert "'foks'" in check(folder="animations", subjects="fox, foks")


def test_ratios_of_stages_are_numbers_for_a_few_stages():
    check = CHECKED["PyramidVideoTrainPyramid"]
    assert check(run_name="mine", stage_ratios="1, 2, 1") is True and check(run_name="mine", stage_ratios=None) is True
    for text, words in (("1; 2", "whole numbers"), ("0,0", "whole numbers"), ("1," * 100_000, "the most")):
        assert words in check(run_name="mine", stage_ratios=text)
    assert "outside" in check(run_name="../mine", stage_ratios="1")


def test_validation_wants_a_prompt_and_not_too_many():
    check = CHECKED["PyramidVideoValidation"]
    assert check(prompts="a tiger") is True
    assert "0 prompts" in check(prompts=" \n ") and "17 prompts" in check(prompts="a tiger\n" * 17)


@pytest.mark.parametrize("block", ["PyramidVideoNewModel", "PyramidVideoLoadForTraining"])
def test_settings_of_a_family_that_exclude_each_other_are_refused(block):
    check = CHECKED[block]
    assert isinstance(check(**DIFFUSION), str)
    assert check(**{**DIFFUSION, "prediction": "v"}) is True and check(**{**DIFFUSION, "family": "flow"}) is True
    assert check(**{**DIFFUSION, "zero_terminal_snr": None}) is True, "it comes over a wire"
    assert isinstance(check(**{**DIFFUSION, "family": "flwo"}), str), "the host leaves the list to the check, too"
    assert isinstance(check(**{**DIFFUSION, "schedule": "no", "prediction": "v"}), str)
