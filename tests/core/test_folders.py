"""Model names and where they lead; names in workflows never lead out of their folder."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from pyramid_video.host.folders import (
    KINDS,
    OFFICIAL,
    ModelFolders,
    find_file,
    find_folder,
    list_files,
    resolve_inside,
    resolve_new,
)
from pyramid_video.host.standalone.host import StandaloneHost
from pyramid_video.models import checkpoints
from pyramid_video.runner.listing import model_lines

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "official-weights.md"


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


def component(folder: Path, **config) -> Path:
    """An official component folder: config and weights."""
    touch(folder / "diffusion_pytorch_model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def official(folder: Path) -> Path:
    """An official top folder; the weights are empty, listing does not open them."""
    component(folder / "diffusion_transformer_768p", joint_attention_dim=4096)
    component(folder / "causal_video_vae", encoder_block_out_channels=[128])
    for part in ("text_encoder", "text_encoder_2"):
        touch(folder / part / "model.safetensors")
        (folder / part / "config.json").write_text("{}")
    (folder / "tokenizer_2").mkdir()
    return folder


def own(folders: ModelFolders, kind: str) -> list[str]:
    """Names that are not the pack's."""
    return [name for name in folders.list(kind) if not name.startswith("pyramid_video_small")]


def test_files_are_listed_under_their_kind_with_their_subfolder(tmp_path):
    touch(tmp_path / "diffusion_models" / "a.safetensors")
    touch(tmp_path / "unet" / "sub" / "b.safetensors")
    touch(tmp_path / "vae" / "c.safetensors")
    touch(tmp_path / "vae" / "read me.txt")
    folders = ModelFolders.below(tmp_path)
    assert own(folders, "diffusion_models") == ["a.safetensors", "sub/b.safetensors"]
    assert own(folders, "vae") == ["c.safetensors"]
    assert own(folders, "text_encoders") == []
    assert folders.find("diffusion_models", "sub/b.safetensors") == tmp_path / "unet" / "sub" / "b.safetensors"


@pytest.mark.parametrize("place", ["pyramid_video", "pyramidflow", ".", "diffusion_models"])
def test_parts_of_an_official_folder_are_found_by_kind(tmp_path, place):
    top = official(tmp_path / place / "pyramid-flow-miniflux")
    touch(top / "text_encoder_2" / "model-00001-of-00002.safetensors")
    folders = ModelFolders.below(tmp_path)
    found = {kind: folders.entries(kind) for kind in KINDS}
    assert top / "diffusion_transformer_768p" in found["diffusion_models"].values()
    assert top / "causal_video_vae" in found["vae"].values()
    assert top in found["text_encoders"].values()
    for kind in KINDS:
        assert not [name for name in found[kind] if "text_encoder" in name], "its parts are not offered alone"
    if place in ("pyramid_video", "pyramidflow"):
        assert own(folders, "vae") == ["pyramid-flow-miniflux/causal_video_vae"]


def test_an_official_transformer_without_its_config_is_found_under_the_name_that_it_has_with_it(tmp_path):
    """ComfyUI's list of missing models downloads weights and nothing else."""
    name = "pyramid-flow-miniflux/diffusion_transformer_768p"
    weights = touch(tmp_path / "pyramid_video" / name / "diffusion_pytorch_model.safetensors")
    folders = ModelFolders.below(tmp_path)
    assert own(folders, "diffusion_models") == [name] and own(folders, "vae") == []
    assert folders.find("diffusion_models", name) == weights
    component(weights.parent, joint_attention_dim=4096)
    assert own(folders, "diffusion_models") == [name]
    assert folders.find("diffusion_models", name) == weights.parent


def test_an_official_folder_given_itself_keeps_its_name(tmp_path):
    top = official(tmp_path / "pyramid-flow-miniflux")
    folders = ModelFolders.below(top)
    assert own(folders, "text_encoders") == ["pyramid-flow-miniflux"]
    assert own(folders, "diffusion_models") == ["pyramid-flow-miniflux/diffusion_transformer_768p"]
    assert folders.find("text_encoders", "pyramid-flow-miniflux") == top


