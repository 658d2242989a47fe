"""What of the past a unit sees: each frame once, in order, ever coarser."""

from __future__ import annotations

import pytest
import torch
from pyramid_video.samplers.history import PyramidHistory, corrupt_clips, history_clips
from pyramid_video.samplers.noise import pyramid


def numbered(frames: int, size: int = 32) -> torch.Tensor:
    """A clip (1, 1, frames, size, size) whose frame i is filled with i, at every resolution."""
    return torch.arange(frames).float().view(1, 1, -1, 1, 1).expand(-1, -1, -1, size, size)


def layout(frames: int, stage: int, stages: int = 3, frames_per_unit: int = 1) -> list[tuple[list[int], int]]:
    """Which frames each history clip holds, and its width, oldest first."""
    clips = history_clips(pyramid(numbered(frames), stages), stage, frames_per_unit)
    return [(clip[0, 0, :, 0, 0].int().tolist(), clip.shape[-1]) for clip in clips]


def test_the_layout_of_the_paper():
    assert layout(5, 2) == [([0, 1, 2], 8), ([3], 16), ([4], 32)]
    assert layout(5, 1) == [([0, 1, 2, 3], 8), ([4], 16)]
    assert layout(5, 0) == [([0, 1, 2, 3], 8), ([4], 8)]


def test_a_short_past_leaves_out_empty_clips():
    assert layout(1, 2) == [([0], 32)]
    assert layout(2, 2) == [([0], 16), ([1], 32)]
    assert layout(1, 1) == [([0], 16)]
    assert layout(1, 0) == [([0], 8)]


@pytest.mark.parametrize("stages", (1, 2, 3, 5))
@pytest.mark.parametrize("frames", (1, 2, 4, 9))
@pytest.mark.parametrize("frames_per_unit", (1, 2, 3))
def test_every_frame_is_seen_once_in_order_and_never_finer_than_newer_ones(stages, frames, frames_per_unit):
    for stage in range(stages):
        clips = layout(frames, stage, stages, frames_per_unit)
        assert [frame for held, _ in clips for frame in held] == list(range(frames))
        widths = [width for _, width in clips]
        assert widths == sorted(widths)
        assert widths[-1] == 32 >> (stages - 1 - stage)


def test_units_of_several_frames_stay_whole():
    assert layout(7, 2, frames_per_unit=3) == [([0], 8), ([1, 2, 3], 16), ([4, 5, 6], 32)]


def test_corruption_mixes_noise_per_sample_newest_clip_first():
    clips = [torch.ones(2, 1, 3, 2, 2), torch.ones(2, 1, 1, 4, 4)]
    drawn = []

    def white(clip):
        drawn.append(tuple(clip.shape))
        return torch.full_like(clip, 5.0)

    strength = torch.tensor([0.0, 0.25]).view(-1, 1, 1, 1, 1)
    for clip, mixed in zip(clips, corrupt_clips(clips, strength, white), strict=True):
        assert torch.equal(mixed[0], clip[0])
        assert torch.equal(mixed[1], torch.full_like(clip[1], 0.25 * 5 + 0.75))
    assert drawn == [(2, 1, 1, 4, 4), (2, 1, 3, 2, 2)]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (dict(depth=0), "at least 1 latent frame"),
        (dict(noise=-0.1), "history noise is -0.1"),
        (dict(noise=1.0), "below 1"),
        (dict(start=torch.zeros(1, 16, 8, 8)), "batch, channel, frame, row, column"),
    ],
)
def test_bad_settings_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        PyramidHistory(**settings)
