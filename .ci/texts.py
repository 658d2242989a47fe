#!/usr/bin/env python3
"""Writes what stands in one place to where else it is read.

What the blocks say of themselves to the tables of the help pages and to the English locale, new inputs with their
defaults to the API prompts of the example workflows, the words of the small models' recipe to the table of what they
know. Prints what the other languages lack, and which of their texts were made from an English one that has changed. Run
it after such a text has changed; `tests/core/test_texts.py` says when that was forgotten.

    python .ci/texts.py --translated    # records that all translations are of the English texts as these are
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGES, LOCALES, PROMPTS = ROOT / "web" / "docs", ROOT / "locales", ROOT / "workflows" / "api"
ENGLISH = LOCALES / "en"
TRANSLATED = ROOT / ".ci" / "translated.json"  # fingerprints of the English texts that the translations were made from
KNOWS = ROOT / "models" / "pretrained" / "knows.json"
QUOTED = re.compile(r"'([^'\n]+)'(?!\w)")
MOST_WRITTEN = 10_000_000  # larger ranges, as of seeds, tell nobody anything
FILES = ("model_name", "vae_name", "text_encoder_name", "vgg_name", "linear_name", "sampler_name", "scheduler")


PHRASES = {  # of a table: its head, then what is said of values
    "en": ("input | what it does", " Optional.", " Default: {}.", " Default: {} ({} to {}).", "on", "off"),
    "ja": ("入力 | 説明", "省略できます。", "既定値：{}。", "既定値：{}（{}～{}）。", "オン", "オフ"),
    "zh": ("输入 | 说明", "可选。", "默认：{}。", "默认：{}（{}到{}）。", "开", "关"),
    "zh-TW": ("輸入 | 說明", "可選。", "預設：{}。", "預設：{}（{}到{}）。", "開", "關"),
}
CHOICES = {  # of a list: what is said of it, of its default, and what stands between two
    "en": (" Choices: {}.", " (default)", ", "),
    "ja": ("選択肢：{}。", "（既定）", "、"),
    "zh": ("选项：{}。", "（默认）", "、"),
    "zh-TW": ("選項：{}。", "（預設）", "、"),
}


HEADS = "|".join(re.escape(phrases[0]) for phrases in PHRASES.values())
TABLE = re.compile(rf"^\| (?:{HEADS}) \|\n\|---\|---\|\n(?:\|.*\n)*", re.MULTILINE)


def help_table(block: Any, language: str = "en") -> str:
    """The table of a help page: a row for each input. Two columns, because ComfyUI shows it in a narrow panel."""
    names = {each.name for each in block.inputs()}
    rows = []
    for each in block.inputs():
        name, text = each.name, in_markdown(each.tooltip, names)
        if language != "en":
            name, text = (translated(language)[block.ID]["inputs"][each.name][part] for part in ("name", "tooltip"))
        rows.append(f"| `{name}` | {text}{values(each, each in block.REQUIRED, language)} |\n")
    return "".join([f"| {PHRASES[language][0]} |\n", "|---|---|\n", *rows])


def values(each: Any, required: bool, language: str = "en") -> str:
    """A sentence on what an input is at first, and what else it may be."""
    _, optional, usually, ranged, on, off = PHRASES[language]
    if not each.options and each.choices is None:
        return "" if required or "Not connected" in each.tooltip else optional
    default = each.options.get("default")
    if each.type == "BOOLEAN":
        return usually.format(on if default else off)
    if each.choices is not None:
        if each.name in FILES:
            return usually.format(f"*{default}*") if default else ""
        choices, usual, between = CHOICES[language]
        listed = [f"*{escaped(choice)}*{usual * (choice == default)}" for choice in each.choices]
        return choices.format(between.join(listed))
    if each.type == "STRING":
        return usually.format(f"`{default}`") if default else ""
    low, high = each.options["min"], each.options["max"]
    return "" if high > MOST_WRITTEN else ranged.format(plain(default), plain(low), plain(high))


def translated(language: str) -> dict[str, Any]:
    """The texts of all blocks in a language."""
    return json.loads((LOCALES / language / "nodeDefs.json").read_text("utf-8"))


def plain(number: float) -> str:
    """A number as people write it."""
    return str(number) if isinstance(number, int) else f"{number:.5g}".replace("e-0", "e-")


def in_markdown(text: str, names: set[str]) -> str:
    """A tooltip as Markdown: blocks and choices in italics, inputs as code."""
    text = QUOTED.sub(lambda found: f"`{found[1]}`" if found[1] in names else f"*{found[1]}*", escaped(text))
    compound = "|".join(sorted((name for name in names if "_" in name), key=len, reverse=True))
    return re.sub(rf"(?<![`\w/])({compound})(?![`\w])", r"`\1`", text) if compound else text


def escaped(text: str) -> str:
    """Words that hold signs of Markdown's tables and emphasis."""
    return text.replace("*", r"\*").replace("|", r"\|")


