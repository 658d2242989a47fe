"""The blocks that show: what they draw is what there is, and what they change they say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from pyramid_video.drawings.comparison import GAP, SMALLEST_LABELLED, STRIP, side_by_side
from pyramid_video.drawings.contact_sheet import channel_sheet, frame_sheet, standardised
from pyramid_video.drawings.history import HEAD, MARGIN, draw_contexts
from pyramid_video.drawings.pen import stage_colour
from pyramid_video.drawings.stages import BOTTOM, SQUARE, draw_stages, full_table
from pyramid_video.host import use_host
from pyramid_video.host.standalone.host import StandaloneHost
from pyramid_video.models.latent_format import LatentFormat
from pyramid_video.nodes import NODE_CLASS_MAPPINGS
from pyramid_video.samplers.context import plan_contexts
from pyramid_video.samplers.history import PyramidHistory
from pyramid_video.samplers.stages import make_stages
from pyramid_video.samplers.units import ONE_FRAME

RANDOM = torch.Generator().manual_seed(0)


@pytest.fixture
def host(tmp_path):
    standalone = StandaloneHost(output=tmp_path, silent=True)
    use_host(standalone)
    yield standalone
    use_host(None)


def run(node_id, **inputs):
    node = NODE_CLASS_MAPPINGS[node_id]()
    answer = getattr(node, node.FUNCTION)(**inputs)
    return answer["result"][0], answer["ui"]


def shown_file(host, ui):
    (entry,) = ui["images"]
    assert entry["type"] == "temp"
    return Image.open(host.temp_dir / entry["filename"])


def video_latent(frames=5, batch=1, channels=16):
    return {"samples": torch.randn(batch, channels, frames, 8, 16, generator=RANDOM)}


def test_the_table_of_a_ladder_adds_up():
    stages = make_stages(3)
    table = full_table(stages, 48, 80, 8)
    assert table["pixels"] == ["160x96", "320x192", "640x384"] and table["tokens"] == ["60", "240", "960"]
    assert table["noise"][0].startswith("1.00") and table["noise"][-1].endswith("0.00")
    assert table["timestep"][0].startswith("1000 to") and table["steps"] == ["20 / 10"] * 3


@pytest.mark.parametrize("shape", [(9, 16), (16, 9), (1, 1)])
def test_the_size_of_a_stage_is_drawn_in_the_shape_of_the_picture(shape):
    drawn = np.asarray(draw_stages(make_stages(1), shape=shape)).astype(int)
    rows, columns = np.nonzero(abs(drawn - stage_colour(0, 1)).sum(-1) == 0)
    below = rows > BOTTOM + 2
    sides = [np.ptp(rows[below]) + 1, np.ptp(columns[below]) + 1]
    assert sides == pytest.approx([SQUARE * side / max(shape) for side in shape], abs=5)  # the edge is drawn smooth


@pytest.mark.parametrize("count", [1, 3, 6])
def test_pictures_are_on_the_node_and_on_the_wire(host, count):
    stages, size = make_stages(count), {"samples": torch.zeros(1, 16, 4, 64, 64)}
    for node, inputs in (
        ("PyramidVideoStagePicture", {"stages": stages}),
        ("PyramidVideoHistoryPicture", {"stages": stages, "history": PyramidHistory(depth=2)}),
    ):
        image, ui = run(node, latent_image=size, **inputs)
        with shown_file(host, ui) as file:
            assert (1, file.height, file.width, 3) == image.shape
        assert 0 <= image.min() < image.max() <= 1


def test_a_frame_has_the_colour_of_the_resolution_that_it_is_seen_at():
    stages = make_stages(3)
    picture = draw_contexts(3, plan_contexts(stages, PyramidHistory(), ONE_FRAME, 5, 8, 8))
    field, cell, line = 300 + 64 + 24, 60, 40  # of the last stage: its left edge is two fields further
    last_row = [
        picture.getpixel((MARGIN + 2 * field + frame * cell + cell // 2, HEAD + 4 * line + line // 2))
        for frame in range(5)
    ]
    sizes = [0, 0, 1, 2, 2]  # oldest twice at the coarsest, then half, then the newest and the one in work at full size
    assert last_row == [stage_colour(size, 3) for size in sizes]


def test_frames_of_a_sheet_are_the_preview_of_the_latent():
    colours = torch.eye(3).tolist()
    latent_format = LatentFormat("plain", 0.0, 1.0, 0.0, 1.0, rgb_factors=colours, rgb_bias=(0.0, 0.0, 0.0))
    clip = torch.zeros(3, 4, 2, 2)
    for frame, channel in ((0, 0), (1, 1), (2, 2)):
        clip[channel, frame] = 1
    seen = {colour for _, colour in frame_sheet(clip, latent_format).getcolors(1 << 20)}
    assert {(255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0)} <= seen


def test_channels_do_not_change_with_scale_and_shift():
    latent = torch.randn(1, 6, 3, 8, 8, generator=RANDOM)
    moved = latent * torch.rand(6, generator=RANDOM).view(1, 6, 1, 1, 1) + torch.arange(6.0).view(1, 6, 1, 1, 1)
    torch.testing.assert_close(standardised(moved), standardised(latent), rtol=0, atol=1e-4)
    assert (standardised(torch.zeros(1, 2, 1, 4, 4)) == 0).all(), "a dead channel is grey"
    assert channel_sheet(standardised(latent)[0]).size[1] > 0


@pytest.mark.parametrize("view", ["frames", "channels"])
@pytest.mark.parametrize("frames", [1, 5, 40])
def test_the_latent_viewer_shows_every_clip_of_a_batch(host, view, frames):
    image, ui = run("PyramidVideoLatentViewer", samples=video_latent(frames, batch=2), view=view)
    assert len(image) == len(ui["images"]) == 2 and not torch.equal(*image)


def test_the_latent_viewer_refuses_pictures(host):
    with pytest.raises(ValueError, match="latents of pictures"):
        run("PyramidVideoLatentViewer", samples={"samples": torch.zeros(1, 4, 8, 8)}, view="frames")


def test_equal_clips_are_joined_as_they_are():
    clips = [torch.rand(4, 6, 8, 3, generator=RANDOM) for _ in range(3)]
    joined, sentences = side_by_side(clips, [])
    assert joined.shape == (4, 6, 3 * 8 + 2 * GAP, 3) and not sentences
    for number, clip in enumerate(clips):
        left = number * (8 + GAP)
        assert torch.equal(joined[:, :, left : left + 8], clip)


def test_other_sizes_and_lengths_are_brought_together_and_told():
    clips = [torch.rand(5, 10, 10, 3, generator=RANDOM), torch.rand(2, 5, 7, 4, generator=RANDOM)]
    joined, sentences = side_by_side(clips, [])
    assert torch.equal(joined[:, :10, :10], clips[0])
    second = joined[:, :, 10 + GAP : 10 + GAP + 14]
    assert all(torch.equal(second[1], frame) for frame in second[2:]), "its last frame is repeated"
    assert sentences == ["Clip 2: enlarged from 7x5 to 14x10, ends after 2 of 5 frames and repeats its last one."]


def test_what_happens_to_several_clips_is_said_once():
    small, large = torch.rand(3, 5, 7, 3), torch.rand(3, 10, 14, 3)
    assert side_by_side([small, large, small], [])[1] == ["Clips 1, 3: enlarged from 7x5 to 14x10."]
    assert side_by_side([large, large], ["one", "other"])[1] == ["All clips: enlarged from 14x10 to 280x200."]


@pytest.mark.parametrize("size", [(5, 5), (6, 9), (64, 64)])
def test_a_joined_clip_has_even_sides_and_room_for_labels(size):
    joined, _ = side_by_side([torch.zeros(1, *size, 3)] * 2, ["first"])
    assert joined.shape[1] >= SMALLEST_LABELLED + STRIP and not joined.shape[1] % 2 and not joined.shape[2] % 2
    strip = joined[0, : STRIP - 4]
    half = strip.shape[1] // 2
    assert strip[:, :half].max() > 0.5 > strip[:, half + GAP :].max(), "the first has a label, the second none"


def test_what_plays_on_the_node_is_small_and_what_goes_on_is_not(host):
    clips = {f"clip_{number}": torch.rand(2, 32, 2560, 3, generator=RANDOM) for number in (1, 2)}
    image, ui = run("PyramidVideoCompareClips", labels="", fps=10.0, **clips)
    with shown_file(host, ui) as file:
        assert file.n_frames == 2 and max(file.size) <= 1024 and image.shape[2] > 5000


def test_a_comparison_plays_on_the_node(host):
    clips = {f"clip_{number}": torch.rand(3, 64, 64, 3, generator=RANDOM) for number in (1, 2, 4)}
    image, ui = run("PyramidVideoCompareClips", labels="", fps=10.0, **clips)
    assert ui["animated"] == (True,) and "3 clips" in ui["text"][0]
    with shown_file(host, ui) as file:
        assert file.n_frames == 3 and file.size == (image.shape[2], image.shape[1])