def test_a_component_folder_given_itself_keeps_its_name(tmp_path):
    part = component(tmp_path / "diffusion_transformer_768p", joint_attention_dim=4096)
    folders = ModelFolders.below(part)
    assert own(folders, "diffusion_models") == [part.name]
    assert folders.find("diffusion_models", part.name) == part


def test_weights_inside_a_component_folder_are_no_models_of_their_own(tmp_path):
    component(tmp_path / "vae" / "mine", encoder_block_out_channels=[8])
    assert own(ModelFolders.below(tmp_path), "vae") == ["mine"]


@pytest.mark.parametrize(
    "config",
    ["{}", '{"_class_name": "FluxTransformer2DModel"}', '{"joint_attention_dim": 4096}', "[", "[" * 100_000, "[]"],
)
def test_a_stray_config_hides_no_single_files(tmp_path, config):
    for name in ("a.safetensors", "b.pth", "c.safetensors", "diffusion_pytorch_model.txt"):
        touch(tmp_path / "diffusion_models" / name)
    (tmp_path / "diffusion_models" / "config.json").write_text(config)
    assert own(ModelFolders.below(tmp_path), "diffusion_models") == ["a.safetensors", "b.pth", "c.safetensors"]


def test_parts_beside_a_config_are_no_models_and_what_lies_beside_them_is(tmp_path):
    parts = ("diffusion_pytorch_model.bin", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    foreign = tmp_path / "vae" / "foreign"
    for name in (*parts, "single.safetensors"):
        touch(foreign / name)
    (foreign / "config.json").write_text('{"_class_name": "AutoencoderKL"}')
    touch(component(tmp_path / "vae" / "mine", encoder_block_out_channels=[8]) / "other.safetensors")
    assert own(ModelFolders.below(tmp_path), "vae") == ["foreign/single.safetensors", "mine", "mine/other.safetensors"]


def test_the_only_weights_beside_an_official_config_are_its_model_whatever_they_are_called(tmp_path):
    touch(tmp_path / "vae" / "mine" / "weights.safetensors")
    (tmp_path / "vae" / "mine" / "config.json").write_text('{"encoder_block_out_channels": [8]}')
    assert own(ModelFolders.below(tmp_path), "vae") == ["mine"]


def test_a_file_that_breaks_the_reader_is_listed_with_its_fault_and_the_others_follow(tmp_path, monkeypatch):
    touch(tmp_path / "vae" / "a.safetensors")
    touch(tmp_path / "vae" / "b.safetensors")
    inspect = checkpoints.inspect

    def breaks(path):
        if path.name == "a.safetensors":
            raise IndexError("pop from empty list\nand so on")
        return inspect(path)

    monkeypatch.setattr(checkpoints, "inspect", breaks)
    lines = list(model_lines(StandaloneHost(tmp_path)))
    first = next(at for at, line in enumerate(lines) if "a.safetensors" in line)
    assert "a.safetensors: unusable, IndexError: pop from empty list" in lines[first]
    assert "b.safetensors: unusable, " in lines[first + 1] and "is empty" in lines[first + 1]


@pytest.fixture
def sealed(tmp_path, monkeypatch) -> Path:
    """A folder that says of itself and of what is in it only that nobody may look, as a lost network share does."""
    folder = tmp_path / "sealed"
    touch(folder / "vae" / "hidden.safetensors")

    def unless_sealed(ask):
        def asked(path=".", *args, **kwargs):
            if not isinstance(path, int) and Path(path).is_relative_to(folder):
                raise PermissionError(13, "Permission denied", str(path))
            return ask(path, *args, **kwargs)

        return asked

    for name in ("scandir", "listdir", "stat", "lstat"):
        monkeypatch.setattr(os, name, unless_sealed(getattr(os, name)))
    return folder


def test_a_folder_that_cannot_be_read_hides_none_but_its_own(tmp_path, sealed):
    seen = touch(tmp_path / "open" / "seen.safetensors")
    folders = ModelFolders({"vae": [sealed / "vae", seen.parent]}, (sealed, tmp_path / "open"))
    for kind in KINDS:
        assert folders.list(kind) == ([seen.name] if kind == "vae" else [])
    assert list_files([sealed, seen.parent]) == [seen.name]
    assert find_file([sealed, seen.parent], seen.name, "file") == seen
    with pytest.raises(FileNotFoundError, match="no folder is called"):
        find_folder([sealed, tmp_path / "open"], "clips", "folder")


def test_a_list_of_models_asks_little_of_the_file_system(tmp_path, monkeypatch):
    folder = tmp_path / "a" / "b" / "c" / "d"
    for number in range(100):
        touch(folder / f"{number}.safetensors")
    folders, asked = ModelFolders({"vae": [folder]}), []
    for name in ("stat", "lstat"):
        ask = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, ask=ask, **kwargs: asked.append(args) or ask(*args, **kwargs))
    assert len(folders.list("vae")) == 100 and len(asked) <= 3 * 100


