"""A small state in a latent of full size: recognised, given back, and never taken for one of full size."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyramid_video.samplers.handover import hand_over, take_over
from pyramid_video.samplers.spectral import jump_up, resample

SIZES = ((4, 6), (8, 12), (16, 24))


def white(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1), st.floats(0.05, 14.0), st.integers(0, 99))
def test_what_was_handed_over_is_taken_over(stage, level, seed):
    """The state itself, and all of the noise that later jumps take."""
    noise = white(2, 4, 3, *SIZES[-1], seed=seed)
    state = 3 * white(2, 4, 3, *SIZES[stage], seed=seed + 1000)
    taken = take_over(hand_over(state, noise, level), level, SIZES)
    assert taken is not None and taken.stage == stage
    torch.testing.assert_close(taken.state, state, rtol=0, atol=1e-4)
    for size in SIZES[stage + 1 :]:
        jumped = jump_up(state, noise, 0.5, size)
        torch.testing.assert_close(jump_up(taken.state, taken.noise, 0.5, size), jumped, rtol=0, atol=1e-3)


@pytest.mark.parametrize("level", (0.3, 0.9))
def test_a_state_of_full_size_stays_what_it_is(level):
    data, noise = white(1, 16, 3, *SIZES[-1]), white(1, 16, 3, *SIZES[-1], seed=1)
    assert take_over((1 - level) * data + level * noise, level, SIZES) is None
    smooth = resample(white(1, 16, 3, 2, 2), SIZES[-1])  # a picture of hardly any detail is noisy, too
    assert take_over((1 - level) * smooth + level * noise, level, SIZES) is None
    full = white(1, 16, 3, *SIZES[-1])
    assert hand_over(full, noise, level) is full


def test_a_latent_of_other_stages_is_refused():
    left = hand_over(white(1, 4, 3, 6, 10), white(1, 4, 3, *SIZES[-1], seed=1), 0.8)
    with pytest.raises(ValueError, match="wire the same 'Pyramid stages"):
        take_over(left, 0.8, SIZES)


def test_no_number_is_wider_than_the_latent(monkeypatch):
    """Some devices know no float64."""
    noise = white(1, 4, 3, *SIZES[-1])
    left = hand_over(white(1, 4, 3, *SIZES[0], seed=1), noise, 0.5)
    monkeypatch.setattr(torch.Tensor, "double", None)
    assert take_over(left, 0.5, SIZES) is not None
