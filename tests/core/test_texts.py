"""What a block says of itself is said in one place: the help pages' tables and the English locale are made from it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from pyramid_video.nodes import NODE_CLASS_MAPPINGS
from pyramid_video.recipes.emoji.vocabulary import vocabulary

ROOT = Path(__file__).resolve().parents[2]
SPEC = importlib.util.spec_from_file_location("texts", ROOT / ".ci" / "texts.py")
texts = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(texts)
HINT = "a text of a block was changed: run .ci/texts.py"


@pytest.mark.parametrize("block", NODE_CLASS_MAPPINGS)
def test_the_table_of_a_help_page_is_that_of_its_block(block):
    for path, language in texts.pages_of(block):
        text = path.read_text("utf-8")
        assert text == texts.page(NODE_CLASS_MAPPINGS[block], text, language), HINT


def test_the_english_locale_is_what_the_blocks_say():
    assert (texts.ENGLISH / "nodeDefs.json").read_text("utf-8") == texts.as_json(texts.english(NODE_CLASS_MAPPINGS)), (
        HINT
    )
    menus = json.loads((texts.ENGLISH / "main.json").read_text("utf-8"))["nodeCategories"]
    assert menus == {name: name for name in menus}


def test_the_translations_are_of_the_english_texts_as_they_are():
    translated = json.loads(texts.TRANSLATED.read_text("utf-8"))
    assert texts.changed(texts.english(NODE_CLASS_MAPPINGS), translated) == [], (
        "these texts have changed in English: change their translations, then run .ci/texts.py --translated"
    )


def test_an_english_text_that_changes_comes_or_goes_is_named():
    translated = texts.fingerprints(
        {"A": {"name": "a", "inputs": {"x": {"tooltip": "One."}, "y": {"tooltip": "Two."}}}}
    )
    now = {"A": {"name": "a", "inputs": {"x": {"tooltip": "Other."}, "z": {"tooltip": "Two."}}}}
    assert texts.changed(now, translated) == [f"A.inputs.{name}" for name in "xyz"]


@pytest.mark.parametrize("path", sorted(texts.PROMPTS.glob("*.json")), ids=lambda path: path.stem)
def test_example_prompts_have_all_inputs(path):
    prompt = json.loads(path.read_text("utf-8"))
    assert texts.completed(prompt, NODE_CLASS_MAPPINGS) == prompt, HINT


def test_a_new_input_is_added_with_its_default_and_nothing_else():
    given = {"class_type": "PyramidVideoStages", "inputs": {"first_steps": 3}}
    foreign = {"class_type": "KSampler", "inputs": {}}
    done = texts.completed({"1": given, "2": foreign}, NODE_CLASS_MAPPINGS)
    assert done["2"] == foreign
    widgets = {each.name for each in NODE_CLASS_MAPPINGS["PyramidVideoStages"].inputs()}
    assert set(done["1"]["inputs"]) == widgets and done["1"]["inputs"]["first_steps"] == 3
    assert done["1"]["inputs"]["video_steps"] == 10


def test_the_table_of_what_the_small_models_know_has_the_words_of_their_recipe():
    table = json.loads(texts.KNOWS.read_text("utf-8"))
    assert table == texts.known(table, vocabulary()), "a word of the recipe was changed: run .ci/texts.py"


def test_inputs_and_blocks_in_a_tooltip_are_marked():
    names = {"care", "own_scales"}
    assert texts.in_markdown("From 'Fit spectrum' and 'care'; own_scales*", names) == (
        r"From *Fit spectrum* and `care`; `own_scales`\*"
    )
    assert texts.in_markdown("the VAE's own, the seed's", names) == "the VAE's own, the seed's"
