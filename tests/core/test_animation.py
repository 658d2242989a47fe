"""Clips kept as animated pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from pyramid_video.drawings.animation import in_bytes, save_animation
from pyramid_video.drawings.contact_sheet import clip_sheet
from torch.nn.functional import avg_pool2d


def test_no_lines_are_drawn_around_what_moves(tmp_path):
    """Frames that hold only what changes are put together from blocks, whose edges can be seen on a plain colour."""
    figure = 0.25 + torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) / 2
    figure = avg_pool2d(figure, 5, 1, 2)[0].permute(1, 2, 0)
    clip = torch.tensor([0.94, 0.5, 0.08]).expand(12, 96, 96, 3).clone()
    for moment in range(12):
        clip[moment, 30:62, 5 + 4 * moment : 37 + 4 * moment] = figure
    with Image.open(save_animation([clip], tmp_path / "clip.webp", 8.0)) as kept:
        for moment in range(12):
            kept.seek(moment)
            error = np.abs(np.asarray(kept.convert("RGB")) / 255 - clip[moment].numpy()).max(-1)
            error[20:72, max(0, 5 + 4 * moment - 14) : 5 + 4 * moment + 46] = 0
            assert error.max() < 4 / 255, f"picture {moment}"


@pytest.mark.parametrize(
    ("height", "width", "shown"), [(16, 32, (64, 128)), (128, 128, (128, 128)), (480, 832, (117, 202))]
)
def test_frames_of_a_sheet_can_be_seen_and_five_fit_beside_each_other(height, width, shown):
    """A clip of 480p in its own size would send a picture of 4000 pixels through the page with every drawing."""
    sheet = clip_sheet([torch.rand(9, height, width, 3), torch.rand(9, height, width, 3)])
    assert sheet.size == (5 * (shown[1] + 2) - 2, 2 * (shown[0] + 2) - 2)
    assert sheet.width <= 1024


def test_many_large_clips_are_kept_in_rows(tmp_path):
    """Sixteen prompts are allowed, and a row of sixteen wide clips is more than a webp can hold."""
    clips = [torch.full((2, 8, 1280, 3), number / 15) for number in range(16)]
    with Image.open(save_animation(clips, tmp_path / "clips.webp", 8.0)) as kept:
        assert kept.size == (3 * 1282 - 2, 6 * 10 - 2)
        seen = np.asarray(kept.convert("RGB")) / 255
    for number in range(16):
        row, column = divmod(number, 3)
        assert abs(seen[10 * row + 4, 1282 * column + 640] - number / 15).max() < 0.02


def test_clips_in_bytes_are_drawn_as_those_in_floats_are(tmp_path):
    clips = [torch.rand(5, 24, 40, 3, generator=torch.Generator().manual_seed(seed)) * 1.2 - 0.1 for seed in range(3)]
    small = [in_bytes(clip) for clip in clips]
    assert all(clip.dtype == torch.uint8 and clip.shape == (5, 24, 40, 3) for clip in small)
    kept, wanted = (save_animation(each, tmp_path / name, 8.0) for each, name in ((small, "a.webp"), (clips, "b.webp")))
    assert kept.read_bytes() == wanted.read_bytes()
    assert clip_sheet(small).tobytes() == clip_sheet(clips).tobytes()