def page(block: Any, text: str, language: str = "en") -> str:
    """A help page with its table as it should be; ValueError where it has none."""
    if len(TABLE.findall(text)) != 1:
        raise ValueError(f"the help page of {block.ID} needs one table of inputs")
    return TABLE.sub(lambda _: help_table(block, language), text)


def pages_of(id_: str) -> Iterator[tuple[Path, str]]:
    """The help pages of a block and their languages; ComfyUI shows the English one where there is no other."""
    yield PAGES / f"{id_}.md", "en"
    for path in sorted((PAGES / id_).glob("*.md")):
        yield path, path.stem


def english(blocks: dict[str, Any]) -> dict[str, Any]:
    """The texts of all blocks in the form of ComfyUI's locales."""
    return {
        id_: {
            "display_name": block.NAME,
            "description": block.DESCRIPTION,
            "inputs": {each.name: {"name": each.name, "tooltip": each.tooltip} for each in block.inputs()},
            "outputs": {
                str(place): {"name": output.name, "tooltip": output.tooltip}
                if output.name
                else {"tooltip": output.tooltip}
                for place, output in enumerate(block.OUTPUTS)
            },
        }
        for id_, block in sorted(blocks.items())
    }


def completed(prompt: dict[str, Any], blocks: dict[str, Any]) -> dict[str, Any]:
    """An API prompt in which every widget of a block has a value; those it lacks have their defaults."""
    nodes = {}
    for node_id, node in prompt.items():
        widgets = [each for each in getattr(blocks.get(node["class_type"]), "inputs", list)() if is_widget(each)]
        new = {each.name: default_of(each) for each in widgets if each.name not in node["inputs"]}
        nodes[node_id] = {**node, "inputs": {**node["inputs"], **new}}
    return nodes


def is_widget(each: Any) -> bool:
    return bool(each.options) or each.choices is not None


def default_of(each: Any) -> Any:
    if "default" in each.options:
        return each.options["default"]
    return (each.choices() if callable(each.choices) else each.choices)[0]


def untranslated(english: dict[str, Any], other: dict[str, Any], path: str = "") -> Iterator[str]:
    """Where another language has no text for an English one."""
    for key, text in english.items():
        if key not in other:
            yield path + key
        elif isinstance(text, dict):
            yield from untranslated(text, other[key], f"{path}{key}.")


def fingerprints(english: dict[str, Any], path: str = "") -> dict[str, str]:
    """A short hash of each English text, by the keys that lead to it; name and tooltip of an input share one."""
    found = {}
    for key, entry in english.items():
        if isinstance(entry, dict) and "tooltip" not in entry:
            found |= fingerprints(entry, f"{path}{key}.")
        else:
            found[path + key] = hashlib.sha256(json.dumps(entry).encode()).hexdigest()[:8]
    return found


def changed(english: dict[str, Any], translated: dict[str, str]) -> list[str]:
    """Which English texts are not those of the fingerprints that the translations were made from."""
    now = fingerprints(english)
    return sorted(path for path in now | translated if now.get(path) != translated.get(path))


def known(table: dict[str, Any], words: dict[str, Any]) -> dict[str, Any]:
    """The table of what the small models know, with the words of their recipe."""
    return {name: {**entry, "vocabulary": words} if "vocabulary" in entry else entry for name, entry in table.items()}


def as_json(value: Any, indent: int = 2) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--translated", action="store_true", help="all translations are of the English texts as they are"
    )
    given = parser.parse_args()
    spec = importlib.util.spec_from_file_location(
        "pyramid_video", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    sys.modules["pyramid_video"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["pyramid_video"])
    blocks = sys.modules["pyramid_video"].NODE_CLASS_MAPPINGS
    for id_, block in blocks.items():
        for path, language in pages_of(id_):
            path.write_text(page(block, path.read_text("utf-8"), language), "utf-8")
    (ENGLISH / "nodeDefs.json").write_text(as_json(english(blocks)), "utf-8")
    for path in PROMPTS.glob("*.json"):
        prompt = json.loads(path.read_text("utf-8"))
        if completed(prompt, blocks) != prompt:
            path.write_text(as_json(completed(prompt, blocks)), "utf-8")
    for path in sorted(LOCALES.glob("*/nodeDefs.json")):
        for place in untranslated(english(blocks), json.loads(path.read_text("utf-8"))):
            print(f"{path.relative_to(ROOT)} lacks {place}")
    if given.translated:
        TRANSLATED.write_text(as_json(fingerprints(english(blocks))), "utf-8")
    for place in changed(english(blocks), json.loads(TRANSLATED.read_text("utf-8"))):
        print(f"{place} has changed in English: change its translations, then run .ci/texts.py --translated")
    from pyramid_video.recipes.emoji.vocabulary import vocabulary

    KNOWS.write_text(as_json(known(json.loads(KNOWS.read_text("utf-8")), vocabulary()), 1), "utf-8")


if __name__ == "__main__":
    main()
