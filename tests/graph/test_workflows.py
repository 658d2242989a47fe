"""The workflow files: sound as graphs, tidy as pictures, and the same in both formats."""

from __future__ import annotations

import importlib
import json
import re
import sys
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import pytest
from pyramid_video.host import use_host
from pyramid_video.host.folders import ModelFolders
from pyramid_video.nodes.guidance import Guidance
from pyramid_video.nodes.schedules import Stages
from pyramid_video.runner.registry import node_classes
from pyramid_video.runner.registry import node_specs as known_specs
from pyramid_video.runner.specs import NodeSpec, spec_of_info
from pyramid_video.runner.workflow import from_json
from pyramid_video.samplers.presets import PRESETS

FOLDER = Path(__file__).resolve().parents[2] / "workflows"
STEMS = sorted(file.stem for file in FOLDER.glob("*.json"))
NOTES = ("Note", "MarkdownNote")  # the editor's own, they never run
CORE = (
    "CLIPLoader",
    "CreateVideo",
    "GetVideoComponents",
    "ImageScale",
    "LoadImage",
    "LoadVideo",
    "LoraLoaderModelOnly",
    "LoraModelLoader",
    "SaveImage",
    "SaveVideo",
    "VAEEncode",
    "VAELoader",
)
TRAINS_A_HOSTS_MODEL = "wan_train_lora"
HOSTS_OWN = (  # graphs of core models, whose blocks only ComfyUI has; core_specs.json describes them as its server does
    "hunyuan15_text_to_video",
    "ltx2_text_to_video",
    "minimax_h3_text_to_video",
    "wan22_image_to_video",
    "wan22_text_to_video",
    TRAINS_A_HOSTS_MODEL,
)
HELIOS = ("helios_image_to_video", "helios_text_to_video", "helios_video_to_video")
TITLE_HEIGHT = 30  # the editor draws the title above a node's position
every_workflow = pytest.mark.parametrize("stem", STEMS)


@pytest.fixture(autouse=True)
def forget_host():
    yield
    use_host(None)


def read(path: Path):
    return json.loads(path.read_text("utf-8"))


def ui_of(stem: str):
    return read(FOLDER / f"{stem}.json")


def api_of(stem: str):
    return read(FOLDER / "api" / f"{stem}.json")


def runs(node) -> bool:
    return node["type"] not in NOTES


# By how much blocks grow in Nodes 2.0 when they have run: sentences, a preview, a picture.
SENTENCE, PICTURE = 44, 232
GROWTH = {
    **dict.fromkeys(("EmptyLatent", "History", "HeliosMemory", "SaveTrained", "SaveTrainedLoRA"), SENTENCE),
    **dict.fromkeys(("Sampler", "AnySampler", "Draft", "FinishDraft", "AnyStages"), SENTENCE + PICTURE),
    "FinishClip": 309,
    "FlowSampler": 421,
    "DDIMSampler": 421,
    "AnimationDataset": 108,
    "FolderDataset": 222,
    **dict.fromkeys(
        (f"Train{what}" for what in ("Pyramid", "Flow", "Diffusion", "GAN", "LoRA", "ModelLoRA", "VAE")), 572
    ),
}
GROWTH = {f"PyramidVideo{name}": pixels for name, pixels in GROWTH.items()} | {"SaveVideo": PICTURE}


