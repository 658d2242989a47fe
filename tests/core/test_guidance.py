"""Guidance: a line through two answers, with a strength per unit."""

from __future__ import annotations

import pytest
import torch
from pyramid_video.nodes.guidance import Guidance
from pyramid_video.samplers.guidance import ClipGuidance, PyramidGuidance, apply_cfg, optimized_scale
from pyramid_video.samplers.noise import double, halve


def test_guidance_is_a_line_through_both_answers():
    negative, positive = torch.randn(2, 3), torch.randn(2, 3)
    torch.testing.assert_close(apply_cfg(negative, positive, 0.0), negative)
    torch.testing.assert_close(apply_cfg(negative, positive, 1.0), positive)
    torch.testing.assert_close(apply_cfg(negative, positive, 3.0), negative + 3 * (positive - negative))


def test_the_first_unit_has_its_own_strength():
    assert [PyramidGuidance(7.0, 5.0).scale(unit) for unit in range(3)] == [7.0, 5.0, 5.0]


def test_linear_guidance_falls_to_its_minimum():
    falling = PyramidGuidance(7.0, 5.0, linear=True, alpha=2.0, minimum=2.0)
    assert [falling.scale(unit) for unit in range(5)] == [7.0, 5.0, 3.0, 2.0, 2.0]


def test_only_the_first_strength_switches_guidance_off():
    assert not PyramidGuidance(first=0.0, video=5.0).enabled
    assert PyramidGuidance(first=1.0, video=0.0).enabled


def test_only_the_coarsest_stages_are_guided():
    assert [PyramidGuidance(stages=2).guides(stage) for stage in range(3)] == [True, True, False]
    assert all(PyramidGuidance().guides(stage) for stage in range(3))
    assert not PyramidGuidance(first=0.0, stages=2).guides(0)
    with pytest.raises(ValueError, match="-1 guided stages"):
        PyramidGuidance(stages=-1)


@pytest.mark.parametrize("share", (0.0, 0.3, 1.0))
@pytest.mark.parametrize("zero_star", (False, True))
def test_a_share_of_the_guidance_acts_on_what_coarser_stages_have_drawn(share, zero_star):
    """Halved, the velocity is guided by that share; the detail that the stage adds is guided as ever."""
    negative, positive = torch.randn(2, 2, 3, 2, 4, 6, dtype=torch.float64)
    guided = PyramidGuidance(7.0, 5.0, zero_star=zero_star, coarse=share).combine(negative, positive, 1, 1)
    whole = apply_cfg(negative, positive, 5.0, zero_star)
    coarse = halve(positive) + share * (halve(whole) - halve(positive))
    torch.testing.assert_close(halve(guided), coarse)
    torch.testing.assert_close(guided - double(halve(guided)), whole - double(halve(whole)))


def test_the_block_passes_on_what_it_is_given():
    (made,) = Guidance().build(first_frame_scale=3.0, video_scale=2.0, guided_stages=2, coarse_guidance=0.3)
    assert made == PyramidGuidance(3.0, 2.0, stages=2, coarse=0.3) and not made.plain
    assert Guidance().build(first_frame_scale=3.0, video_scale=2.0) == (PyramidGuidance(3.0, 2.0),)


def test_with_one_guided_stage_nothing_is_left_to_share():
    assert PyramidGuidance(stages=1, coarse=0.0).plain and not PyramidGuidance(stages=2, coarse=0.0).plain


def test_the_first_stage_is_guided_whole():
    negative, positive = torch.randn(2, 1, 3, 1, 3, 5)  # an odd size, which cannot be halved
    guided = PyramidGuidance(7.0, coarse=0.0).combine(negative, positive, 0, 0)
    assert guided.equal(PyramidGuidance(7.0).combine(negative, positive, 0, 0))


@pytest.mark.parametrize("share", (-0.1, 1.5, float("nan")))
def test_impossible_shares_are_refused(share):
    with pytest.raises(ValueError, match="expected a share, 0 .detail alone. to 1"):
        PyramidGuidance(coarse=share)


