"""The graph blocks: complete for the reader, light to import, and plain-spoken about bad input."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from official_folders import write_component
from products import types_of_products
from pyramid_video.drawings.stages import HEIGHT, WIDTH, draw_stages
from pyramid_video.host import use_host
from pyramid_video.host.standalone.host import StandaloneHost
from pyramid_video.models.checkpoint_dtypes import FAST, WEIGHT_DTYPES
from pyramid_video.models.latent_format import MINIFLUX
from pyramid_video.models.lora import TARGETS
from pyramid_video.models.model_info import ModelInfo, VAEInfo
from pyramid_video.models.sizes import nearest_multiple
from pyramid_video.nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS
from pyramid_video.nodes.conditioning import fill
from pyramid_video.nodes.trainer_base import check_clips
from pyramid_video.samplers.seeds import LARGEST_SEED
from pyramid_video.samplers.solvers import SOLVERS
from pyramid_video.samplers.stage_solvers import STAGE_SOLVERS
from pyramid_video.samplers.stages import make_stages
from pyramid_video.training.presets import VAE_SIZES

ROOT = Path(__file__).resolve().parents[2]
IDS = {  # these live in saved workflows: add, never rename or remove
    "PyramidVideoLoadModel",
    "PyramidVideoLoadVAE",
    "PyramidVideoLoadTextEncoder",
    "PyramidVideoEncodePrompt",
    "PyramidVideoHistory",
    "PyramidVideoStages",
    "PyramidVideoStageSteps",
    "PyramidVideoGuidance",
    "PyramidVideoGuidanceZero",
    "PyramidVideoEmptyLatent",
    "PyramidVideoDecode",
    "PyramidVideoSampler",
    "PyramidVideoSamplerObject",
    "PyramidVideoGuider",
    "PyramidVideoNewModel",
    "PyramidVideoTrainLoRA",
    "PyramidVideoTrainModelLoRA",
    "PyramidVideoSaveTrainedLoRA",
    "PyramidVideoVAETrainee",
    "PyramidVideoTrainVAE",
    "PyramidVideoLoadPerceptual",
    "PyramidVideoSaveTrainedVAE",
    "PyramidVideoLoadForTraining",
    "PyramidVideoTrainingSettings",
    "PyramidVideoTrainFlow",
    "PyramidVideoTrainDiffusion",
    "PyramidVideoTrainGAN",
    "PyramidVideoTrainPyramid",
    "PyramidVideoValidation",
    "PyramidVideoTrainingCurves",
    "PyramidVideoSaveTrained",
    "PyramidVideoFlowSampler",
    "PyramidVideoDDIMSampler",
    "PyramidVideoGANSampler",
    "PyramidVideoAnimationDataset",
    "PyramidVideoDatasetPreview",
    "PyramidVideoFolderDataset",
    "PyramidVideoStagePicture",
    "PyramidVideoHistoryPicture",
    "PyramidVideoLatentViewer",
    "PyramidVideoCompareClips",
    "PyramidVideoFitPreviewColours",
    "PyramidVideoHeliosMemory",
    "PyramidVideoAnyStages",
    "PyramidVideoAnySamplerObject",
    "PyramidVideoAnySampler",
    "PyramidVideoDraft",
    "PyramidVideoFinishDraft",
    "PyramidVideoFinishClip",
    "PyramidVideoFitSpectrum",
}
WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN")
NODES = sorted(NODE_CLASS_MAPPINGS)


class Bar:
    def update(self, value, text=None, preview=None):
        """Nothing is shown in a test."""


class RecordingHost:
    """Answers like a host; loads nothing, and notes what it was asked for."""

    name = "test"
    sampler_names = ("euler",)
    scheduler_names = ("simple",)

    def __init__(self, folder: Path):
        self.temp_dir = folder
        self.asked = []

    def list_models(self, kind):
        return [f"zebra_{kind}.safetensors"]

    def list_inputs(self, extensions):
        return []

    def playing_clip(self):
        return {}

    def show_note(self, text):
        pass

    def progress(self, total):
        return Bar()

    def model_info(self, model):
        return ModelInfo("miniflux", 16, 24, 20, MINIFLUX, "tiny")

    def vae_info(self, vae):
        return VAEInfo(4, 8, 16, "tiny VAE")

    def encode(self, vae, images):
        self.asked.append(images)
        return torch.zeros(1, 16, (len(images) - 1) // 4 + 1, images.shape[1] // 8, images.shape[2] // 8)

    def encode_prompt(self, clip, text):
        self.asked.append(text)
        return text_features(24, 20, tokens=min(128, len(text.split()) + 1))

    def tokenizer(self, clip):
        return None

    def decode(self, vae, samples, chunk, tile):
        self.asked.append((chunk, tile))
        return torch.zeros(1, 8, 8, 3)

    def make_guider(self, model, positive, negative, guidance):
        return negative, guidance

    def make_sampler(self, stages, history):
        return stages, history

    def sample(self, guider, sampler, latent, seed):
        self.asked.append((guider, sampler, seed))
        return latent


@pytest.fixture
def host(tmp_path):
    recording = RecordingHost(tmp_path)
    use_host(recording)
    yield recording
    use_host(None)


def text_features(width, pooled, tokens=5):
    return [[torch.zeros(1, tokens, width), {"pooled_output": torch.zeros(1, pooled)}]]


def run(node_id, **inputs):
    node = NODE_CLASS_MAPPINGS[node_id]()
    answer = getattr(node, node.FUNCTION)(**inputs)
    return (answer["result"], answer["ui"]) if isinstance(answer, dict) else (answer, {})


def inputs_of(node):
    schema = node.INPUT_TYPES()
    return {**schema.get("required", {}), **schema.get("optional", {})}


def test_ids_are_those_that_saved_workflows_hold():
    assert set(NODE_CLASS_MAPPINGS) == IDS == set(NODE_DISPLAY_NAME_MAPPINGS)
    assert len(set(NODE_DISPLAY_NAME_MAPPINGS.values())) == len(IDS)


@pytest.mark.parametrize("node_id", NODES)
def test_everything_on_a_node_is_explained(node_id, host):
    node = NODE_CLASS_MAPPINGS[node_id]
    assert node.CATEGORY.startswith("pyramid video/") and node.DESCRIPTION.endswith(".") and node.SEARCH_ALIASES
    assert len(node.OUTPUT_TOOLTIPS) == len(node.RETURN_TYPES) == len(getattr(node, "RETURN_NAMES", node.RETURN_TYPES))
    page = (ROOT / "web" / "docs" / f"{node_id}.md").read_text("utf-8")
    assert page.startswith(f"# {NODE_DISPLAY_NAME_MAPPINGS[node_id]}\n") and "**Try this:**" in page
    for name, (kind, *options) in inputs_of(node).items():
        assert options and options[0].get("tooltip", "").strip(), f"{node_id}.{name} has no tooltip"
        assert f"`{name}`" in page, f"the help page of {node_id} does not name {name}"
        if kind in ("INT", "FLOAT"):
            assert options[0]["min"] <= options[0]["default"] <= options[0]["max"]
        if kind in WIDGETS:
            assert "default" in options[0]


@pytest.mark.parametrize("node_id", NODES)
def test_the_function_takes_exactly_the_inputs(node_id, host):
    """What is left of them goes to the method of the block's own: its sampler or objective."""
    node, inputs = NODE_CLASS_MAPPINGS[node_id], set(inputs_of(NODE_CLASS_MAPPINGS[node_id]))
    taken = inspect.signature(getattr(node, node.FUNCTION)).parameters.values()
    named = {each.name for each in taken if each.kind is not each.VAR_KEYWORD} - {"self"}
    needed = {each.name for each in taken if each.default is each.empty and each.name in named}
    assert needed <= inputs
    if len(named) == len(taken) - 1:
        assert inputs <= named
    else:
        own = next(getattr(node, name) for name in ("sampler", "objective") if hasattr(node, name))
        assert inputs - named == set(inspect.signature(own).parameters) - {"self", "model", "info", "guided", "source"}


