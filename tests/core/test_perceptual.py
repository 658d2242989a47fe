"""The perceptual distance: the numbers of LPIPS on the same weights, the laws of a distance, and wrong files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from pyramid_video.models.checkpoint_files import CheckpointError
from pyramid_video.models.perceptual import PerceptualDistance, load_perceptual
from safetensors.torch import save_file
from vgg_file import linear_state, vgg_state, write_vgg


def videos():
    """Two videos of two clips with three frames, the second a noisy first."""
    generator = torch.Generator().manual_seed(2)
    video = torch.rand(2, 3, 3, 32, 48, generator=generator) * 2 - 1
    return video, (video + 0.3 * torch.randn(video.shape, generator=generator)).clamp(-1, 1)


NUMBERS = Path(__file__).resolve().parents[1] / "lpips_numbers.json"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_vgg(tmp_path_factory.mktemp("vgg") / "vgg16.safetensors")


@pytest.fixture(scope="module")
def network(path):
    return load_perceptual(path)


@pytest.mark.parametrize("kind", ["unit", "linear"])
def test_numbers_are_those_of_lpips(path, tmp_path, kind):
    expected = json.loads(NUMBERS.read_text())["frames"][kind]
    linear = tmp_path / "linear.safetensors"
    save_file(linear_state(), linear)
    network = load_perceptual(path, linear if kind == "linear" else None)
    torch.testing.assert_close(network(*videos()), torch.tensor(expected).mean(), rtol=1e-4, atol=0)


def test_it_is_a_distance(network):
    video, other = videos()
    assert network(video, video) == 0 < network(video, other)
    torch.testing.assert_close(network(video, other), network(other, video))
    halfway = (video + other) / 2
    assert network(video, halfway) < network(video, other)
    apart = [network(video[:, :, t : t + 1], other[:, :, t : t + 1]) for t in range(video.shape[2])]
    torch.testing.assert_close(network(video, other), torch.stack(apart).mean())


def test_the_video_learns_from_it_and_the_network_does_not(network):
    video, other = videos()
    video.requires_grad_()
    network(video, other).backward()
    assert video.grad.any() and torch.isfinite(video.grad).all()
    assert all(p.grad is None and not p.requires_grad for p in network.parameters())


def test_a_picture_without_any_feature_is_at_no_infinite_slope():
    """Where all features are 0 their length has no gradient of its own."""
    network = PerceptualDistance()
    with torch.no_grad():
        for parameter in network.blocks.parameters():
            parameter.zero_()
    video = torch.zeros(1, 3, 1, 16, 16, requires_grad=True)
    network(video, torch.ones(1, 3, 1, 16, 16)).backward()
    assert torch.isfinite(video.grad).all()


def test_names_of_torchvision_and_of_lpips_mean_the_same(network, tmp_path):
    ends = (4, 9, 16, 23, 30)  # of LPIPS's slices in torchvision's list
    state = {}
    for key, value in vgg_state().items():
        place = int(key.split(".")[1])
        state[f"net.slice{1 + sum(place >= end for end in ends)}.{key.removeprefix('features.')}"] = value
    save_file({**state, **linear_state()}, tmp_path / "whole.safetensors")
    save_file(linear_state(), tmp_path / "linear.safetensors")
    whole = load_perceptual(tmp_path / "whole.safetensors")
    parts = load_perceptual(write_vgg(tmp_path / "vgg.safetensors"), tmp_path / "linear.safetensors")
    assert whole(*videos()) == parts(*videos()) != network(*videos())


def broken(folder, name, change):
    state = vgg_state()
    change(state)
    save_file(state, folder / name)
    return folder / name


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.pop("features.28.bias"), "no VGG16: it lacks 1 of 26 tensors, first features.28.bias"),
        (
            lambda state: state.update({"features.0.weight": torch.zeros(64, 3, 11, 11)}),
            r"another network: its features.0.weight has the shape \(64, 3, 11, 11\), here it has \(64, 3, 3, 3\)",
        ),
        (lambda state: state["features.5.bias"].fill_(torch.nan), "NaN or infinite numbers in features.5.bias"),
        (lambda state: state.update(list(linear_state().items())[:2]), "2 of the 5 linear weights"),
        (lambda state: [state.clear(), state.update({"conv1.weight": torch.zeros(3)})], "lacks 26 of 26.*tv_in1k"),
    ],
)
def test_wrong_files_are_refused_with_reasons(tmp_path, change, words):
    with pytest.raises(CheckpointError, match=words):
        load_perceptual(broken(tmp_path, "wrong.safetensors", change))


def test_linear_weights_that_are_asked_for_must_be_there(path):
    with pytest.raises(CheckpointError, match="0 of the 5 linear weights of LPIPS"):
        load_perceptual(path, path)


def test_pickles_are_not_opened(tmp_path):
    path = tmp_path / "vgg16.pth"
    path.write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(CheckpointError, match="come from safetensors files"):
        load_perceptual(path)


def test_a_file_that_is_cut_off_is_told(path, tmp_path):
    (tmp_path / "cut.safetensors").write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(CheckpointError, match="cut off"):
        load_perceptual(tmp_path / "cut.safetensors")


def test_frames_that_are_too_small_are_told(network):
    with pytest.raises(ValueError, match="too small for VGG16; from 16 on"):
        network(torch.zeros(1, 3, 1, 8, 32), torch.zeros(1, 3, 1, 8, 32))