def test_one_model_has_one_name(tmp_path):
    official(tmp_path / "pyramid_video" / "flow")
    names = own(ModelFolders.below(tmp_path), "diffusion_models")
    assert names == ["flow/diffusion_transformer_768p"]


def test_windows_spelling_finds_the_same_model(tmp_path):
    path = touch(tmp_path / "vae" / "sub" / "c.safetensors")
    assert ModelFolders.below(tmp_path).find("vae", "sub\\c.safetensors") == path


def test_missing_model_names_the_nearest(tmp_path):
    touch(tmp_path / "vae" / "causal_vae.safetensors")
    with pytest.raises(FileNotFoundError, match=r"no vae model is called 'casual_vae.safetensors'.*'causal_vae.safet"):
        ModelFolders.below(tmp_path).find("vae", "casual_vae.safetensors")


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "sub/../../secret.safetensors"])
def test_a_model_outside_the_folders_is_not_found(tmp_path, name):
    touch(tmp_path / "secret.safetensors")
    touch(tmp_path / "models" / "vae" / "sub" / "a.safetensors")
    with pytest.raises(FileNotFoundError):
        ModelFolders.below(tmp_path / "models").find("vae", name)


def test_a_folder_that_links_to_its_parent_ends(tmp_path):
    path = touch(tmp_path / "vae" / "a.safetensors")
    (tmp_path / "vae" / "again").symlink_to(tmp_path / "vae")
    assert ModelFolders.below(tmp_path).find("vae", "a.safetensors") == path
    assert own(ModelFolders.below(tmp_path), "vae") == ["a.safetensors"]


def test_unknown_kind_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no kind of model called 'hypernetworks'"):
        ModelFolders.below(tmp_path).list("hypernetworks")


@pytest.mark.parametrize(
    "name", ["../a", "a/../../b", "/etc/passwd", "C:\\a", "c:a", "..\\a", "\\\\server\\a", "~/a", "", "  ", "a\0b"]
)
def test_names_that_leave_their_folder_are_refused(tmp_path, name):
    with pytest.raises(ValueError):
        resolve_inside(tmp_path, name)


@pytest.mark.parametrize("name", ["a", "a/b.mp4", "a b", "a..b", "ü/é", "sub\\a"])
def test_names_inside_are_taken(tmp_path, name):
    assert resolve_inside(tmp_path, name).resolve().is_relative_to(tmp_path.resolve())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (".", "would be .* itself"),
        ("./", "would be .* itself"),
        (".\\.", "would be .* itself"),
        ("a/.hidden", "begins with a dot is hidden"),
        ("a.", "a dot or a space at the end"),
        ("a /b", "a dot or a space at the end"),
        ("what?", "any of < > :"),
        ("a/b:c", "any of < > :"),
        ("a:b*?", "any of < > :"),
        ("C:/a", "points outside"),
        ("CON", "for a device"),
        ("nul.txt", "for a device"),
        ("runs/Com1", "for a device"),
        ("lpt¹.a.b", "for a device"),
        ("../a", "points outside"),
        ("~/a", "begins with ~, which is no folder here; give a name inside"),
        ("~", "begins with ~, which is no folder here"),
    ],
)
def test_new_names_are_those_that_every_system_has(tmp_path, name, words):
    with pytest.raises(ValueError, match=words):
        resolve_new(tmp_path, name, "training run")


@pytest.mark.parametrize(
    "name", ["a", "a/b.mp4", "a b", "a..b", "ü/虎", "console", "com", "com10", "nullify.x", "a/./b"]
)
def test_other_new_names_are_taken(tmp_path, name):
    assert resolve_new(tmp_path, name, "training run") == tmp_path / name


