"""The measure of sharpness finds the real clip that was drawn, and tells a blurred one from it."""

from __future__ import annotations

import sys

import pytest
import torch
from conftest import ROOT
from PIL import Image, ImageDraw
from pyramid_video.training.data.captions import Combination
from pyramid_video.training.data.datasets import AnimationDataset
from pyramid_video.training.objectives.vae import figure
from torch.nn.functional import avg_pool3d

sys.path.append(str(ROOT / "benchmarks"))

from nearest_clip import nearest_clip  # noqa: E402
from sharpness import gradient_energy, measure, psnr  # noqa: E402


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    pictures = []
    for step in range(8):
        picture = Image.new("RGBA", (64, 64))
        pen = ImageDraw.Draw(picture)
        pen.ellipse((4, 4, 59, 59), fill=(150, 150, 160))
        pen.rectangle((8 + 5 * step, 24, 16 + 5 * step, 40), fill=(10, 200, 190))
        pictures.append(picture)
    pictures[0].save(folder / "ball.png", save_all=True, append_images=pictures[1:], duration=125)
    return AnimationDataset(folder, frames=5, split="all", size=48)


def test_psnr_of_a_known_error():
    video = torch.zeros(1, 3, 2, 4, 4)
    torch.testing.assert_close(psnr(video + 0.2, video), torch.tensor([20.0]), rtol=0, atol=1e-4)


@pytest.mark.parametrize("motion", ["still", "left", "down"])
def test_the_nearest_clip_of_a_real_one_is_that_one(dataset, motion):
    asked = Combination("ball", "yellow", motion, "medium")
    for other in ((0.31, 1.0, 0.0, 0.0), (0.77, 1.03, 2.4, -1.7)):  # phase, size, place
        real = dataset.clip_at(asked, *other)
        table = measure(real[None], nearest_clip(dataset, asked, real)[None])
        assert table["PSNR, all pixels (dB)"][1] > 27
        assert table["gradient energy, part of real"][1] == pytest.approx(1, abs=0.05)


def test_a_blurred_clip_has_less_gradient_energy_and_a_lower_psnr(dataset):
    asked = Combination("ball", "blue", "right", "large")
    real = dataset.clip(asked, torch.Generator().manual_seed(3))
    blurred = avg_pool3d(real, (1, 5, 5), 1, (0, 2, 2), count_include_pad=False)
    sharp, soft = (measure(clip[None], nearest_clip(dataset, asked, clip)[None]) for clip in (real, blurred))
    assert soft["gradient energy, part of real"][1] < 0.6
    assert soft["PSNR, figure (dB)"][1] < sharp["PSNR, figure (dB)"][1] - 5


def test_noise_outside_the_figure_is_none_of_the_figure(dataset):
    real = dataset.clip(Combination("ball", "white", "still", "small"), torch.Generator().manual_seed(0))[None]
    mask = figure(real)
    assert 0 < mask.mean() < 0.6
    noisy = torch.where(mask > 0, real, real - 0.5)
    table = measure(noisy, real)
    assert table["PSNR, figure (dB)"][1] > 100 and table["PSNR, all pixels (dB)"][1] < 20
    assert gradient_energy(real)[0] > 0