def box(node) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of a node with its title, and of what it shows when it has run."""
    (x, y), (width, height) = node["pos"], node["size"]
    return x, y - TITLE_HEIGHT, x + width, y + height + GROWTH.get(node["type"], 0)


def node_specs() -> dict[str, NodeSpec]:
    """The blocks that the runner knows, and the core ones that only ComfyUI has."""
    core = read(Path(__file__).parent / "core_specs.json")
    return {kind: spec_of_info(kind, info, is_closed=True) for kind, info in core.items()} | known_specs()


def test_the_workflows_are_there_in_both_formats():
    hunyuan, ltx, minimax, *wan = HOSTS_OWN
    assert STEMS == [
        "any_model_small",
        "compare_families",
        "draft_then_finish",
        "extend_clip",
        "finish_a_clip",
        *HELIOS,
        hunyuan,
        "image_to_video",
        "look_inside",
        ltx,
        minimax,
        "official_miniflux",
        "official_sd3",
        "text_to_video",
        "text_to_video_ddim",
        "text_to_video_flow",
        "text_to_video_gan",
        "train_diffusion",
        "train_flow",
        "train_gan",
        "train_lora",
        "train_pyramid",
        "train_vae",
        "use_lora",
        *wan,
    ]
    assert sorted(file.stem for file in (FOLDER / "api").glob("*.json")) == STEMS


@every_workflow
def test_ui_format_converts_to_its_api_twin(stem):
    assert from_json(ui_of(stem), node_specs(), stem).prompt == api_of(stem)


@every_workflow
def test_only_our_blocks_and_few_core_ones(stem):
    for node in filter(runs, ui_of(stem)["nodes"]):
        if stem in HOSTS_OWN:
            assert node["type"] in node_specs()
            continue
        assert node["type"] in node_classes()
        assert node["type"] in CORE or node["type"].startswith("PyramidVideo")


@every_workflow
def test_sockets_and_values_are_those_of_the_blocks(stem):
    specs = node_specs()
    for node in filter(runs, ui_of(stem)["nodes"]):
        spec = specs[node["type"]]
        assert [output["type"] for output in node["outputs"]] == list(spec.outputs)
        for entry in node["inputs"]:
            assert spec.inputs[entry["name"]].type == entry["type"], (node["type"], entry["name"])
        given = api_of(stem)[str(node["id"])]["inputs"]
        assert set(given) <= set(spec.inputs)
        assert {name for name, known in spec.inputs.items() if known.required or known.is_widget} <= set(given)
        for name, value in given.items():
            known = spec.inputs[name]
            if known.type in ("INT", "FLOAT") and not isinstance(value, list):
                low, high = known.options.get("min", value), known.options.get("max", value)
                assert low <= value <= high, (node["type"], name)


@every_workflow
def test_links_say_the_same_at_both_ends(stem):
    ui = ui_of(stem)
    nodes = {node["id"]: node for node in ui["nodes"]}
    links = {link[0]: link for link in ui["links"]}
    assert len(nodes) == len(ui["nodes"]) and len(links) == len(ui["links"])
    assert ui["last_node_id"] == max(nodes) and ui["last_link_id"] == max(links)
    for link_id, origin, origin_slot, target, target_slot, kind in links.values():
        output, entry = nodes[origin]["outputs"][origin_slot], nodes[target]["inputs"][target_slot]
        assert link_id in output["links"] and entry["link"] == link_id
        assert output["type"] == entry["type"] == kind
        assert nodes[origin]["order"] < nodes[target]["order"]
    ends = [entry["link"] for node in ui["nodes"] for entry in node["inputs"] if entry["link"] is not None]
    starts = [link for node in ui["nodes"] for output in node["outputs"] for link in output["links"] or []]
    assert sorted(ends) == sorted(starts) == sorted(links)


@every_workflow
def test_wires_run_from_left_to_right(stem):
    ui = ui_of(stem)
    left = {node["id"]: node["pos"][0] for node in ui["nodes"]}
    assert all(left[origin] <= left[target] for _, origin, _, target, _, _ in ui["links"])


@every_workflow
def test_nothing_overlaps(stem):
    nodes = ui_of(stem)["nodes"]
    for one, other in combinations(nodes, 2):
        (left, top, right, bottom), (left2, top2, right2, bottom2) = box(one), box(other)
        apart = right <= left2 or right2 <= left or bottom <= top2 or bottom2 <= top
        assert apart, (one["type"], other["type"])


@every_workflow
def test_no_group_overlaps_another(stem):
    for one, other in combinations(ui_of(stem)["groups"], 2):
        (x, y, width, height), (x2, y2, width2, height2) = one["bounding"], other["bounding"]
        apart = x + width <= x2 or x2 + width2 <= x or y + height <= y2 or y2 + height2 <= y
        assert apart, (one["title"], other["title"])


@every_workflow
def test_every_node_that_runs_lies_in_one_titled_group(stem):
    ui = ui_of(stem)
    assert all(group["title"] for group in ui["groups"])
    for node in ui["nodes"]:
        left, top, right, bottom = box(node)
        around, touching = 0, 0
        for x, y, width, height in (group["bounding"] for group in ui["groups"]):
            around += x <= left and y <= top and right <= x + width and bottom <= y + height
            touching += left < x + width and x < right and top < y + height and y < bottom
        assert around == touching == (1 if runs(node) else 0), node["type"]


@every_workflow
def test_all_of_it_is_in_view_and_large_enough_to_be_read(stem):
    """On a full HD screen, between the bars of the page and of the browser; below 0.6 the page draws no words."""
    ui = ui_of(stem)
    scale, (left, top) = ui["extra"]["ds"]["scale"], ui["extra"]["ds"]["offset"]
    boxes = [box(node) for node in ui["nodes"]]
    boxes += [(x, y, x + width, y + height) for x, y, width, height in (group["bounding"] for group in ui["groups"])]
    for x, y, right, bottom in boxes:
        assert (x + left) * scale >= 70 and (y + top) * scale >= 95
        assert (right + left) * scale <= 1880 and (bottom + top) * scale <= 980
    assert scale >= 0.6


def test_the_example_with_comfys_sdk_names_what_is_there():
    page, graph = (FOLDER.parent / "docs" / "server.md").read_text("utf-8"), api_of("text_to_video")
    given = re.findall(r'set_input\("(\w+)", "(\w+)"', page)
    assert given and all(name in graph[node]["inputs"] for node, name in given)
    (last,) = re.findall(r'get_outputs\("(\w+)"\)', page)
    assert graph[last]["class_type"] == "SaveVideo"


@every_workflow
def test_a_note_explains_the_graph(stem):
    notes = [node for node in ui_of(stem)["nodes"] if not runs(node)]
    assert notes and all("## " in note["widgets_values"][0] for note in notes)


@pytest.mark.parametrize("stem", ["official_miniflux", "official_sd3"])
def test_official_workflows_keep_the_official_settings(stem):
    inputs = {}
    for node in api_of(stem).values():
        inputs.setdefault(node["class_type"], []).append(node["inputs"])
    latent, stages, guidance = (inputs[f"PyramidVideo{name}"][0] for name in ("EmptyLatent", "Stages", "Guidance"))
    assert (latent["width"], latent["height"], latent["seconds"], latent["fps"]) == (1280, 768, 5.0, 24.0)
    assert (stages["first_steps"], stages["video_steps"], stages["stage_count"]) == (20, 10, 3)
    assert (guidance["first_frame_scale"], guidance["video_scale"], guidance["linear"]) == (7.0, 5.0, False)
    # The official code appends its quality words to the prompt and not to the negative prompt.
    assert [prompt["add_quality_words"] for prompt in inputs["PyramidVideoEncodePrompt"]] == [True, False]


@pytest.mark.parametrize("stem", HELIOS)
def test_helios_workflows_are_those_of_pyramid_flow_with_other_numbers(stem):
    """The same blocks between loaders and file; a memory of its own where something comes before the clip."""
    ours, plain = api_of(stem), api_of("text_to_video")
    kinds = [{node["class_type"] for node in graph.values()} for graph in (ours, plain)]
    assert kinds[1] - kinds[0] == {"PyramidVideoLoadVAE", "PyramidVideoLoadTextEncoder"}  # the host's own loaders serve
    assert all(kind.startswith(("PyramidVideoHelios", "Load", "Get", "VAE", "CLIP")) for kind in kinds[0] - kinds[1])
    inputs = {node["class_type"]: node["inputs"] for node in ours.values()}
    stages = Stages().build(**inputs["PyramidVideoStages"])[0]
    (guidance,) = Guidance().build(**inputs["PyramidVideoGuidance"])
    assert (stages, guidance) == (PRESETS["distilled"].stages, PRESETS["distilled"].guidance)
    assert inputs["PyramidVideoEmptyLatent"]["frames"] % 33 == 0


@pytest.mark.parametrize("stem", HELIOS)
def test_missing_models_are_told_by_name_folder_and_address(stem):
    folders = {}
    for node in ui_of(stem)["nodes"]:
        for model in node["properties"].get("models", ()):
            assert model["name"] in node["widgets_values"] and model["url"].endswith("/" + model["name"])
            assert model["url"].startswith("https://huggingface.co/")
            folders[node["type"]] = model["directory"]
    assert folders == {"VAELoader": "vae", "CLIPLoader": "text_encoders"}


WEIGHTS = {"official_miniflux": 5, "official_sd3": 6} | dict.fromkeys(HELIOS, 1)


@pytest.mark.parametrize("stem", WEIGHTS)
def test_the_list_of_missing_models_has_all_weights_of_pyramid_flow_and_stands_for_the_shards_of_helios(stem):
    """The frontend knows files only. Nobody here knows how many files Helios has: its config stands for them."""
    wanted = ui_of(stem)["models"]
    assert len(wanted) == WEIGHTS[stem]
    folders = {str(value) for node in ui_of(stem)["nodes"] for value in node.get("widgets_values", ())}
    for model in wanted:
        top, _, rest = model["name"].partition("/")
        repository = model["url"].removesuffix(f"/{top}/resolve/main/{rest}")
        assert model["url"].endswith(rest) and repository.startswith("https://huggingface.co/")
        assert model["directory"] == "pyramid_video"
        assert {top, model["name"].rpartition("/")[0]} & folders


def test_what_the_official_workflow_offers_lies_where_its_loader_finds_it(tmp_path):
    ui = ui_of("official_miniflux")
    (wanted,) = (node["widgets_values"][0] for node in ui["nodes"] if node["type"] == "PyramidVideoLoadModel")
    model = ui["models"][0]
    assert model["url"] == f"https://huggingface.co/rain1011/{model['name'].replace('/', '/resolve/main/', 1)}"
    file = tmp_path / model["directory"] / model["name"]
    file.parent.mkdir(parents=True)
    file.touch()
    assert ModelFolders.below(tmp_path).find("diffusion_models", wanted) == file


@every_workflow
def test_files_that_a_workflow_begins_with_come_with_it(stem):
    chosen = {"LoadImage": "image", "LoadVideo": "file"}
    for node in api_of(stem).values():
        if node["class_type"] in chosen:
            assert (FOLDER / "input" / node["inputs"][chosen[node["class_type"]]]).is_file()


@pytest.fixture
def lend_inputs_to(monkeypatch):
    """Lends the start files to a ComfyUI whose input folder this is."""

    def lend(folder):
        monkeypatch.setitem(sys.modules, "folder_paths", SimpleNamespace(get_input_directory=lambda: str(folder)))
        monkeypatch.delitem(sys.modules, "pyramid_video.host.comfyui.inputs", raising=False)
        importlib.import_module("pyramid_video.host.comfyui.inputs").lend_inputs()

    yield lend
    sys.modules.pop("pyramid_video.host.comfyui.inputs", None)


def test_start_files_are_lent_to_comfyui_and_never_replace_a_users_own(tmp_path, lend_inputs_to):
    names = {file.name for file in (FOLDER / "input").iterdir()}
    (tmp_path / "pyramid_video_start.png").write_bytes(b"mine")
    lend_inputs_to(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == names
    assert (tmp_path / "pyramid_video_start.png").read_bytes() == b"mine"
    clip = "pyramid_video_start.mp4"
    assert (tmp_path / clip).read_bytes() == (FOLDER / "input" / clip).read_bytes()


def test_an_input_folder_that_cannot_be_written_is_told_and_stops_nothing(tmp_path, lend_inputs_to, caplog):
    file = tmp_path / "no folder"
    file.touch()
    lend_inputs_to(file)
    assert "pyramid_video_start.mp4 is not put into ComfyUI's input folder" in caplog.text


@pytest.mark.parametrize("stem", [stem for stem in HOSTS_OWN if stem != TRAINS_A_HOSTS_MODEL])
def test_graphs_of_core_models_carry_the_pyramid(stem):
    prompt = api_of(stem)
    kinds = [node["class_type"] for node in prompt.values()]
    assert kinds.count("PyramidVideoAnyStages") == kinds.count("PyramidVideoAnySamplerObject") == 1
    (pyramid,) = (key for key, node in prompt.items() if node["class_type"] == "PyramidVideoAnySamplerObject")
    samplers = [node for node in prompt.values() if node["class_type"] == "SamplerCustomAdvanced"]
    assert samplers and all(node["inputs"]["sampler"] == [pyramid, 0] for node in samplers)


@pytest.mark.parametrize("stem", HOSTS_OWN)
def test_graphs_of_core_models_name_their_files(stem):
    for node in ui_of(stem)["nodes"]:
        for model in node["properties"].get("models", []):
            assert model["name"] in node["widgets_values"] and model["url"].endswith("/" + model["name"])