def test_every_seed_that_a_generator_takes_can_be_typed(host):
    schemas = [inputs_of(node) for node in NODE_CLASS_MAPPINGS.values()]
    widgets = [schema["seed"][1] for schema in schemas if "seed" in schema]
    assert widgets and all((widget["min"], widget["max"]) == (0, LARGEST_SEED) for widget in widgets)


@pytest.mark.parametrize(
    ("node_id", "name", "known"),
    [("Stages", "solver", STAGE_SOLVERS), ("FlowSampler", "solver", SOLVERS), ("TrainLoRA", "targets", TARGETS)],
)
def test_everything_that_is_known_can_be_chosen(node_id, name, known, host):
    assert inputs_of(NODE_CLASS_MAPPINGS[f"PyramidVideo{node_id}"])[name][0] == list(known)


def test_every_size_of_a_new_vae_can_be_chosen(host):
    choices = inputs_of(NODE_CLASS_MAPPINGS["PyramidVideoVAETrainee"])["vae_name"][0]
    assert choices[: len(VAE_SIZES)] == [f"new {size}" for size in VAE_SIZES]


def test_importing_the_blocks_imports_nothing_heavy():
    program = (
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location('pyramid_video', {str(ROOT / '__init__.py')!r}, "
        f"submodule_search_locations=[{str(ROOT)!r}])\n"
        "module = sys.modules['pyramid_video'] = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "assert len(module.NODE_CLASS_MAPPINGS) > 0\n"
        "print([name for name in ('torch', 'numpy', 'PIL', 'diffusers', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_family_that_cannot_be_imported_leaves_the_others():
    program = (
        "import importlib.util, sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.endswith('.nodes.loaders'):\n"
        "            raise ModuleNotFoundError('No module named \"rarity\"', name='rarity')\n"
        "sys.meta_path.insert(0, Missing())\n"
        f"spec = importlib.util.spec_from_file_location('pyramid_video', {str(ROOT / '__init__.py')!r}, "
        f"submodule_search_locations=[{str(ROOT)!r}])\n"
        "module = sys.modules['pyramid_video'] = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "print(*(name in module.NODE_CLASS_MAPPINGS for name in ('PyramidVideoLoadModel', 'PyramidVideoSampler')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "True"], done.stderr
    said = [line for line in done.stderr.splitlines() if "rarity" in line]
    assert len(said) == 1 and "nodes/loaders.py" in said[0]


def test_bundled_models_come_first(host, tmp_path, monkeypatch):
    from pyramid_video.nodes import shared_inputs

    (tmp_path / "vae").mkdir()
    (tmp_path / "vae" / "ours.safetensors").touch()
    monkeypatch.setattr(shared_inputs, "BUNDLED", tmp_path)
    monkeypatch.setattr(host, "list_models", lambda kind: ["a.safetensors", "b/vae", "ours.safetensors"])
    assert shared_inputs.model_names("vae") == ["ours.safetensors", "a.safetensors", "b/vae"]


@pytest.mark.parametrize("asked", WEIGHT_DTYPES)
def test_weights_are_stored_in_every_type_that_the_loader_offers_and_run(host, tmp_path, asked):
    assert list(WEIGHT_DTYPES) == inputs_of(NODE_CLASS_MAPPINGS["PyramidVideoLoadModel"])["weight_dtype"][0]
    model = StandaloneHost(device="cpu").load_model(write_component(tmp_path / "component", "miniflux"), asked)
    stored = {"default": torch.float32, "bf16": torch.bfloat16, "fp32": torch.float32}
    stored |= {"fp8_e4m3fn": torch.float8_e4m3fn, "fp8_e5m2": torch.float8_e5m2, FAST: torch.float8_e4m3fn}
    assert model.network.context_embedder.weight.dtype == stored[asked]
    text, pooled = torch.zeros(1, 3, model.info.text_width), torch.zeros(1, model.info.pooled_width)
    clip = torch.randn(1, model.info.latent_channels, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    velocity = model.network([clip.to(model.dtype)], torch.tensor([500.0]), text, None, pooled)
    assert velocity.dtype == model.dtype and torch.isfinite(velocity).all()


@pytest.mark.parametrize(("able", "computes"), [(True, torch.bfloat16), (False, torch.float32)])
def test_bf16_is_for_storing_only_on_a_processor_that_does_not_multiply_in_it(monkeypatch, tmp_path, able, computes):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": able})
    model = StandaloneHost(device="cpu").load_model(write_component(tmp_path / "component", "miniflux"), "bf16")
    assert (model.network.context_embedder.weight.dtype, model.dtype) == (torch.bfloat16, computes)
    assert types_of_products(model, monkeypatch) == {computes}


def test_a_weight_type_that_is_not_offered_is_told_what_is(tmp_path):
    with pytest.raises(ValueError, match="'fp16'; expected default, bf16, fp32, fp8_e4m3fn, fp8_e5m2"):
        StandaloneHost(device="cpu").load_model(write_component(tmp_path / "component", "miniflux"), "fp16")


@pytest.mark.parametrize("count", [1, 3, 6])
def test_the_ladder_comes_with_its_drawing(host, count):
    (stages, drawing), _ = run("PyramidVideoStages", first_steps=2, video_steps=3, stage_count=count)
    assert drawing.shape == (1, HEIGHT, WIDTH, 3) and 0 <= drawing.min() < drawing.max() <= 1
    assert stages == make_stages(count, first_steps=2, video_steps=3)


def test_the_drawing_tells_ladders_apart():
    pictures = [draw_stages(make_stages(3, first_steps=steps)).tobytes() for steps in (4, 5)]
    assert pictures[0] != pictures[1]


def test_a_third_typed_into_a_widget_is_a_third(host):
    (stages, _), _ = run("PyramidVideoStages", first_steps=1, video_steps=1, gamma=0.333)
    assert stages.gamma == 1 / 3
    (stages, _), _ = run("PyramidVideoStages", first_steps=1, video_steps=1, gamma=0.25)
    assert stages.gamma == 0.25


def test_one_stage_gets_its_own_steps_and_the_given_ladder_stays(host):
    given = make_stages(3, first_steps=20, video_steps=10)
    (changed, _), _ = run("PyramidVideoStageSteps", stages=given, stage=1, first_steps=7, video_steps=3)
    assert changed.first_steps == (20, 7, 20) and changed.video_steps == (10, 3, 10)
    assert given.first_steps == (20, 20, 20) and changed.stages == given.stages
    with pytest.raises(ValueError, match="stages are 0 to 2"):
        run("PyramidVideoStageSteps", stages=given, stage=3, first_steps=1, video_steps=1)


def test_nearest_legal_sizes_and_lengths():
    for multiple in (16, 64):
        for size in range(1, 300):
            legal = nearest_multiple(size, multiple)
            assert legal % multiple == 0 and legal > 0
            assert -multiple / 2 < legal - size <= multiple / 2 or legal == multiple, "half way goes up"
    for compression in (4, 8):
        for frames in range(0, 100):
            info = VAEInfo(compression, 8, 16, "VAE")
            legal = info.nearest_length(frames)
            assert legal % compression == 1 and (abs(legal - frames) <= compression / 2 or legal == 1)
            assert info.frames_of(info.latent_frames_of(legal)) == legal
            info = VAEInfo(compression, 8, 16, "VAE in units", unit=9)  # Helios: 9 latent frames, 33 pictures
            unit = 8 * compression + 1
            legal = info.nearest_length(frames)
            assert legal % unit == 0 and (abs(legal - frames) <= unit / 2 or legal == unit)
            assert info.frames_of(info.latent_frames_of(legal)) == legal
            assert info.latent_frames_of(legal) == 9 * legal // unit
            assert 0 <= frames - info.frames_of(info.latent_frames_of(frames)) < compression


def empty_latent(**changes):
    asked = {"width": 64, "height": 64, "length_unit": "frames", "seconds": 0.0, "frames": 17, "fps": 8.0}
    return run("PyramidVideoEmptyLatent", **{"vae": None, **asked, **changes})


@pytest.mark.parametrize("width", [24, 40, 56])
def test_a_width_half_way_is_to_errors_what_the_empty_latent_makes_of_it(host, width):
    stages, cell = make_stages(1), 8
    (latent, *_), _ = empty_latent(width=width, stages=stages)
    rows, columns = latent["samples"].shape[-2:]
    with pytest.raises(ValueError, match=f"nearest size is {rows} x {columns}"):
        stages.check_latent_size(rows, width // cell)
    clips = SimpleNamespace(bucket_counts=lambda _: {(64, width): 1})
    with pytest.raises(ValueError, match=f"nearest is {columns * cell}x{rows * cell}"):
        check_clips(None, 1, clips, cell)


def test_empty_latent_has_the_size_that_was_asked_for(host):
    (latent, frames, fps), ui = empty_latent(batch_size=2, width=128)
    assert latent["samples"].shape == (2, 16, 5, 8, 16) and (frames, fps) == (17, 8.0)
    assert "Asked for" not in ui["text"][0]


def test_empty_latent_is_snapped_and_says_so(host):
    (latent, frames, _), ui = empty_latent(width=100, length_unit="seconds", seconds=1.8)
    assert latent["samples"].shape == (1, 16, 5, 8, 16) and frames == 17
    assert "128x64" in ui["text"][0] and "multiples of 64" in ui["text"][0] and "4k+1" in ui["text"][0]
    (latent, *_), _ = empty_latent(width=100, stages=make_stages(1))
    assert latent["samples"].shape[-1] == 96 // 8, "one stage allows a finer grid"


@pytest.mark.parametrize(("seconds", "fps", "frames"), [(0, 8, 1), (2, 8, 17), (5, 24, 121), (10, 24, 241)])
def test_round_seconds_are_legal_lengths(host, seconds, fps, frames):
    (_, made, _), ui = empty_latent(length_unit="seconds", seconds=float(seconds), fps=float(fps))
    assert made == frames and "Asked for" not in ui["text"][0]


def test_prompt_is_encoded_as_written(host):
    run("PyramidVideoEncodePrompt", clip=None, text="", add_quality_words=False)
    run("PyramidVideoEncodePrompt", clip=None, text="a cat", add_quality_words=True)
    assert host.asked == ["", "a cat, hyper quality, Ultra HD, 8K"]


def test_weights_in_brackets_are_taken_off_and_named(host):
    _, ui = run("PyramidVideoEncodePrompt", clip=None, text="a (tiger:1.4) on a ((blue)) (plain) \\(ball\\)")
    assert host.asked == ["a tiger on a blue (plain) (ball)"]
    assert "do not use weights of words" in ui["text"][0] and host.asked[0] in ui["text"][0]


def test_a_prompt_that_is_cut_says_so(host):
    _, ui = run("PyramidVideoEncodePrompt", clip=None, text="word " * 10_000)
    assert "10000 words" in ui["text"][0] and "128 tokens" in ui["text"][0]


def test_a_start_image_needs_vae_and_size(host):
    image = torch.rand(1, 64, 64, 3)
    with pytest.raises(ValueError, match="vae and latent_image"):
        run("PyramidVideoHistory", depth=0, noise=0.0, start_image=image)
    (history,), _ = run("PyramidVideoHistory", depth=0, noise=0.1)
    assert history.start is None and history.depth is None and history.noise == 0.1


def test_a_start_clip_is_fitted_in_size_and_length(host):
    latent = {"samples": torch.zeros(2, 16, 5, 8, 16)}
    clip = torch.rand(7, 50, 40, 4)
    (history,), ui = run("PyramidVideoHistory", depth=2, noise=0.0, vae="vae", start_image=clip, latent_image=latent)
    assert host.asked[0].shape == (5, 64, 128, 3) and history.start.shape == (1, 16, 2, 8, 16)
    assert "first 5" in ui["text"][0] and "40x50" in ui["text"][0] and "128x64" in ui["text"][0]
    with pytest.raises(ValueError, match="nothing left to make"):
        run(
            "PyramidVideoHistory",
            depth=0,
            noise=0.0,
            vae="vae",
            start_image=torch.rand(20, 64, 128, 3),
            latent_image=latent,
        )


def test_filling_keeps_the_centre_and_the_shape_of_things():
    picture = torch.zeros(1, 40, 120, 3)
    picture[:, :, 40:80] = 1  # the middle third, a square
    filled = fill(picture, 20, 20)
    assert filled.shape == (1, 20, 20, 3) and filled.min() > 0.99
    same = torch.rand(1, 16, 16, 3)
    assert fill(same, 16, 16) is same


def test_sampler_hands_on_what_is_wired_and_the_defaults_for_the_rest(host):
    latent = {"samples": torch.zeros(1, 16, 5, 8, 8)}
    positive = text_features(24, 20)
    (result,), _ = run("PyramidVideoSampler", model=None, positive=positive, latent_image=latent, seed=5)
    (negative, guidance), (stages, history), seed = host.asked[0]
    assert result is latent and seed == 5 and negative is None
    assert (guidance.first, guidance.video) == (7, 5) and stages == make_stages() and history.start is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"latent_image": {"samples": torch.zeros(1, 4, 5, 8, 8)}}, ["4 channels", "16 latent channels", "tiny"]),
        ({"latent_image": {"samples": torch.zeros(1, 16, 8, 8)}}, ["five axes", "Empty video latent"]),
        ({"positive": text_features(32, 20)}, ["positive", "text 32 wide", "text 24 wide"]),
        ({"positive": text_features(24, 99)}, ["pooled text 99 wide", "pooled text 20 wide"]),
        ({"positive": [[torch.zeros(1, 5, 24), {}]]}, ["no pooled text"]),
        ({"negative": text_features(32, 20)}, ["negative", "text 32 wide"]),
    ],
)
def test_things_that_do_not_belong_together_are_named(host, changes, words):
    inputs = {
        "model": None,
        "positive": text_features(24, 20),
        "latent_image": {"samples": torch.zeros(1, 16, 5, 8, 8)},
        "seed": 0,
    }
    with pytest.raises(ValueError) as caught:
        run("PyramidVideoSampler", **{**inputs, **changes})
    assert all(word in str(caught.value) for word in words), caught.value
    assert host.asked == [], "nothing was sampled"


def test_decode_passes_on_zero_as_off(host):
    latent = {"samples": torch.zeros(1, 16, 1, 1, 1)}
    run("PyramidVideoDecode", vae=None, samples=latent, chunk_frames=0, tile_size=0)
    run("PyramidVideoDecode", vae=None, samples=latent, chunk_frames=1, tile_size=256)
    assert host.asked == [(None, None), (1, 256)]
    with pytest.raises(ValueError, match="tiny VAE"):
        run("PyramidVideoDecode", vae=None, samples={"samples": torch.zeros(1, 4, 1, 1, 1)})


def test_every_wire_of_our_own_has_a_colour_in_the_editor():
    """The host colours the types that it knows; a new one of ours needs a line in the script."""
    hosts = {"MODEL", "VAE", "CLIP", "CONDITIONING", "LATENT", "IMAGE", "SAMPLER", "GUIDER", "LORA_MODEL", "LOSS_MAP"}
    numbers = {"INT", "FLOAT", "STRING", "BOOLEAN"}
    ours = {kind for node in NODE_CLASS_MAPPINGS.values() for kind in node.RETURN_TYPES} - hosts - numbers
    script = (ROOT / "web" / "pyramid_video.js").read_text("utf-8")
    assert set(re.findall(r"^  ([A-Z_]+): '#[0-9A-F]{6}'", script, re.MULTILINE)) == ours
