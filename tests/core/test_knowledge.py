"""What a small model was made for is said before it runs, and nothing is said of what it knows."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from pyramid_video.host import use_host
from pyramid_video.host.folders import BUNDLED
from pyramid_video.host.standalone.host import StandaloneHost
from pyramid_video.models.knowledge import knowledge_of, read_table
from pyramid_video.nodes.conditioning import EncodePrompt, has_plain_border
from pyramid_video.nodes.sampling_notes import sampling_notes
from pyramid_video.recipes.emoji import sentences
from pyramid_video.recipes.emoji.recipe import SUBJECTS
from pyramid_video.training.data import captions

TEXT = BUNDLED / "text_encoders" / "pyramid_video_small_text.safetensors"
MODEL = BUNDLED / "diffusion_models" / "pyramid_video_small.safetensors"
VOCABULARY = knowledge_of(TEXT).vocabulary
CLIPS = knowledge_of(MODEL).clips


def test_the_table_speaks_of_the_files_beside_it_and_of_no_other():
    files = {path.relative_to(BUNDLED).as_posix() for path in BUNDLED.rglob("*.safetensors")}
    assert files == set(read_table())
    assert knowledge_of(Path("elsewhere/diffusion_models/pyramid_video_small.safetensors")).clips is None


@pytest.mark.parametrize("subject", VOCABULARY.subjects)
def test_captions_of_its_training_are_nothing_new(subject):
    for words in (
        f"a {subject} moving left on a blue background",
        f"White background, a large {subject} staying still.",
        f"A SHORT CLIP OF A {subject.upper()} THAT RISES, WITH A RED BACKGROUND BEHIND IT",
        f"{subject} on green",
    ):
        assert VOCABULARY.doubts(words) == []


@pytest.fixture
def no_slips(monkeypatch):
    monkeypatch.setattr(sentences.Words, "_mistyped", lambda words, text: text)


WHITE = "no background that it knows is named, and without one it is white"


def test_sentences_of_its_training_are_nothing_new(no_slips):
    generator = torch.Generator().manual_seed(1)
    for subject, background, motion in itertools.product(SUBJECTS, captions.BACKGROUNDS, captions.MOTIONS):
        text = sentences.sentence(captions.Combination(subject, background, motion), generator)
        assert set(VOCABULARY.doubts(text)) <= {"a subject keeps its own colours"}, text


def test_sentences_without_a_background_are_said_to_be_white(no_slips):
    generator = torch.Generator().manual_seed(2)
    for subject, motion in itertools.product(SUBJECTS, captions.MOTIONS):
        text, _ = sentences.unfinished(captions.Combination(subject, "red", motion), generator)
        (said,) = VOCABULARY.doubts(text)
        assert said.startswith(WHITE), text


NEW = {
    "a rabbit": [WHITE],
    "a tiger running": [WHITE, "no direction is named, so it stands still: left, right"],
    "a rabbit hopping on a green background": ["no direction is named"],
    "a rabbit that was hopping is standing still on green": ["never met was"],
    "a fish that falls from the sky": [WHITE],
    "a red rabbit moving left on a black background": ["a subject keeps its own colours"],
    "a red racing car driving to the right": [WHITE],
    "an orange tiger moves left on a blue background": [],
    "a black and white cow on green": [],
    "a tiger and a whale on a blue background": ["a clip has one subject"],
    "a rabbit on a green or red background": ["a clip has one background", "never met or"],
    "a dog on a blue background": ["only these subjects: tiger, rabbit"],
    "a tiger wearing a hat on a blue background": ["never met wearing, hat"],
    "a pig on a brown background": [WHITE],
    "two whales in the ocean": ["never met two"],
    "the sun rises over the ocean": [],
    "a killer whale on a dark blue wall": [],
    "It’s a tiger on blue, the tiger's going up": [],
    "blue background, green turtle goes up": [],
    "a turtle, green background, going up": [],
    "#1 tiger, green": [],
    "ein Hund": ["only these subjects", WHITE],
    "": ["the prompt is empty, so the clip shows anything"],
    "?!": ["the prompt has no words, so the clip shows anything"],
}


@pytest.mark.parametrize("prompt", NEW)
def test_what_it_never_met_is_named(prompt):
    doubts = VOCABULARY.doubts(prompt)
    assert len(doubts) == len(NEW[prompt])
    assert all(words in doubt for words, doubt in zip(NEW[prompt], doubts, strict=True))


def test_sizes_and_stages_that_it_was_not_made_for_are_named():
    frames, rows, columns = (CLIPS.frames - 1) // CLIPS.step + 1, CLIPS.height // CLIPS.cell, CLIPS.width // CLIPS.cell
    assert CLIPS.doubts("it", frames, rows, columns, CLIPS.stages) == []
    assert CLIPS.doubts("it", 3 * frames, rows, columns) == [], "a clip may go on"
    (said,) = CLIPS.doubts("it", frames, 2 * rows, 2 * columns, 1)
    assert f"{2 * CLIPS.width}x{2 * CLIPS.height} pixels and 1 stage are new" in said
    assert "a single frame is new" in CLIPS.doubts("it", 1, rows, columns)[0]
    assert CLIPS.doubts("it", frames, rows // 2, columns // 2, CLIPS.stages) == []
    assert "128x128 or 64x64 pixels" in said
    assert "128x128 pixels, 17" in replace(CLIPS, half=False).doubts("it", frames, rows // 2, columns // 2)[0]


@pytest.fixture
def host(tmp_path):
    host = StandaloneHost(output=tmp_path, silent=True)
    use_host(host)
    yield host
    use_host(None)


def test_the_words_of_a_prompt_reach_the_sampler_of_a_bundled_model_only(host):
    answer = EncodePrompt().encode(host.load_text_encoder(TEXT), "a dog")
    latent = {"samples": torch.zeros(1, 48, 5, 16, 16)}
    said = " ".join(sampling_notes(SimpleNamespace(clips=CLIPS, name="small"), latent, answer[0]))
    assert said.startswith("small on this prompt: it knows only these subjects") and "tiger" in said
    assert sampling_notes(SimpleNamespace(clips=None, name="mine"), latent, answer[0]) == []


def test_an_empty_prompt_is_noted(host):
    positive, latent = EncodePrompt().encode(host.load_text_encoder(TEXT), "")[0], torch.zeros(1, 48, 5, 16, 16)
    notes = sampling_notes(SimpleNamespace(clips=CLIPS, name="small"), {"samples": latent}, positive)
    assert notes == ["small on this prompt: the prompt is empty, so the clip shows anything that it knows."]


def test_a_plain_edge_is_told_from_a_photo():
    plain = torch.full((64, 64, 3), 0.4)
    plain[20:40, 20:40] = torch.rand(20, 20, 3)
    assert has_plain_border(plain + 0.01 * torch.randn(64, 64, 3)) and not has_plain_border(torch.rand(64, 64, 3))
