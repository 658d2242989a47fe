"""Keys and values kept from unit to unit: the same clip to the last bit, in less work, and only where it is true."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pyramid_video.host.standalone import sampling as standalone_sampling
from pyramid_video.host.standalone.sampling import Guider, PyramidSampler, sample
from pyramid_video.host.standalone.wires import Model
from pyramid_video.models import attention, checkpoints
from pyramid_video.models.kv_cache import KVCache
from pyramid_video.models.layers import AdaLayerNorm
from pyramid_video.samplers.guidance import PyramidGuidance
from pyramid_video.samplers.helios_history import HELIOS_UNITS, HeliosHistory
from pyramid_video.samplers.history import PyramidHistory
from pyramid_video.samplers.stages import make_stages
from pyramid_video.samplers.units import ONE_FRAME

FRAMES = 6


@pytest.fixture(scope="module")
def model(small_pyramid):
    network, info = checkpoints.load(small_pyramid, ("miniflux",), dtype=torch.float32)
    return Model(network, info, torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def small_pyramid():
    import pyramid_video

    return Path(pyramid_video.__file__).parent / "models/pretrained/diffusion_models/pyramid_video_small.safetensors"


def make_clip(model, monkeypatch, room, history=None):
    """The clip and how many tokens asked in all, with so many bytes to keep keys in."""
    asked = []
    attend = attention.attend

    def count(query, *rest):
        asked.append(query.shape[1])
        return attend(query, *rest)

    generator = torch.Generator().manual_seed(1)

    def prompt(words):
        tokens = torch.randn(1, words, model.info.text_width, generator=generator)
        return [[tokens, {"pooled_output": torch.randn(1, model.info.pooled_width, generator=generator)}]]

    guider = Guider(model, prompt(5), prompt(3), PyramidGuidance())
    latent = {"samples": torch.zeros(1, model.info.latent_channels, FRAMES, 8, 16)}
    sampler = PyramidSampler(make_stages(first_steps=1, video_steps=1), history)
    with monkeypatch.context() as patch:
        patch.setattr(attention, "attend", count)
        patch.setattr(standalone_sampling, "free_memory", lambda device: 2 * room)
        return sample(guider, sampler, latent, 7, None)["samples"], sum(asked)


def test_a_clip_is_the_same_to_the_last_bit_in_less_work(model, monkeypatch):
    plain, all_tokens = make_clip(model, monkeypatch, 0)
    kept, tokens = make_clip(model, monkeypatch, 2**30)
    assert torch.equal(kept, plain)
    assert tokens < 0.9 * all_tokens
    one_place = KVCache(10**9)
    one_place.take(0, lambda count: model.network.cache_shape(2, count), torch.empty(0), 5, 5 + 3 * 2)
    partly, some = make_clip(model, monkeypatch, 10**9 - one_place.room)
    assert torch.equal(partly, plain)
    assert tokens < some < all_tokens, "where memory is short, as much is kept as fits"


def test_what_modulates_is_made_once_for_each_stage_and_step(model, monkeypatch):
    calls, linear = [], AdaLayerNorm.make_vectors
    monkeypatch.setattr(AdaLayerNorm, "make_vectors", lambda norm, temb: calls.append(norm) or linear(norm, temb))
    make_clip(model, monkeypatch, 0)
    plain = len(calls)
    calls.clear()
    make_clip(model, monkeypatch, 2**30)
    # Of all units but the first, only the first that keeps anything makes them.
    assert len(calls) < plain * 0.7


def test_vectors_of_norms_count_as_memory():
    cache = KVCache(1000)
    kept = cache.take("a", lambda tokens: (1, 2, 1, tokens, 1, 4), torch.empty(0), 4, 10)
    kept.fresh.zero_()
    kept.modulation[0] = (torch.zeros(1, 1, 8), torch.zeros(1, 1, 8))
    cache.put("a", kept)
    assert cache.room == 1000 - 320 - 64
    cache.forget(lambda place: True)
    assert cache.room == 1000


@pytest.mark.parametrize("history", [PyramidHistory(depth=2), PyramidHistory(noise=0.2)], ids=["window", "noise"])
def test_nothing_is_kept_where_the_past_changes(model, monkeypatch, history):
    plain, all_tokens = make_clip(model, monkeypatch, 0, history)
    kept, tokens = make_clip(model, monkeypatch, 2**30, history)
    assert tokens == all_tokens and torch.equal(kept, plain)


def test_what_later_units_see_alike():
    whole = PyramidHistory()
    assert [whole.settled(5, 9, stage, ONE_FRAME) for stage in range(3)] == [5, 4, 3]
    assert whole.settled(1, 9, 2, ONE_FRAME) == 0, "the only frame is still seen sharp"
    assert PyramidHistory(depth=8).settled(5, 9, 0, ONE_FRAME) == 5, "a window that never slides"
    assert PyramidHistory(depth=7).settled(5, 9, 0, ONE_FRAME) == 0
    assert PyramidHistory(noise=0.1).settled(5, 9, 0, ONE_FRAME) == 0
    assert HeliosHistory().settled(18, 36, 0, HELIOS_UNITS) == 0


def test_what_turned_out_untrue_is_dropped_and_its_room_is_free_again():
    cache = KVCache(1000)

    def take(place):
        return cache.take(place, lambda tokens: (1, 2, 1, tokens, 1, 4), torch.empty(0), 4, 10)

    for place in ("a", "b"):
        kept = take(place)
        kept.fresh.zero_()
        cache.put(place, kept)
    assert take("a").tokens == 4 and cache.room == 1000 - 2 * 320
    assert take("c").past is None and take("d").fresh is None, "no room for a fourth"
    cache.forget(lambda place: place == "a")
    assert take("a").past is None and take("b").tokens == 4


@pytest.mark.parametrize(("share", "some"), [(0.8, True), (0.3, False)])
def test_where_memory_runs_out_the_clip_is_made_with_less_that_is_kept(model, monkeypatch, caplog, share, some):
    """A forward that finds no room because of what is kept is done again, and half as much is kept after it."""
    ask, caches, most, refused = Model.predict, [], [], []

    def watched(self, x, timestep, history, text, slot):
        caches[:] = caches if slot is None else [slot.cache]
        answer = ask(self, x, timestep, history, text, slot)
        most.append(kept_now())
        return answer

    def on_a_full_card(*given):
        answer = watched(*given)
        if kept_now() > share * enough:
            refused.append(kept_now())
            raise torch.cuda.OutOfMemoryError("the card is full")
        return answer

    def kept_now():
        return sum(entry.size for cache in caches for entry in cache.entries.values())

    monkeypatch.setattr(Model, "predict", watched)
    plain, _ = make_clip(model, monkeypatch, 2**30)
    enough = max(most)
    caches.clear()
    monkeypatch.setattr(Model, "predict", on_a_full_card)
    clip, _ = make_clip(model, monkeypatch, 2**30)
    assert torch.equal(clip, plain)
    assert refused and kept_now() <= share * enough
    assert (kept_now() > 0) == some, "of the three places here"
    assert "fewer keys are kept" in caplog.text


def test_a_forward_without_anything_kept_is_not_done_again(model, monkeypatch):
    asked = []

    def full(*_):
        asked.append(1)
        raise torch.cuda.OutOfMemoryError("the card is full")

    monkeypatch.setattr(Model, "predict", full)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        make_clip(model, monkeypatch, 2**30)
    assert asked == [1]


def test_room_that_is_not_there_any_more_is_not_missed():
    class Full:
        def element_size(self):
            return 4

        def new_empty(self, shape):
            raise torch.cuda.OutOfMemoryError("another process has it")

    cache = KVCache(1000)
    kept = cache.take("a", lambda tokens: (1, 2, 1, tokens, 1, 4), Full(), 4, 10)
    assert kept.past is None and kept.fresh is None and cache.room == 0
    cache.put("a", kept)
    assert not cache.entries and not cache.make_room()
