"""The help pages: each shows a picture that is there, small enough to open at once, and comes with the package."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image
from pyramid_video.nodes import NODE_CLASS_MAPPINGS

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "web" / "docs"
LANGUAGES = sorted(folder.name for folder in (ROOT / "locales").iterdir() if folder.name != "en")
TRANSLATED = sorted(path.name for path in DOCS.iterdir() if path.is_dir())
PICTURES = sorted(DOCS.glob("*.webp"))
CORE = {  # how ComfyUI calls its own blocks in these languages
    "ja": {"動画を作成", "VAEデコード", "VAEエンコード", "画像を読み込む", "VAEを読み込む", "ビデオを保存"},
    "zh": {"创建视频", "VAE解码", "VAE编码", "加载图像", "加载VAE", "保存视频"},
    "zh-TW": {"建立影片", "VAE 解碼", "VAE 編碼", "載入圖片", "載入 VAE", "儲存影片"},
}
LARGEST, ALL = 60_000, 1_500_000  # bytes
SHOWN = re.compile(r"!\[([^\]]+)\]\(([^)]+)\)")


def shown_on(node_id: str) -> list[tuple[str, str]]:
    """What the pictures of a page show, and their files."""
    return SHOWN.findall((DOCS / f"{node_id}.md").read_text("utf-8"))


@pytest.mark.parametrize("node_id", sorted(NODE_CLASS_MAPPINGS))
def test_every_page_shows_a_picture_that_is_there(node_id):
    pictures = shown_on(node_id)
    assert pictures and all((DOCS / file).is_file() for _, file in pictures)


def test_pages_and_pictures_are_of_the_blocks_and_nothing_else_lies_there():
    shown = {file for node_id in NODE_CLASS_MAPPINGS for _, file in shown_on(node_id)}
    files = {path.name for path in DOCS.iterdir() if path.is_file()}
    assert files == {f"{node_id}.md" for node_id in NODE_CLASS_MAPPINGS} | shown
    assert set(TRANSLATED) <= set(NODE_CLASS_MAPPINGS)


def test_the_blocks_of_the_first_workflow_are_explained_in_every_language():
    graph = json.loads((ROOT / "workflows" / "api" / "text_to_video.json").read_text("utf-8"))
    assert {node["class_type"] for node in graph.values()} & set(NODE_CLASS_MAPPINGS) <= set(TRANSLATED)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("node_id", TRANSLATED)
def test_a_translated_page_is_that_of_its_block(node_id, language):
    """It begins with the name that the reader sees, shows the same pictures and says the same numbers and names."""
    assert sorted(path.stem for path in (DOCS / node_id).iterdir()) == LANGUAGES
    names = json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text("utf-8"))
    page = (DOCS / node_id / f"{language}.md").read_text("utf-8")
    english = (DOCS / f"{node_id}.md").read_text("utf-8")
    assert page.startswith(f"# {names[node_id]['display_name']}\n")
    assert [file for _, file in SHOWN.findall(page)] == [file for _, file in SHOWN.findall(english)]
    assert page.count("\n\n") == english.count("\n\n"), "as many paragraphs"
    inputs = {each.name for each in NODE_CLASS_MAPPINGS[node_id].inputs()} | {"seconds", "frames"}
    assert code_of(english) - code_of(page) <= inputs, "inputs have other names in other languages, files have not"
    assert numbers(english) <= numbers(page)
    shown = {words["display_name"] for words in names.values()} | CORE[language]
    assert set(re.findall(r"「([^」]+)」", page.partition("|---|---|")[0] + page.rpartition("|\n")[2])) <= shown


def code_of(page: str) -> set[str]:
    return set(re.findall(r"`([^`\n]+)`", page))


def numbers(page: str) -> set[str]:
    """Sizes, lengths and other numbers of two digits and more, once their billions are left out."""
    return set(re.findall(r"\d+\.\d+|\d\d+", re.sub(r"\d+ billion", "", page)))


def test_pictures_are_small_and_can_be_opened():
    sizes = [path.stat().st_size for path in PICTURES]
    assert max(sizes) <= LARGEST and sum(sizes) <= ALL
    for path in PICTURES:
        with Image.open(path) as picture:
            picture.load()
            assert picture.format == "WEBP" and min(picture.size) >= 100


def test_the_package_ships_what_the_pages_show():
    shipped = re.search(r'^"pyramid_video" = (\[.*\])$', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)[1]
    patterns = {f'"web/docs/*{path.suffix}"' for path in DOCS.iterdir() if path.is_file()} | {'"web/docs/*/*.md"'}
    assert patterns == set(re.findall(r'"[^"]+"', shipped))
