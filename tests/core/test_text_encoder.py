"""Our text encoder and its tokenizer: padding is invisible, and any text is taken."""

from __future__ import annotations

import pytest
import torch
from pyramid_video.models.text_encoder import (
    BYTES,
    END,
    PAD,
    TextEncoder,
    TextEncoderConfig,
    Tokenizer,
    init_weights,
    normalize_text,
)

TEXTS = ["a tiger on a red background moving left", "the whale swims to the right", "", "a racing car, yellow"]
ODD_TEXTS = [
    "",
    "   \n\t ",
    "\x00\x01\x1f\x7f\ufeff",
    "\ud800 half \udfff",
    "<pad> <end> </s> [PAD]",
    "字 🐯 \u202e e\u0301\u0316",
    "\U0010ffff",
    "a" * 300_000,
    "\u0301\u0316" * 100_000,
    " " * 300_000 + "tiger",
    "word " * 10_000,
]


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(TEXTS * 3, vocab_size=320, max_tokens=16)


@pytest.fixture(scope="module", params=(0, 3), ids=("tokens", "summary"))
def encoder(tokenizer, request):
    sizes = {"width": 24, "layers": 2, "heads": 3, "max_tokens": 16, "pooled_width": 20, "summary": request.param}
    config = TextEncoderConfig(tokenizer.vocab_size, **sizes)
    network = TextEncoder(config)
    init_weights(network, torch.Generator().manual_seed(0))
    return network.eval()


@pytest.mark.parametrize("text", ODD_TEXTS, ids=range(len(ODD_TEXTS)))
def test_any_text_becomes_ids_that_end_and_fit(tokenizer, text):
    ids = tokenizer.encode(text)
    assert ids[-1] == END and ids.count(END) == 1 and PAD not in ids
    assert len(ids) <= tokenizer.max_tokens
    assert max(ids) < tokenizer.vocab_size


def test_no_text_spells_the_marks_of_the_tokenizer(tokenizer):
    assert len(tokenizer.encode("<end>")) > 2


def test_case_spacing_and_compatible_letters_make_no_difference(tokenizer):
    plain = tokenizer.encode("a tiger moving left")
    assert tokenizer.encode("  A TIGER\n\nmoving\tLeft ") == plain
    assert tokenizer.encode("ａ ｔｉｇｅｒ moving left") == plain
    assert tokenizer.encode("a tiger moving right") != plain


def test_ids_hold_the_whole_text(tokenizer):
    for text in ("a tiger", "字 🐯", "naïve café"):
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_words_beyond_the_limit_change_nothing(tokenizer):
    long = "tiger " * 100
    assert len(tokenizer.encode(long)) == tokenizer.max_tokens
    assert tokenizer.encode(long) == tokenizer.encode(long + "whale " * 10_000)


def test_json_gives_the_same_tokenizer(tokenizer):
    again = Tokenizer.from_json(tokenizer.to_json())
    assert (again.max_tokens, again.vocab_size) == (tokenizer.max_tokens, tokenizer.vocab_size)
    for text in (*TEXTS, *ODD_TEXTS):
        assert again.encode(text) == tokenizer.encode(text)


def test_a_vocabulary_without_room_for_all_bytes_is_refused():
    with pytest.raises(ValueError, match="too small"):
        Tokenizer.train(TEXTS, vocab_size=BYTES)


def test_a_batch_is_its_texts_padded_to_the_longest(tokenizer):
    ids, mask = tokenizer.batch(TEXTS)
    assert ids.shape == mask.shape and mask.sum(1).max() == ids.shape[1]
    for row, real, text in zip(ids, mask.bool(), TEXTS, strict=True):
        assert row[real].tolist() == tokenizer.encode(text)
        assert (row[~real] == PAD).all()


def test_a_text_in_a_batch_equals_the_text_alone(tokenizer, encoder):
    tokens, pooled = encoder(*tokenizer.batch(TEXTS))
    for row, text in enumerate(TEXTS):
        ids = torch.tensor([tokenizer.encode(text)])
        alone, alone_pooled = encoder(ids)
        assert alone.shape[1] == (encoder.config.summary or ids.shape[1])
        torch.testing.assert_close(tokens[row : row + 1, : alone.shape[1]], alone, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(pooled[row : row + 1], alone_pooled, atol=1e-5, rtol=1e-5)
    assert tokens.shape[2] == 24 and pooled.shape == (len(TEXTS), 20)


def test_padding_gets_no_gradient_and_every_weight_does(tokenizer, encoder):
    ids, mask = tokenizer.batch(TEXTS)
    tokens, pooled = encoder(ids, mask)
    real = tokens if encoder.config.summary else tokens * mask[..., None]
    real.square().sum().add(pooled.square().sum()).backward()
    grads = {name: parameter.grad for name, parameter in encoder.named_parameters()}
    encoder.zero_grad(set_to_none=True)
    assert all(grad is not None and torch.isfinite(grad).all() for grad in grads.values())
    assert grads["tokens.weight"][PAD].abs().sum() == 0
    assert grads["tokens.weight"][END].abs().sum() > 0


def test_word_order_is_seen(tokenizer, encoder):
    _, one = encoder(*tokenizer.batch(["tiger left whale right"]))
    _, other = encoder(*tokenizer.batch(["whale left tiger right"]))
    assert (one - other).abs().max() > 1e-3


def test_config_survives_a_dictionary_and_names_what_is_wrong():
    config = TextEncoderConfig(300, 24, 2, 3, 16)
    assert config.pooled_width == 24
    assert TextEncoderConfig.from_dict(config.to_dict()) == config
    with pytest.raises(ValueError, match="colour"):
        TextEncoderConfig.from_dict({**config.to_dict(), "colour": 1})
    with pytest.raises(ValueError, match="lack heads, layers"):
        TextEncoderConfig.from_dict({"vocab_size": 300, "width": 24, "max_tokens": 16})
    with pytest.raises(ValueError, match="heads"):
        TextEncoderConfig(300, 25, 2, 3, 16)
    assert TextEncoderConfig.from_dict({k: v for k, v in config.to_dict().items() if k != "summary"}) == config
    with pytest.raises(ValueError, match="summary is -1"):
        TextEncoderConfig(300, 24, 2, 3, 16, summary=-1)
    with pytest.raises(ValueError, match="layers is 0"):
        TextEncoderConfig(300, 24, 0, 3, 16)


def test_too_many_tokens_are_refused(encoder):
    with pytest.raises(ValueError, match="17 tokens"):
        encoder(torch.zeros(1, 17, dtype=torch.long))


@pytest.mark.parametrize("text", ["A Tiger  moves left", "tiger " * 50, "\U0001f42f" * 9, "", "naïve ﬁsh " * 12])
def test_what_is_read_and_what_is_cut_are_the_text(text):
    tokenizer = Tokenizer.train(["a tiger moves left", "a fish"], 300, max_tokens=16)
    read, cut = tokenizer.split(text)
    whole = normalize_text(text)
    assert whole.startswith(read) and len(tokenizer.encode(read)) <= 16
    assert read + (" " if whole[len(read) :].startswith(" ") else "") + cut == whole
    assert bool(cut) == (len(text) > 30 or text.startswith("\U0001f42f"))
