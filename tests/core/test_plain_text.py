"""Words of strangers: what reaches a page, a log or a terminal is read by none of them as anything but words."""

from __future__ import annotations

import logging
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyramid_video.host import use_host
from pyramid_video.host.folders import ModelFolders, list_files
from pyramid_video.host.standalone.host import StandaloneHost
from pyramid_video.models.plain_text import harmless, make_harmless, may_be_listed
from pyramid_video.nodes.block import guarded
from pyramid_video.nodes.messages import show_message
from pyramid_video.nodes.widget_validation import validation_result

SCRIPT = '<img src=x onerror="alert(1)">'
ESCAPE = "\x1b]0;title\x07\x1b[2J\x9b31m"
EVIL = f"a caption {SCRIPT} {ESCAPE} [[here|https://evil.example]] \u202eevil\ud800"


class Tags(HTMLParser):
    """Counts what a page would make of a text besides text."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.found.append(tag)

    handle_startendtag = handle_starttag
    handle_comment = handle_decl = handle_pi = unknown_decl = lambda self, words: self.found.append(words)


def is_only_words(text: str) -> bool:
    page = Tags()
    page.feed(text)
    page.close()
    text.encode("utf-8")
    return not page.found and "[[" not in text and all(letter.isprintable() or letter == "\n" for letter in text)


@given(st.text(st.characters(codec=None, categories=["Cc", "Cs", "Zl", "Zp", "Po", "Ps", "Pe", "Sm", "Ll", "Lo"])))
def test_no_text_holds_markup_or_control_characters(text):
    made = harmless(text)
    assert is_only_words(made) and harmless(made) == made
    assert len(made.split("\n")) == len(text.split("\n"))


@pytest.mark.parametrize(
    "text", ["a red tiger, 1 < 2 <= 3 > 2", "Кот & пёс", "猫が歩く\n二行目", "👨‍👩‍👧 100% “quoted” [one]", "سلام"]
)
def test_honest_words_stay_as_they_are(text):
    assert harmless(text) == text


def test_what_a_node_says_is_harmless_in_the_answer_and_in_the_log(tmp_path, caplog):
    use_host(StandaloneHost(output=tmp_path, silent=True))
    try:
        with caplog.at_level(logging.INFO):
            (said,) = show_message("2 clips:", EVIL)["text"]
    finally:
        use_host(None)
    assert is_only_words(said) and "a caption" in said
    assert is_only_words(caplog.text.rstrip("\n"))


class Fails:
    def run(self, error: Exception):
        try:
            raise KeyError(EVIL)
        except KeyError:
            raise error from ValueError(f"led to it: {EVIL}")


@pytest.mark.parametrize("error", [ValueError(f"no {EVIL}"), RuntimeError("a", EVIL), OSError(2, "no file", EVIL)])
def test_errors_of_a_block_and_what_led_to_them_are_harmless(error):
    with pytest.raises(type(error)) as caught:
        guarded(Fails.run, ())(Fails(), error=error)
    link = caught.value
    while link is not None:
        assert is_only_words(str(link)) and "caption" in str(link)
        link = link.__cause__ or link.__context__


def test_a_circle_of_errors_ends():
    error = ValueError(EVIL)
    other = ValueError(EVIL)
    error.__context__, other.__context__ = other, error
    make_harmless(error)
    assert is_only_words(f"{error}{other}")


def test_refusals_before_the_run_are_harmless():
    def check(name: str) -> None:
        raise ValueError(f"there is no {name}")

    assert is_only_words(validation_result(check, EVIL))


def test_menus_offer_no_file_whose_name_is_markup(tmp_path):
    names = [
        "good (1).safetensors",
        "späť & co.safetensors",
        f"x{SCRIPT.replace('/', '')}.safetensors",
        "y\x1b[2J.safetensors",
    ]
    for name in names:
        (tmp_path / name).touch()
    assert ModelFolders({"vae": [tmp_path]}).list("vae") == sorted(names[:2]) == list_files([tmp_path])
    assert [may_be_listed(name) for name in names] == [True, True, False, False]
