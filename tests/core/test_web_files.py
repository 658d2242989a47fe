"""What our scripts in the page say of blocks, widgets and workflows is true of them; the ladder that they show."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from PIL import Image
from pyramid_video.nodes import NODE_CLASS_MAPPINGS
from pyramid_video.nodes.stages_picture import stages_png

ROOT = Path(__file__).resolve().parents[2]
WEB = {path.name: path.read_text("utf-8") for path in (ROOT / "web").glob("*.js")}


def titles() -> dict[str, str]:
    """Title of each workflow in the template browser."""
    return dict(re.findall(r"^  (\w+): '([^']+)'", WEB["templates.js"], re.MULTILINE))


def test_every_workflow_has_its_place_its_title_and_its_picture_and_the_first_runs_at_once():
    names = [path.stem for path in (ROOT / "workflows").glob("*.json")]
    assert sorted(titles()) == sorted(names) and next(iter(titles())) == "text_to_video"
    assert len(set(titles().values())) == len(names) and not set(names) & set(titles().values())
    for name in names:
        with Image.open(ROOT / "workflows" / f"{name}.webp") as moving:
            assert moving.format == "WEBP" and (moving.is_animated or "download" in titles()[name])
            assert Image.open(ROOT / "workflows" / f"{name}.jpg").size == moving.size
    ready = ["download" not in title for title in titles().values()]
    assert ready == sorted(ready, reverse=True), "what needs weights comes last"


@pytest.mark.parametrize("language", ["zh", "zh-TW", "ja"])
def test_every_title_of_a_template_is_translated_once(language):
    words = json.loads((ROOT / "web" / "words" / f"{language}.json").read_text("utf-8"))["templates"]
    assert list(words) == list(titles().values()) and len(set(words.values())) == len(words)
    assert not any(re.search(r'[/\\:*?"<>|]', title) for title in [*words, *words.values()]), "they become file names"


def test_inactive_widgets_are_those_of_their_blocks():
    table = WEB["inactive.js"].split("READ = {")[1].split("\n}\n")[0]
    for block, widgets in re.findall(r"(PyramidVideo\w+): \{(.*?)\}", table, re.DOTALL):
        schema = NODE_CLASS_MAPPINGS[block].INPUT_TYPES()
        named = set(re.findall(r"(\w+): (?:values|linear|zeroStar)", widgets)) | set(
            re.findall(r"values\.(\w+)", widgets)
        )
        assert named and named <= {*schema["required"], *schema.get("optional", {})}


def test_words_for_the_search_are_aliases_of_their_blocks():
    table = WEB["search.js"].split("WORDS = {")[1].split("\n}\n")[0]
    for block, words in re.findall(r"(\w+): '([^']+)'", table):
        assert set(words.split(", ")) <= set(NODE_CLASS_MAPPINGS[block].SEARCH_ALIASES), block


def schema_of(node: dict) -> set[str]:
    """Names of the inputs of a node of ours; of core's, any."""
    block = NODE_CLASS_MAPPINGS.get(node["type"])
    spec = block.INPUT_TYPES() if block else {}
    return {*spec.get("required", {}), *spec.get("optional", {})}


def test_apps_show_widgets_and_results_that_are_there():
    apps = 0
    for path in (ROOT / "workflows").glob("*.json"):
        graph = json.loads(path.read_text("utf-8"))
        app = graph["extra"].get("linearData", {"inputs": [], "outputs": []})
        nodes = {node["id"]: node for node in graph["nodes"]}
        for node, widget in app["inputs"]:
            assert not schema_of(nodes[node]) or widget in schema_of(nodes[node]), (path.name, node, widget)
        assert all(nodes[node]["type"].startswith("Save") for node in app["outputs"])
        apps += bool(app["outputs"])
    assert apps >= 2


