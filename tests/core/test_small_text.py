"""A text encoder learns new words for what another one knows, and the bundled one understands them."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from pyramid_video.host.folders import BUNDLED
from pyramid_video.models import checkpoints, text_encoder
from pyramid_video.recipes.emoji import equal_parts, small_text
from pyramid_video.recipes.emoji.recipe import SUBJECTS, TEXT, TEXT_FILE
from pyramid_video.recipes.emoji.sentences import flaws
from pyramid_video.training.data.captions import BACKGROUNDS, MOTIONS, SIZES, Combination, caption
from pyramid_video.training.run.train_settings import TrainSettings


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def known_by_parts(monkeypatch) -> dict[Combination, torch.Tensor]:
    """Features in which subject, background and motion have a direction each, as those of real encoders nearly do."""
    rng = generator()
    directions = {word: torch.randn(32, generator=rng) for word in ("tiger", "sun", "white", "blue", "left", "up")}
    rows = {
        Combination(*words): sum(directions[word] for word in words)
        for words in product(("tiger", "sun"), ("white", "blue"), ("left", "up"))
    }
    known = small_text.KnownFeatures(rows, torch.zeros(32), torch.stack(list(rows.values())).var(0).mean())
    monkeypatch.setattr(small_text.KnownFeatures, "of", lambda *given: known)
    monkeypatch.setattr(small_text, "TEXTS", 500)
    monkeypatch.setattr(small_text, "SHARES", {"caption": 0.8, "flaws": 0.1, "empty": 0.1})  # soon learned
    return rows


@pytest.fixture
def old(tmp_path) -> Path:
    """A models folder with a text encoder of these sizes."""
    tokenizer = text_encoder.Tokenizer.train(["a tiger moving left on a blue background"], 300, 48)
    config = text_encoder.TextEncoderConfig(tokenizer.vocab_size, 32, 1, 2, 48, pooled_width=48, summary=1)
    encoder = text_encoder.TextEncoder(config)
    extra = {"tokenizer": tokenizer.to_json()}
    checkpoints.save(tmp_path / "old" / TEXT_FILE, encoder.state_dict(), "text_encoder", config, extra=extra)
    return tmp_path / "old"


def features(models: Path, texts: list[str]) -> torch.Tensor:
    info = checkpoints.inspect(models / TEXT_FILE, ["text_encoder"])
    encoder, _ = checkpoints.load(info.path, ["text_encoder"])
    tokenizer = checkpoints.load_tokenizer(info)
    with torch.no_grad():
        return equal_parts.summaries_of(encoder.eval().float(), tokenizer, texts)


def test_new_words_come_to_mean_what_old_ones_do(known_by_parts, old, tmp_path):
    settings = TrainSettings(100, learning_rate=1e-2, warmup_steps=10, optimizer="muon", ema_decay=0.9)
    recipe = replace(TEXT, new_words={"layers": 1, "vocab_size": 600, "max_tokens": 64})
    trained = small_text.train_text(old, tmp_path / "run", settings, batch_size=32, recipe=recipe)
    trained.export(tmp_path / "new")
    meanings, rows = list(known_by_parts), torch.stack(list(known_by_parts.values()))
    rng = generator(1)
    said = features(tmp_path / "new", [caption(meaning, rng) for meaning in meanings for _ in range(8)])
    right = (torch.cdist(said, rows).argmin(1) == torch.arange(len(meanings)).repeat_interleave(8)).float().mean()
    assert right > 0.8, "of 8 meanings, 1 in 8 by chance"
    for text in ("", flaws(rng)):
        row = features(tmp_path / "new", [text])
        assert row.norm() < torch.cdist(row, rows).min()


def test_every_kind_of_text_is_to_mean_what_it_says(known_by_parts, monkeypatch):
    known = small_text.KnownFeatures.of()
    white = torch.stack([row for meaning, row in known_by_parts.items() if meaning.background == "white"])
    for kind, rows in (
        ("sentence", known_by_parts.values()),
        ("caption", known_by_parts.values()),
        ("unfinished", white),
        ("flaws", [known.empty]),
        ("empty", [known.empty]),
    ):
        monkeypatch.setattr(small_text, "SHARES", {kind: 1.0})
        texts, wanted = known.draw(12, generator(3))
        assert all(any(torch.equal(row, other) for other in rows) for row in wanted)
        assert all(texts) == (kind != "empty")
        if kind in ("sentence", "caption"):  # the rows are those of the subjects that the texts name
            tigers = {tuple(row.tolist()) for meaning, row in known_by_parts.items() if meaning.subject == "tiger"}
            suns = {tuple(row.tolist()) for meaning, row in known_by_parts.items() if meaning.subject == "sun"}
            for text, row in zip(texts, wanted, strict=True):
                assert "tiger" not in text.lower() or tuple(row.tolist()) in tigers
                assert "sun" not in text.lower().split() or tuple(row.tolist()) in suns


def test_what_an_encoder_knows_is_the_mean_of_its_captions(old, monkeypatch):
    monkeypatch.setattr(small_text, "SUBJECTS", ("tiger",))
    monkeypatch.setattr(small_text, "CAPTIONS", 3)
    info = checkpoints.inspect(old / TEXT_FILE, ["text_encoder"])
    encoder, tokenizer = checkpoints.build(info).eval(), checkpoints.load_tokenizer(info)
    known = small_text.KnownFeatures.of(encoder, tokenizer, generator(5))
    assert len(known.rows) == len(BACKGROUNDS) * len(MOTIONS) * len(SIZES)
    rng, (first, row) = generator(5), next(iter(known.rows.items()))
    texts = [caption(first, rng) for _ in range(3)]
    torch.testing.assert_close(row, features(old, texts).mean(0))
    torch.testing.assert_close(known.empty, features(old, [""])[0])
    assert known.variance > 0


def test_the_vector_of_a_text_says_all_parts_alike():
    """Two texts are as far apart as what they say: a size counts as much as a background, no text as nothing."""
    info = checkpoints.inspect(BUNDLED / TEXT_FILE, ["text_encoder"])
    encoder, tokenizer = checkpoints.build(info, dtype=torch.float32).eval(), checkpoints.load_tokenizer(info)
    equal_parts.fit_pool(encoder, tokenizer)
    meanings = [Combination(*parts) for parts in product(SUBJECTS[::4], BACKGROUNDS, MOTIONS, SIZES)]
    rng = generator(7)
    with torch.no_grad():
        summaries = equal_parts.summaries_of(encoder, tokenizer, [caption(meaning, rng) for meaning in meanings])
        pooled, empty = encoder.pool(summaries), encoder.pool(equal_parts.summaries_of(encoder, tokenizer, [""]))
    assert empty.norm() < 0.05 * pooled.norm(dim=1).mean()
    said = equal_parts.indicators(meanings) * (pooled.shape[1] / 36) ** 0.5
    far, wanted = torch.pdist(pooled), torch.pdist(said)
    assert (far / wanted).mean() == pytest.approx(1, abs=0.1) and (far / wanted).std() < 0.1


def test_a_vector_too_narrow_for_all_parts_is_told():
    encoder = SimpleNamespace(config=SimpleNamespace(pooled_width=35))
    with pytest.raises(ValueError, match="has 35 features, and .* are 36 together: give the text encoder a width of"):
        equal_parts.fit_pool(encoder, None)


@pytest.fixture(scope="module")
def known() -> tuple[list[Combination], torch.Tensor]:
    """The features by which the bundled transformers know things of medium size."""
    meanings = [Combination(*parts) for parts in product(SUBJECTS, BACKGROUNDS, MOTIONS)]
    rng = generator(2)
    return meanings, features(BUNDLED, [caption(meaning, rng) for meaning in meanings])


def understood(known: tuple[list[Combination], torch.Tensor], text: str) -> Combination:
    meanings, rows = known
    return meanings[int(torch.cdist(features(BUNDLED, [text]), rows).argmin())]


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("bunny scurrying eastwards, navy wall", ("rabbit", "blue", "right")),
        ("A bee climbs higher and higher before a scarlet curtain.", ("honeybee", "red", "up")),
        ("in the snow a python refuses to budge", ("snake", "white", "still")),
        ("violet background, race car being dragged to the left edge", ("racing car", "purple", "left")),
        ("an xmas tree plummets, jet-black backdrop, 4k, masterpiece", ("christmas tree", "black", "down")),
        ("a red pig on a green background does nothing", ("pig", "green", "still")),
        ("a whale", ("whale", "white", "still")),
    ],
)
def test_the_bundled_encoder_understands_people(known, text, meaning):
    assert understood(known, text) == Combination(*meaning)


def test_the_bundled_encoder_takes_flaws_for_nothing(known):
    empty = features(BUNDLED, [""])[0]
    for text in ("blurry, low quality, watermark", "ugly, deformed, jitter"):
        row = features(BUNDLED, [text])[0]
        assert (row - empty).norm() < 0.3 * torch.cdist(row[None], known[1]).min()
