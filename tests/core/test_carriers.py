"""A graph is found in whatever carries it."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pyramid_video.host.standalone.video import Clip, write_mp4
from pyramid_video.runner.errors import WorkflowError
from pyramid_video.runner.workflow import from_json, read_workflow

PROMPT = {
    "1": {"class_type": "PrimitiveInt", "inputs": {"value": 3}},
    "2": {"class_type": "PrimitiveString", "inputs": {"value": "x"}},
}
UI = {"nodes": [{"id": 1, "type": "PrimitiveInt", "widgets_values": [3, "fixed"]}], "links": []}
PIXEL = Image.new("RGB", (4, 4))


def prompt_of(data) -> dict:
    return from_json(data, {}, "test.json").prompt


@pytest.mark.parametrize(
    "envelope",
    [
        {"prompt": PROMPT},
        {"output": PROMPT, "workflow": UI},  # what the editor's graphToPrompt gives
        {"workflow": PROMPT},
        {"workflow": json.dumps(PROMPT)},
        {"input": {"workflow": PROMPT, "images": [{"name": "a.png", "image": "..."}]}},  # of a render service
        {"client_id": "a", "prompt": PROMPT, "extra_data": {"extra_pnginfo": {"workflow": UI}}},  # a posted body
        {"123-abc": {"prompt": [0, "123-abc", PROMPT, {}, ["2"]], "outputs": {}}},  # an entry of /history
        {**PROMPT, "_comment": "made by me", "version": 2, "_notes": {"by": "me"}},
        [PROMPT],
        {"a": PROMPT, "b": PROMPT},  # the same twice is one
    ],
)
def test_envelopes_are_opened(envelope):
    assert prompt_of(envelope) == PROMPT


def test_two_graphs_in_a_file_are_told_apart():
    other = {"1": {"class_type": "PrimitiveInt", "inputs": {"value": 4}}}
    with pytest.raises(WorkflowError, match=r"holds 2 graphs: jobs\[0\], jobs\[1\]; put one of them into a file"):
        prompt_of({"jobs": [PROMPT, other]})


def test_an_envelope_without_end_is_no_workflow():
    deep: dict = {}
    for _ in range(50):
        deep = {"a": deep, "b": [deep, deep]}
    with pytest.raises(WorkflowError, match="is not a workflow"):
        prompt_of(deep)


def test_a_png_carries_a_workflow(tmp_path):
    texts = PngInfo()
    texts.add_text("prompt", json.dumps(PROMPT))
    texts.add_text("workflow", json.dumps(UI))
    PIXEL.save(tmp_path / "a.png", pnginfo=texts)
    workflow = read_workflow(tmp_path / "a.png", {})
    assert workflow.prompt == PROMPT and workflow.ui is not None


@pytest.mark.parametrize("ending", ["webp", "jpg"])
def test_exif_carries_a_workflow(tmp_path, ending):
    exif = Image.Exif()
    exif[0x0110] = f"prompt:{json.dumps(PROMPT)}"
    exif[0x010F] = f"workflow:{json.dumps(UI)}"
    PIXEL.save(tmp_path / f"a.{ending}", exif=exif)
    assert read_workflow(tmp_path / f"a.{ending}", {}).prompt == PROMPT


def test_a_file_is_what_its_first_bytes_say(tmp_path):
    exif = Image.Exif()
    exif[0x0110] = f"prompt:{json.dumps(PROMPT)}"
    PIXEL.save(tmp_path / "a.webp", exif=exif)
    (tmp_path / "a.webp").rename(tmp_path / "a.png")
    assert read_workflow(tmp_path / "a.png", {}).prompt == PROMPT


def test_the_comment_of_a_video_carries_a_workflow(tmp_path):
    comment = json.dumps({"prompt": json.dumps(PROMPT), "workflow": UI})  # as VideoHelperSuite writes it
    write_mp4(tmp_path / "a.mp4", Clip(torch.zeros(2, 16, 16, 3), Fraction(8)), {"comment": comment})
    assert read_workflow(tmp_path / "a.mp4", {}).prompt == PROMPT


def test_webm_carries_a_workflow(tmp_path):
    import av

    with av.open(str(tmp_path / "a.webm"), "w") as container:
        container.metadata.update({"prompt": json.dumps(PROMPT)})
        stream = container.add_stream("libvpx-vp9", rate=8)
        stream.width = stream.height = 16
        container.mux(stream.encode(av.VideoFrame.from_image(Image.new("RGB", (16, 16)))))
        container.mux(stream.encode(None))
    assert read_workflow(tmp_path / "a.webm", {}).prompt == PROMPT


def test_a_picture_without_a_workflow_is_told(tmp_path):
    PIXEL.save(tmp_path / "a.png")
    with pytest.raises(WorkflowError, match=r"a.png carries no workflow; only pictures and videos that were saved"):
        read_workflow(tmp_path / "a.png", {})


@pytest.mark.parametrize("start", ["<!DOCTYPE html>", "\n <html>", "<?xml version='1.0'?>"])
@pytest.mark.parametrize("name", ["a.json", "a.png", "a.mp4"])
def test_a_saved_web_page_is_told_with_what_to_do(tmp_path, start, name):
    (tmp_path / name).write_text(start + "<body></body>")
    with pytest.raises(WorkflowError, match=r"is a web page and not a workflow; .* button that downloads"):
        read_workflow(tmp_path / name, {})


@pytest.mark.parametrize("name", ["a.png", "a.JPG", "a.webp"])
def test_a_text_that_is_called_a_picture_cannot_be_read_as_one(tmp_path, name):
    (tmp_path / name).write_text("hello")
    with pytest.raises(WorkflowError, match=f"{name} cannot be read as a picture"):
        read_workflow(tmp_path / name, {})


@pytest.mark.parametrize("bytes_", [b"\x89PNG\r\n\x1a\nbroken", b"RIFF\0\0\0\0WEBPVP8 ", b"\xff\xd8\xff\xe0"])
def test_a_broken_picture_is_told(tmp_path, bytes_):
    (tmp_path / "a.png").write_bytes(bytes_)
    with pytest.raises(WorkflowError, match="cannot be read as a picture"):
        read_workflow(tmp_path / "a.png", {})