def test_links_out_of_a_folder_are_refused(tmp_path):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    touch(outside / "file")
    inside.mkdir()
    (inside / "link").symlink_to(outside)
    with pytest.raises(ValueError, match="leads through a link out of"):
        resolve_inside(inside, "link/file")


def test_input_files_are_looked_up_in_order_and_listed_once(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        touch(folder / "both.PNG")
    touch(second / "only.png")
    touch(second / "other.txt")
    assert list_files([first, second, tmp_path / "missing"], (".png",)) == ["both.PNG", "only.png"]
    assert find_file([first, second], "both.PNG", "input file") == first / "both.PNG"
    assert find_file([first, second], "only.png", "input file") == second / "only.png"
    with pytest.raises(FileNotFoundError, match="nearest is 'only.png'"):
        find_file([first, second], "olny.png", "input file")
    there_is = "there is 'both.PNG'; the pack's own examples are 'both.PNG', 'only.png', 'other.txt'$"
    with pytest.raises(FileNotFoundError, match=f"'zebra.mp4'.*; {there_is}"):
        find_file([first, second], "zebra.mp4", "input file")  # no nearest where nothing is near


def test_what_was_trained_is_found_wherever_the_clips_go(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lora = touch(tmp_path / "output" / "loras" / "mine.safetensors")
    for host in (StandaloneHost(), StandaloneHost(output=tmp_path / "clips")):
        assert host.list_models("loras") == ["mine.safetensors"] and host.find_model(
            "loras", "mine.safetensors"
        ).samefile(lora)
    newer = touch(tmp_path / "clips" / "loras" / "mine.safetensors")
    assert StandaloneHost(output=tmp_path / "clips").find_model("loras", "mine.safetensors").samefile(newer)


def test_a_missing_input_folder_is_to_be_made_where_the_user_works(tmp_path, monkeypatch):
    """The pack's own inputs are searched too, but nobody should put clips into an installed package."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError) as caught:
        StandaloneHost().input_folder("clips")
    place = f"the folder {tmp_path / 'input'}, where it belongs, does not exist yet"
    assert str(caught.value) == f"no input folder is called 'clips': {place}"
    examples = "the pack's own examples are 'pyramid_video_pig.mp4', "
    with pytest.raises(FileNotFoundError, match=f"does not exist yet; {examples}"):
        StandaloneHost().input_file("nope.png")
    assert "workflows" not in str(caught.value)
    (tmp_path / "input" / "clips").mkdir(parents=True)
    assert StandaloneHost().input_folder("clips").samefile(tmp_path / "input" / "clips")
    with pytest.raises(FileNotFoundError, match=r"input; the nearest is 'clips'"):
        StandaloneHost().input_folder("clip")


def test_the_list_of_models_says_how_each_makes_clips():
    said = {line.split(":")[0].strip(): line for line in model_lines(StandaloneHost())}
    for name, family in (
        ("_flow", "flow matching model"),
        ("_diffusion", "diffusion model"),
        ("_gan", "GAN generator"),
    ):
        assert f"Pyramid Flow transformer (miniFLUX), {family}" in said[f"pyramid_video_small{name}.safetensors"]
    assert "miniFLUX), 16.9 MB" in said["pyramid_video_small.safetensors"]


@pytest.mark.parametrize("top", OFFICIAL)
def test_a_missing_part_of_an_official_folder_sends_for_that_folder(tmp_path, top):
    """And not for a small model with a name like it, until something of that kind is in the folder."""
    folders = ModelFolders.below(tmp_path)
    with pytest.raises(FileNotFoundError) as caught:
        folders.find("diffusion_models", f"{top}/transformer")
    assert top in str(caught.value) and "nearest" not in str(caught.value)
    section = re.search(r"docs/official-weights.md, section '(.+?)'", str(caught.value))[1]
    assert f"\n## {section}\n" in GUIDE.read_text("utf-8")
    component(tmp_path / top / "transformer_768p", joint_attention_dim=4096)
    with pytest.raises(FileNotFoundError, match=f"nearest is '{top}/transformer_768p'"):
        folders.find("diffusion_models", f"{top}/transformer")
