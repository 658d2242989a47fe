"""The cache of text features: every text is encoded once, and a batch gives back what was encoded."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch
from pyramid_video.models import text_encoder
from pyramid_video.training.data import text_cache
from pyramid_video.training.data.text_cache import prepare_texts

STRANGE = ["a fox 🦊", "A fox 🦊", "two\nlines", " spaced ", "café", "cafe\u0301", "half \ud83d", "x" * 3000]


class Encoder:
    """As many tokens as words and one more; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked = []

    def __call__(self, text):
        self.asked.append(text)
        mark = float(sum(map(ord, text)))
        return torch.arange(3.0).repeat(len(text.split()) + 1, 1) + mark, torch.full((2,), mark)


class Stop(Exception):
    pass


def test_texts_are_encoded_once_and_the_empty_one_is_always_there(tmp_path):
    encode = Encoder()
    prepare_texts(["a cat", "a dog", "a cat"], encode, tmp_path, "clip")
    assert encode.asked == ["", "a cat", "a dog"]
    found = prepare_texts(["a dog", "a bird"], encode, tmp_path, "clip")
    assert encode.asked == ["", "a cat", "a dog", "a bird"]
    assert set(found.features) == {"", "a dog", "a bird"}
    prepare_texts([], encode, tmp_path, "clip")
    assert len(encode.asked) == 4
    prepare_texts(["a dog"], encode, tmp_path, "another encoder")
    assert encode.asked[4:] == ["", "a dog"]


def test_texts_that_differ_in_a_letter_are_different(tmp_path):
    prepare_texts(STRANGE, Encoder(), tmp_path, "clip")
    encode = Encoder()
    found = prepare_texts(STRANGE, encode, tmp_path, "clip")
    assert encode.asked == []
    for text in ["", *STRANGE]:
        batch, (tokens, pooled) = found.batch([text]), encode(text)
        assert batch.mask is None and torch.equal(batch.tokens[0], tokens) and torch.equal(batch.pooled[0], pooled)


def test_a_batch_is_padded_as_the_encoder_itself_would(tmp_path):
    """Features and mask of the pack's own text encoder, text by text, against its batch."""
    texts = ["a red fox", "a", "the quick brown fox moves left on a blue background"]
    tokenizer = text_encoder.Tokenizer.train(texts, 300, 24)
    config = text_encoder.TextEncoderConfig(tokenizer.vocab_size, 16, 1, 2, tokenizer.max_tokens)
    network = text_encoder.TextEncoder(config)
    text_encoder.init_weights(network, torch.Generator().manual_seed(0))

    def encode(text):
        made = text_encoder.encode_texts(network, tokenizer, [text])
        return made.tokens[0], made.pooled[0]

    found = prepare_texts(texts, encode, tmp_path, "ours")
    captions = [texts[0], "", texts[2], texts[0]]
    batch = found.batch(captions)
    with torch.no_grad():
        wanted = text_encoder.encode_texts(network, tokenizer, captions)
    assert torch.equal(batch.mask, wanted.mask) and not batch.tokens[batch.mask == 0].any()
    torch.testing.assert_close(batch.tokens[batch.mask == 1], wanted.tokens[batch.mask == 1])
    torch.testing.assert_close(batch.pooled, wanted.pooled)


def test_a_stop_keeps_what_was_encoded(tmp_path, monkeypatch):
    monkeypatch.setattr(text_cache, "TEXTS_PER_FILE", 4)
    texts, encode, seen = [str(i) for i in range(10)], Encoder(), []

    def stop(done, total):
        seen.append((done, total))
        if done == 6:
            raise Stop

    with pytest.raises(Stop):
        prepare_texts(texts, encode, tmp_path, "clip", stop)
    assert seen == [(i, 11) for i in range(1, 7)] and len(encode.asked) == 6
    found = prepare_texts(texts, encode, tmp_path, "clip")
    assert encode.asked == ["", *texts] and set(found.features) == {"", *texts}