@pytest.mark.parametrize("path", sorted((ROOT / "subgraphs").glob("*.json")), ids=lambda path: path.stem)
def test_blueprints_hold_the_blocks_of_their_workflow_with_its_values(path):
    blueprint = json.loads(path.read_text("utf-8"))
    (inside,) = blueprint["definitions"]["subgraphs"]
    stem = re.sub(r" \(.*", "", path.stem).lower().replace(" ", "_")
    workflow = json.loads((ROOT / "workflows" / f"{stem}.json").read_text("utf-8"))
    blocks = {node["id"]: node for node in workflow["nodes"]}
    for node in inside["nodes"]:
        assert node["type"] == blocks[node["id"]]["type"]
        assert node["widgets_values"] == blocks[node["id"]]["widgets_values"]
    assert blueprint["nodes"][0]["type"] == inside["id"] and inside["name"] == path.stem


def names_in(text: str) -> list[str]:
    """What no translation may change: addresses, commands, files, and sizes of pictures."""
    codes = [code for code in re.findall(r"`([^`]*)`", text) if re.search("[/. ]", code)]
    return sorted(codes + re.findall(r"\d+x\d+", text))


@pytest.mark.parametrize("language", ["zh", "zh-TW", "ja"])
def test_every_title_and_every_paragraph_of_a_note_is_translated(language):
    titles, paragraphs = set(), set()
    for path in (ROOT / "workflows").glob("*.json"):
        graph = json.loads(path.read_text("utf-8"))
        notes = [node for node in graph["nodes"] if node["type"] == "MarkdownNote"]
        titles |= {re.sub(r"^\d  ", "", group["title"]) for group in graph["groups"]}
        titles |= {note["title"] for note in notes}
        paragraphs |= {line for note in notes for line in note["widgets_values"][0].split("\n") if line.strip()}
    commands = {line for line in paragraphs if re.fullmatch(r"`[^`]*`", line)}
    words = json.loads((ROOT / "web" / "words" / f"{language}.json").read_text("utf-8"))
    assert titles == set(words["titles"]), "a title of a workflow has to reach web/words"
    assert paragraphs - commands == set(words["notes"]), "a paragraph of a note has to reach web/words"
    for text, translation in words["notes"].items():
        assert names_in(text) == names_in(translation)
        assert re.search(r"[\u3040-\u9fff]", translation) or text.count(" ") <= 3, text


def test_no_script_writes_markup():
    for name, text in WEB.items():
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text), name


def test_the_ladder_is_drawn_from_widgets_alone():
    plan = [{"first_steps": 4, "video_steps": 2, "stage_count": 2}, {"stage": 1, "first_steps": 9, "video_steps": 9}]
    pictures = [Image.open(io.BytesIO(stages_png(json.dumps(part)))) for part in (plan[:1], plan)]
    assert pictures[0].size == pictures[1].size == (768, 512)
    assert pictures[0].tobytes() != pictures[1].tobytes()


@pytest.mark.parametrize(
    "plan",
    [
        "",
        "{}",
        "[]",
        "[3]",
        "[null]",
        "[" * 9000,
        '[{"first_steps": 1e9, "video_steps": 1}]',
        '[{"first_steps": [1, 1, 1], "video_steps": 1}]',
        '[{"first_steps": 1, "video_steps": {"1": 1}}]',
        '[{"first_steps": 1, "video_steps": 1}, {"stage": 0, "first_steps": [1], "video_steps": 1}]',
        '[{"first_steps": 1, "video_steps": 1}, {"stage": 0, "first_steps": 1, "video_steps": 1, "stages": [1]}]',
        '[{"evil": 1}]',
    ],
)
def test_a_plan_that_no_blocks_could_have_is_refused(plan):
    with pytest.raises((ValueError, RecursionError)) as refused:
        stages_png(plan)
    assert "pyramid_video" not in str(refused.value), "a stranger does not learn where the pack lies"


def test_steps_of_a_stage_that_is_not_there_are_refused():
    blocks = [{"first_steps": 1, "video_steps": 1}, {"stage": 5, "first_steps": 1, "video_steps": 1}]
    with pytest.raises(ValueError, match="no stage 5"):
        stages_png(json.dumps(blocks))
