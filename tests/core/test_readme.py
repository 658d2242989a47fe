"""What the README and the documentation quote and name is there."""

from __future__ import annotations

import re
from pathlib import Path

import pyramid_video
import pytest
from conftest import ROOT

DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [*DOCS, *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"))]


def anchors(page: Path) -> set[str]:
    """The names that links to the headings of a page have."""
    titles = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), flags=re.M)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_client_in_the_docs_is_the_file():
    quoted, _sdk = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "server.md").read_text("utf-8"), flags=re.S)
    assert quoted == (ROOT / "workflows" / "api" / "client.py").read_text("utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name} links to {link}, which is not there"
        assert not anchor or anchor in anchors(target), f"{page.name} links to {link}, which has no such heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_pages_name_are_there(page):
    parts = "nodes|samplers|training|models|host|runner|tests|benchmarks|web|locales"
    for name in re.findall(rf"[` ]((?:{parts})/[\w./-]+\.(?:py|md|png|webp))", page.read_text("utf-8")):
        assert (ROOT / name).exists(), f"{page.name} names {name}, which is not there"


def test_the_readme_is_a_front_door():
    text = (ROOT / "README.md").read_text("utf-8")
    assert len(text.splitlines()) <= 150
    shown = set(re.findall(r"`(\w+)`", text.split("## Workflows", 1)[1].split("\n## ", 1)[0]))
    assert {path.stem for path in (ROOT / "workflows").glob("*.json")} <= shown


def test_the_index_lists_every_page():
    index = (ROOT / "docs" / "README.md").read_text("utf-8")
    assert [page.name for page in DOCS if page.name != "README.md" and f"({page.name})" not in index] == []


def test_the_version_is_the_same_for_the_registry_for_pip_and_in_the_package():
    (version,) = re.findall(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text("utf-8"), flags=re.M)
    assert version == pyramid_video.__version__