def test_a_full_disk_teaches_and_keeps_the_texts_of_before(tmp_path, monkeypatch):
    prepare_texts(["a cat"], Encoder(), tmp_path, "clip")

    def full(path, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="disk is full.*free some space") as caught:
        patch.setattr(Path, "write_bytes", full)
        prepare_texts(["a dog"], Encoder(), tmp_path, "clip")
    assert caught.value.errno == errno.ENOSPC
    encode = Encoder()
    assert "a cat" in prepare_texts(["a cat"], encode, tmp_path, "clip").features and not encode.asked


def flip_one_bit(data):
    return data[:-5] + bytes([data[-5] ^ 1]) + data[-4:]


@pytest.mark.parametrize("damage", (lambda data: data[: len(data) // 2], lambda data: b"", flip_one_bit))
def test_a_damaged_file_costs_its_own_texts_and_a_warning(tmp_path, caplog, damage):
    prepare_texts(["a cat"], Encoder(), tmp_path, "clip")
    (first,) = tmp_path.rglob("*.safetensors")
    prepare_texts(["a dog"], Encoder(), tmp_path, "clip")
    first.write_bytes(damage(first.read_bytes()))
    encode = Encoder()
    found = prepare_texts(["a dog", "a bird"], encode, tmp_path, "clip")
    assert encode.asked == ["", "a bird"] and set(found.features) == {"", "a dog", "a bird"}
    assert len(caplog.records) == 1 and first.name in caplog.text
    prepare_texts(["a cat", "a dog"], encode, tmp_path, "clip")
    assert encode.asked == ["", "a bird", "a cat"] and len(caplog.records) == 1


def test_features_made_in_inference_mode_can_be_learned_from(tmp_path):
    with torch.inference_mode():
        found = prepare_texts(["a cat"], Encoder(), tmp_path, "clip")
    weight = torch.ones(1, requires_grad=True)
    batch = found.batch(["a cat", ""])
    ((batch.tokens * weight).sum() + (batch.pooled * weight).sum()).backward()
    assert weight.grad.isfinite().all()


def test_features_that_share_memory_are_kept_apart(tmp_path):
    whole = torch.arange(12.0).view(4, 3)
    found = prepare_texts(["a"], lambda text: (whole[: 2 + len(text)], whole[0]), tmp_path, "clip")
    batch = found.batch(["", "a"])
    assert torch.equal(batch.tokens[1], whole[:3]) and batch.mask.tolist() == [[1, 1, 0], [1, 1, 1]]


def test_bad_input_is_told(tmp_path):
    found = prepare_texts(["a cat"], Encoder(), tmp_path, "clip")
    with pytest.raises(ValueError, match="no features.*'a cats'; the nearest is 'a cat'.*prepare this one"):
        found.batch(["a cats"])
    with pytest.raises(ValueError, match="no captions"):
        found.batch([])
    with pytest.raises(ValueError, match="the one text 'a cat'; expected a list"):
        prepare_texts("a cat", Encoder(), tmp_path, "clip")
    with pytest.raises(ValueError, match="encoder_key"):
        prepare_texts(["a cat"], Encoder(), tmp_path, "")
    with pytest.raises(ValueError, match=r"tokens \(1, 2, 3\).*expected tokens \(n, width\)"):
        prepare_texts(["x"], lambda text: (torch.zeros(1, 2, 3), torch.zeros(2)), tmp_path, "batched")
    with pytest.raises(ValueError, match=r"same widths for every text \(3 and 2\)"):
        prepare_texts(["x"], lambda text: (torch.zeros(2, 4), torch.zeros(2)), tmp_path, "clip")
    with pytest.raises(ValueError, match="not finite of 'x'"):
        prepare_texts(["x"], lambda text: (torch.full((2, 3), torch.nan), torch.zeros(2)), tmp_path, "clip")
