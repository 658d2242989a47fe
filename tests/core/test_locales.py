"""The translations of the blocks: complete, of this pack's blocks only, and naming them as the reader sees them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from pyramid_video.nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS

ROOT = Path(__file__).resolve().parents[2]
LANGUAGES = sorted(folder.name for folder in (ROOT / "locales").iterdir() if folder.name != "en")
NODES = sorted(NODE_CLASS_MAPPINGS)
CORE = {  # how ComfyUI's own blocks and choices are called in its own translations; two of them it leaves in English
    "zh": {"Create Video": "创建视频", "VAE Decode": "VAE解码"},
    "zh-TW": {"Create Video": "建立影片", "VAE Decode": "VAE 解碼"},
    "ja": {"Create Video": "動画を作成", "VAE Decode": "VAEデコード"},
}
ENGLISH_IN_CORE = {"Load LoRA Model", "Plot Loss Graph"}
MENUS_OF_CORE = {"latent"}  # the frontend has one list of menus for all packs, and these words already
FOREIGN = re.compile(r"[぀-ヿ一-鿿]")  # kana, and the characters of both languages
MESSAGE_SYNTAX = set("{}@|")  # what the frontend's vue-i18n reads as its own signs
QUOTED = re.compile(r"「([^」]*)」")


def read(language: str, name: str = "nodeDefs") -> dict:
    return json.loads((ROOT / "locales" / language / f"{name}.json").read_text("utf-8"))


def inputs_of(node) -> dict:
    schema = node.INPUT_TYPES()
    return {**schema.get("required", {}), **schema.get("optional", {})}


def texts(translation: dict) -> list[str]:
    """Every sentence of a block's translation."""
    parts = [*translation["inputs"].values(), *translation["outputs"].values()]
    return [translation["description"], *(part["tooltip"] for part in parts)]


def sentences(node) -> list[str]:
    """The English of `texts`, in the same order."""
    return [node.DESCRIPTION, *(spec[1]["tooltip"] for spec in inputs_of(node).values()), *node.OUTPUT_TOOLTIPS]


def test_the_two_largest_other_communities_are_served():
    assert LANGUAGES == ["ja", "zh", "zh-TW"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_exactly_the_blocks_are_translated(language):
    assert sorted(read(language)) == NODES


@pytest.mark.parametrize("node_id", NODES)
@pytest.mark.parametrize("language", LANGUAGES)
def test_exactly_what_a_block_has_is_translated(language, node_id):
    node, translation = NODE_CLASS_MAPPINGS[node_id], read(language)[node_id]
    assert set(translation) == {"display_name", "description", "inputs", "outputs"}
    assert list(translation["inputs"]) == list(inputs_of(node))
    assert all(set(words) == {"name", "tooltip"} for words in translation["inputs"].values())
    assert list(translation["outputs"]) == [str(place) for place in range(len(node.RETURN_TYPES))]
    names = getattr(node, "RETURN_NAMES", node.RETURN_TYPES)
    for words, name, kind in zip(translation["outputs"].values(), names, node.RETURN_TYPES, strict=True):
        # An output that is called as its type gets the name of the type from the frontend.
        assert set(words) == ({"tooltip"} if name == kind else {"name", "tooltip"})


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_should_be_a_sentence_is_one_in_the_language(language):
    for node_id, translation in read(language).items():
        node = NODE_CLASS_MAPPINGS[node_id]
        for text, english in zip(texts(translation), sentences(node), strict=True):
            assert FOREIGN.search(text) and text.endswith(("。", "）")), (node_id, text)
            assert text != english
        assert FOREIGN.search(translation["display_name"]), node_id


@pytest.mark.parametrize("language", [*LANGUAGES, "en"])
def test_nothing_is_read_as_syntax_of_the_frontend(language):
    for node_id, translation in read(language).items():
        parts = [*translation["inputs"].values(), *translation["outputs"].values()]
        named = [translation["display_name"], *(part["name"] for part in parts if "name" in part)]
        for text in [*texts(translation), *named]:
            assert text.strip() == text != "" and not MESSAGE_SYNTAX & set(text), (node_id, text)


@pytest.mark.parametrize("language", LANGUAGES)
def test_names_tell_apart(language):
    translations = read(language)
    assert len({translation["display_name"] for translation in translations.values()}) == len(translations)
    for node_id, translation in translations.items():
        names = [words["name"] for words in translation["inputs"].values()]
        assert len(set(names)) == len(names), (node_id, names)


@pytest.mark.parametrize("language", LANGUAGES)
def test_quoted_blocks_and_inputs_are_called_as_the_reader_sees_them(language):
    translations = read(language)
    shown = {NODE_DISPLAY_NAME_MAPPINGS[node_id]: words["display_name"] for node_id, words in translations.items()}
    shown |= CORE[language] | {name: name for name in ENGLISH_IN_CORE}
    for node_id, translation in translations.items():
        node = NODE_CLASS_MAPPINGS[node_id]
        inputs = {name: words["name"] for name, words in translation["inputs"].items()}
        for text, english in zip(texts(translation), sentences(node), strict=True):
            quoted = set(QUOTED.findall(text))
            assert quoted <= set(shown.values()) | set(inputs.values()), (node_id, text)
            for name, translated in shown.items():
                if f"'{name}'" in english:
                    assert translated in quoted, (node_id, text, name)


@pytest.mark.parametrize("language", LANGUAGES)
def test_numbers_are_those_of_the_english_text(language):
    """A changed default or limit has to reach the translations."""
    for node_id, translation in read(language).items():
        node = NODE_CLASS_MAPPINGS[node_id]
        for text, english in zip(texts(translation), sentences(node), strict=True):
            if "million" not in english:  # these languages count by ten thousands
                assert numbers(english) <= numbers(text), (node_id, english, text)


def numbers(text: str) -> set[str]:
    """Decimal fractions and whole numbers of two digits and more; smaller ones are often written in words."""
    return set(re.findall(r"\d+\.\d+|\d\d+", text))


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_menu_is_translated(language):
    menus = {part for node in NODE_CLASS_MAPPINGS.values() for part in node.CATEGORY.split("/")} - MENUS_OF_CORE
    assert set(read(language, "main")) == {"nodeCategories"}
    assert set(read(language, "main")["nodeCategories"]) == menus
    assert all(FOREIGN.search(name) for name in read(language, "main")["nodeCategories"].values())
