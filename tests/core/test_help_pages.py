"""The help pages: each shows a picture that is there, small enough to open at once, and comes with the package."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image
from pyramid_video.nodes import NODE_CLASS_MAPPINGS

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "web" / "docs"
PICTURES = sorted(DOCS.glob("*.webp"))
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
    assert {path.name for path in DOCS.iterdir()} == {f"{node_id}.md" for node_id in NODE_CLASS_MAPPINGS} | shown


def test_pictures_are_small_and_can_be_opened():
    sizes = [path.stat().st_size for path in PICTURES]
    assert max(sizes) <= LARGEST and sum(sizes) <= ALL
    for path in PICTURES:
        with Image.open(path) as picture:
            picture.load()
            assert picture.format == "WEBP" and min(picture.size) >= 100


def test_the_package_ships_what_the_pages_show():
    shipped = re.search(r'^"pyramid_video" = (\[.*\])$', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)[1]
    assert {f'"web/docs/*{path.suffix}"' for path in DOCS.iterdir()} == set(re.findall(r'"[^"]+"', shipped))