@pytest.mark.parametrize("name", ("first", "video", "alpha", "minimum"))
@pytest.mark.parametrize("value", (-1.0, float("nan"), float("inf")))
def test_impossible_strengths_are_refused(name, value):
    with pytest.raises(ValueError, match=f"guidance {name} is"):
        PyramidGuidance(**{name: value})


@pytest.mark.parametrize("size", [(8, 8), (16, 12), (18, 10), (3, 5)])
def test_a_share_of_the_guidance_acts_on_large_areas_and_all_of_it_on_detail(size):
    """Plain areas are all coarse; a pattern that every block of four averages away has nothing coarse in it."""
    generator = torch.Generator().manual_seed(0)
    negative, colour = torch.randn(2, 2, 3, 4, 1, 1, generator=generator)
    negative = negative.expand(2, 3, 4, *size)
    plain = ClipGuidance(coarse=0.2).combine(negative, negative + colour, 3.5)
    torch.testing.assert_close(plain, negative + colour + 0.2 * 2.5 * colour)
    if all(side % 4 == 0 for side in size):
        rows, columns = (torch.arange(side) for side in size)
        pattern = ((rows[:, None] + columns) % 2 * 2.0 - 1).expand_as(negative)
        torch.testing.assert_close(
            ClipGuidance(coarse=0.2).combine(negative, negative + pattern, 3.5), negative + 3.5 * pattern
        )
    for zero_star in (False, True):
        whole = ClipGuidance(zero_star).combine(negative, negative + colour, 3.5)
        torch.testing.assert_close(whole, apply_cfg(negative, negative + colour, 3.5, zero_star), rtol=0, atol=0)
    assert ClipGuidance().plain and not ClipGuidance(True).plain and not ClipGuidance(coarse=0.9).plain
    with pytest.raises(ValueError, match="coarse guidance is 1.5; expected a share"):
        ClipGuidance(coarse=1.5)


def test_coarse_guidance_keeps_the_type_of_what_it_is_given():
    answers = torch.randn(2, 1, 3, 2, 8, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert ClipGuidance(coarse=0.0).combine(*answers, 3.0).dtype == torch.bfloat16


def test_cfg_zero_star_is_that_of_the_paper():
    """s = <positive, negative> / |negative|^2 for every row; velocity = s n + w (p - s n)."""
    negative, positive = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    s = [
        float(p.flatten() @ n.flatten() / (n.flatten() @ n.flatten())) for n, p in zip(negative, positive, strict=True)
    ]
    scaled = torch.stack([factor * row for factor, row in zip(s, negative, strict=True)])
    combined = PyramidGuidance(7.0, 5.0, zero_star=True).combine(negative, positive, 0, 0)
    torch.testing.assert_close(combined, scaled + 7.0 * (positive - scaled))
    rest = (positive - optimized_scale(positive, negative) * negative).flatten(1)
    torch.testing.assert_close((rest * negative.flatten(1)).sum(1), torch.zeros(2), rtol=0, atol=1e-5)


def test_cfg_zero_star_leaves_answers_that_differ_in_length_only():
    """Then the prompt adds nothing, and no strength may exaggerate it."""
    positive = torch.randn(2, 3, 4)
    negative = positive * torch.tensor([0.5, -3.0]).view(2, 1, 1)
    torch.testing.assert_close(PyramidGuidance(9.0, zero_star=True).combine(negative, positive, 0, 0), positive)
    zero = torch.zeros_like(positive)
    torch.testing.assert_close(PyramidGuidance(2.0, zero_star=True).combine(zero, positive, 0, 0), 2 * positive)


def test_steps_stand_still_in_the_first_stage_of_guided_runs_only():
    resting = PyramidGuidance(7.0, zero_star=True, zero_steps=2)
    assert [resting.is_zero_init(0, step) for step in range(4)] == [True, True, False, False]
    assert not resting.is_zero_init(1, 0)
    assert not PyramidGuidance(7.0, zero_steps=2).is_zero_init(0, 0)
    assert not PyramidGuidance(0.0, zero_star=True, zero_steps=2).is_zero_init(0, 0)
    with pytest.raises(ValueError, match="zero_steps is -1"):
        PyramidGuidance(zero_star=True, zero_steps=-1)
