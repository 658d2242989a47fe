"""Official text encoders: our numbers are those of transformers as the official code runs it."""

from __future__ import annotations

import shutil
from contextlib import contextmanager

import pytest
import torch
import transformers
from official_folders import CLIP_G_WIDTH, CLIP_WIDTH, TEXT_WIDTH, write_text_folders
from pyramid_video.host.standalone import wires
from pyramid_video.models.checkpoints import CheckpointError, inspect
from pyramid_video.models.official_text import T5_TOKENS, check_folders, load_official_text

TEXTS = ["a tiger", "", "tiger " * 300, "zebra, hyper quality, Ultra HD, 8K", "\ud800 🐯 \x00"]


@pytest.fixture(scope="module", params=["miniflux", "sd3"])
def official(request, tmp_path_factory):
    folder = write_text_folders(tmp_path_factory.mktemp(request.param), request.param)
    return request.param, folder, load_official_text(folder, "cpu", torch.float32)


def t5_by_the_book(folder, number, text):
    """All 128 positions with their mask, cut to the real ones afterwards."""
    tokenizer = transformers.T5TokenizerFast.from_pretrained(folder / f"tokenizer_{number}")
    model = transformers.T5EncoderModel.from_pretrained(folder / f"text_encoder_{number}").eval()
    given = tokenizer(text, padding="max_length", max_length=128, truncation=True, return_tensors="pt")
    features = model(given.input_ids, attention_mask=given.attention_mask)[0]
    return features[:, : int(given.attention_mask.sum())]


def clip_by_the_book(folder, number, text, model_class):
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder / f"tokenizer{number}")
    model = model_class.from_pretrained(folder / f"text_encoder{number}").eval()
    ids = tokenizer(text, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
    return model(ids)


@pytest.mark.parametrize("text", TEXTS[:4], ids=range(4))
@torch.no_grad()
def test_numbers_are_those_of_transformers(official, text):
    kind, folder, encoders = official
    tokens, pooled = encoders.encode(text)
    if kind == "miniflux":
        expected = clip_by_the_book(folder, "", text, transformers.CLIPTextModel).pooler_output
        torch.testing.assert_close(tokens, t5_by_the_book(folder, 2, text), atol=0, rtol=0)
    else:
        model_class = transformers.CLIPTextModelWithProjection
        expected = torch.cat([clip_by_the_book(folder, n, text, model_class).text_embeds for n in ("", "_2")], -1)
        torch.testing.assert_close(tokens, t5_by_the_book(folder, 3, text), atol=0, rtol=0)
    torch.testing.assert_close(pooled, expected, atol=0, rtol=0)


@torch.no_grad()
def test_encoders_that_do_not_fit_on_the_card_read_on_the_cpu(official, monkeypatch, caplog):
    """T5 has 9.5 GB, the card that a transformer of 4 GB needs may have 8."""
    kind, folder, encoders = official
    on_card = []

    @contextmanager
    def full_card(network, device):
        on_card.append(network)
        try:
            if len(on_card) == len(encoders.networks):  # the last and largest
                raise torch.cuda.OutOfMemoryError("the card is full")
            yield
        finally:
            on_card.remove(network)

    monkeypatch.setattr(wires, "resident", full_card)
    model = wires.official_text_model(folder, torch.device("cuda", 0), torch.float32)
    ((tokens, extras),) = model.encode("a tiger")
    expected = encoders.encode("a tiger")
    assert torch.equal(tokens, expected[0]) and torch.equal(extras["pooled_output"], expected[1])
    assert not on_card and "on the CPU" in caplog.text


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_only_real_tokens_come_back(official, text):
    kind, _, encoders = official
    tokens, pooled = encoders.encode(text)
    assert 1 <= tokens.shape[1] <= T5_TOKENS and tokens.shape[2] == TEXT_WIDTH
    assert pooled.shape == (1, CLIP_WIDTH if kind == "miniflux" else CLIP_WIDTH + CLIP_G_WIDTH)
    assert torch.isfinite(tokens).all() and torch.isfinite(pooled).all()
    if not text:
        assert tokens.shape[1] == 1  # the end mark
    if len(text) > 1000:
        assert tokens.shape[1] == T5_TOKENS


def test_results_may_be_trained_on(official):
    tokens, pooled = official[2].encode("a tiger")
    assert not (tokens.is_inference() or pooled.is_inference() or tokens.requires_grad)


def test_type_is_the_one_asked_for(official):
    tokens, pooled = load_official_text(official[1], "cpu", torch.bfloat16).encode("tiger")
    assert tokens.dtype == pooled.dtype == torch.bfloat16


def test_the_kind_is_told_by_the_folders(official):
    kind, folder, _ = official
    assert inspect(folder).kind == check_folders(folder) == f"official_text_{kind}"


def test_a_missing_folder_is_named(official, tmp_path):
    kind, folder, _ = official
    for name in ("tokenizer_2", "text_encoder"):
        copy = shutil.copytree(folder, tmp_path / name)
        shutil.rmtree(copy / name)
        with pytest.raises(CheckpointError, match=rf"lacks {name};"):
            load_official_text(copy)


def test_encoders_in_each_others_place_are_named(official, tmp_path):
    copy = shutil.copytree(official[1], tmp_path / "copy")
    last = "_2" if official[0] == "miniflux" else "_3"
    shutil.rmtree(copy / f"text_encoder{last}")
    shutil.copytree(copy / "text_encoder", copy / f"text_encoder{last}")
    with pytest.raises(CheckpointError, match=r"is of a clip_text_model model|lacks tokenizer_3"):
        load_official_text(copy)


def test_pickled_encoders_are_not_opened(official, tmp_path):
    copy = shutil.copytree(official[1], tmp_path / "copy")
    (copy / "text_encoder" / "model.safetensors").rename(copy / "text_encoder" / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="no safetensors weights"):
        load_official_text(copy)


def test_missing_tensors_are_no_random_tensors(official, tmp_path):
    from safetensors.torch import load_file, save_file

    copy = shutil.copytree(official[1], tmp_path / "copy")
    file = copy / "text_encoder" / "model.safetensors"
    state = load_file(file)
    gone = next(key for key in state if key.endswith("layers.1.mlp.fc1.weight"))
    del state[gone]
    save_file(state, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lacks 1 tensors .*fc1\.weight"):
        load_official_text(copy)


def test_only_miniflux_does_without_the_projection_of_its_clip(official, tmp_path):
    from safetensors.torch import load_file, save_file

    kind, folder, encoders = official
    copy = shutil.copytree(folder, tmp_path / "copy")
    file = copy / "text_encoder" / "model.safetensors"
    state = load_file(file)
    state.pop("text_projection.weight", None)
    save_file(state, file, metadata={"format": "pt"})
    if kind == "sd3":
        with pytest.raises(CheckpointError, match=r"text_encoder lacks 1 tensors .*text_projection\.weight"):
            load_official_text(copy)
    else:
        pooled = load_official_text(copy, "cpu", torch.float32).encode("tiger")[1]
        torch.testing.assert_close(pooled, encoders.encode("tiger")[1], atol=0, rtol=0)


def test_a_damaged_file_is_one_sentence(official, tmp_path):
    copy = shutil.copytree(official[1], tmp_path / "copy")
    file = copy / "text_encoder" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match=r"text_encoder/model.safetensors is cut off") as caught:
        load_official_text(copy)
    assert "\n" not in str(caught.value)
