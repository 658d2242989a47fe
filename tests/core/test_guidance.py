"""Guidance: a line through two answers, with a strength per unit."""

from __future__ import annotations

import pytest
import torch
from pyramid_video.samplers.guidance import PyramidGuidance, guide


def test_guidance_is_a_line_through_both_answers():
    negative, positive = torch.randn(2, 3), torch.randn(2, 3)
    torch.testing.assert_close(guide(negative, positive, 0.0), negative)
    torch.testing.assert_close(guide(negative, positive, 1.0), positive)
    torch.testing.assert_close(guide(negative, positive, 3.0), negative + 3 * (positive - negative))


def test_the_first_unit_has_its_own_strength():
    assert [PyramidGuidance(7.0, 5.0).scale(unit) for unit in range(3)] == [7.0, 5.0, 5.0]


def test_linear_guidance_falls_to_its_minimum():
    falling = PyramidGuidance(7.0, 5.0, linear=True, alpha=2.0, minimum=2.0)
    assert [falling.scale(unit) for unit in range(5)] == [7.0, 5.0, 3.0, 2.0, 2.0]


def test_only_the_first_strength_switches_guidance_off():
    assert not PyramidGuidance(first=0.0, video=5.0).enabled
    assert PyramidGuidance(first=1.0, video=0.0).enabled


@pytest.mark.parametrize("name", ("first", "video", "alpha", "minimum"))
@pytest.mark.parametrize("value", (-1.0, float("nan"), float("inf")))
def test_impossible_strengths_are_refused(name, value):
    with pytest.raises(ValueError, match=f"guidance {name} is"):
        PyramidGuidance(**{name: value})
