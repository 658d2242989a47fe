"""What the pyramid learns from: pairs that the sampler's own path joins, over all units, stages and noise levels."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pyramid_video.models.text_features import TextFeatures
from pyramid_video.samplers.noise import double, halve, noise_pyramid, pyramid
from pyramid_video.samplers.stages import make_stages
from pyramid_video.training.batch import Batch
from pyramid_video.training.objectives.draw import UNIFORM, GeneratorDraw
from pyramid_video.training.objectives.pyramid import (
    BEGINNINGS,
    PyramidObjective,
    drop_captions,
    pyramid_batch,
    pyramid_loss,
    random_units,
    relative_loss,
)
from torch import nn

STAGES = make_stages()


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_columns(latent, units, ratios=(1, 1, 1), seed=0, **options):
    return pyramid_batch(latent, STAGES, ratios, units, GeneratorDraw(seeded(seed)), **options)


def test_following_the_target_from_a_noisy_clip_ends_where_the_stage_ends():
    """x - sigma * velocity is where the stage ends, x + (1 - sigma) * velocity where it starts."""
    latent = torch.randn(3, 4, 4, 8, 8)
    noise = noise_pyramid(GeneratorDraw(seeded(0)).normal(latent.shape), 3)
    levels = pyramid(latent, 3)
    for column in make_columns(latent, (4, 4, 4)):
        window, last = STAGES.stages[column.stage], slice(3, 4)
        sigma = column.sigma.view(-1, 1, 1, 1, 1)
        clean, white = (part[column.stage][column.samples, :, last] for part in (levels, noise))
        end = window.sigma_end * white + (1 - window.sigma_end) * clean
        torch.testing.assert_close(column.clips[-1] - sigma * column.target, end, rtol=0, atol=1e-5)
        start = column.clips[-1] + (1 - sigma) * column.target
        coarse = double(halve(clean)) if column.stage else 0.0
        expected = window.sigma_start * white + (1 - window.sigma_start) * coarse
        torch.testing.assert_close(start, expected, rtol=0, atol=1e-5)


def test_clean_history_is_the_past_of_the_trained_unit():
    latent = torch.randn(3, 4, 5, 8, 8)
    low, mid, high = make_columns(latent, (2, 3, 5), history_noise=0.0)
    levels = pyramid(latent, 3)
    for clip, wanted in zip(low.clips[:-1], [levels[0][0:1, :, :1]], strict=True):
        torch.testing.assert_close(clip, wanted)
    for clip, wanted in zip(mid.clips[:-1], [levels[0][1:2, :, :1], levels[1][1:2, :, 1:2]], strict=True):
        torch.testing.assert_close(clip, wanted)
    wanted = [levels[0][2:3, :, :2], levels[1][2:3, :, 2:3], levels[2][2:3, :, 3:4]]
    for clip, expected in zip(high.clips[:-1], wanted, strict=True):
        torch.testing.assert_close(clip, expected)


def test_history_is_never_noisier_than_a_third():
    latent = torch.zeros(300, 1, 2, 8, 8)
    strengths = torch.cat([c.clips[0].flatten(1).std(1) for c in make_columns(latent, (2, 2, 2)) if c.stage == 2])
    assert strengths.max() < 0.4 and strengths.min() < 0.05
    assert strengths.mean().item() == pytest.approx(1 / 6, rel=0.15)


def test_noise_levels_in_a_stage_are_distributed_as_asked():
    latent = torch.zeros(3000, 1, 1, 4, 4)
    even, early = (
        torch.cat([column.sigma for column in make_columns(latent, (1, 1, 1), timesteps=timesteps)]).double()
        for timesteps in (UNIFORM, BEGINNINGS)
    )
    quantiles = torch.linspace(0.1, 0.9, 9, dtype=torch.float64)
    torch.testing.assert_close(even.quantile(quantiles), quantiles, rtol=0, atol=0.03)
    logits = early.clamp(1e-3, 1 - 1e-3).logit()
    assert logits.mean() == pytest.approx(BEGINNINGS.mean, abs=0.05)
    assert logits.std() == pytest.approx(BEGINNINGS.deviation, abs=0.05)


def test_every_sample_serves_one_stage_and_all_are_used():
    columns = make_columns(torch.randn(8, 4, 3, 8, 8), (1, 2, 3), ratios=(1, 2, 1))
    assert [column.stage for column in columns] == [0, 1, 1, 2]
    assert sorted(row for column in columns for row in list(range(8))[column.samples]) == list(range(8))


def test_whole_clips_have_no_history():
    columns = make_columns(torch.randn(3, 4, 5, 8, 8), None)
    assert [len(column.clips) for column in columns] == [1, 1, 1]
    assert [tuple(column.target.shape) for column in columns] == [(1, 4, 5, 2, 2), (1, 4, 5, 4, 4), (1, 4, 5, 8, 8)]


def test_timesteps_fill_the_window_of_their_stage():
    columns = make_columns(torch.zeros(3000, 1, 1, 4, 4), (1, 1, 1))
    for column, window in zip(columns, STAGES.stages, strict=True):
        assert window.timestep_end < column.timestep.min() and column.timestep.max() <= window.timestep_start
        assert column.sigma.mean().item() == pytest.approx(0.5, abs=0.05)
        expected = torch.tensor([window.timestep(sigma) for sigma in column.sigma.tolist()])
        torch.testing.assert_close(column.timestep, expected, rtol=0, atol=1e-3)


def test_a_generator_is_a_batch():
    latent = torch.randn(3, 4, 4, 8, 8)
    first, again = make_columns(latent, (3, 3, 3), seed=4), make_columns(latent, (3, 3, 3), seed=4)
    for a, b in zip(first, again, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a.clips, b.clips, strict=True))
    assert not torch.equal(first[0].target, make_columns(latent, (3, 3, 3), seed=5)[0].target)


def test_loss_weighs_rows_alike_whatever_their_size():
    columns = make_columns(torch.randn(4, 4, 2, 8, 8), (2, 2, 2), ratios=(2, 1, 1))
    off_by = (1.0, 2.0, 3.0, 4.0)
    answers = [column.target + shift for column, shift in zip(columns, off_by, strict=True)]
    assert pyramid_loss(answers, columns).item() == pytest.approx(sum(n * n for n in off_by) / 4, rel=1e-5)
    half = [answer.half() for answer in answers]
    assert pyramid_loss(half, columns).dtype == torch.float32


@pytest.mark.parametrize(
    ("batch", "ratios", "units", "words"),
    [
        (5, (1, 2, 1), (1, 1, 1), "nearest is 4"),
        (3, (1, 2), (1, 1, 1), "one per stage"),
        (3, (0, 0, 0), (1, 1, 1), "one per stage"),
        (3, (1, 1, 1), (1, 1), "units per stage"),
        (3, (1, 1, 1), (1, 0, 1), "at least 1"),
    ],
)
def test_batches_that_do_not_fit_are_refused(batch, ratios, units, words):
    with pytest.raises(ValueError, match=words):
        make_columns(torch.zeros(batch, 1, 2, 8, 8), units, ratios)


@pytest.mark.parametrize("clip_units", (1, 2, 5, 16))
def test_random_units_cover_the_clip_at_every_stage_with_even_work(clip_units):
    generator = seeded(0)
    drawn = [random_units(clip_units, generator) for _ in range(60 * clip_units)]
    for stage in range(3):
        assert {units[stage] for units in drawn} == set(range(1, clip_units + 1))
    assert {low + high for low, _, high in drawn} == {clip_units + 1}


def test_captions_are_dropped_as_often_as_asked():
    captions = [str(n) for n in range(2000)]
    kept = drop_captions(captions, 0.1, GeneratorDraw(seeded(0)))
    assert all(caption in ("", original) for caption, original in zip(kept, captions, strict=True))
    assert kept.count("") == pytest.approx(200, rel=0.2)
    assert drop_captions(captions, 0.0, GeneratorDraw(seeded(0))) == captions
    assert set(drop_captions(captions, 1.0, GeneratorDraw(seeded(0)))) == {""}


class Guess(nn.Module):
    """Answers with one learned number, and notes what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.number = nn.Parameter(torch.tensor(0.5))
        self.rows: list[int] = []

    def forward(self, clips, timestep, text, mask, pooled):
        assert len(timestep) == len(text) == len(pooled) == len(clips[-1])
        assert all(level.shape[2] >= 1 for level in clips)
        self.rows += text[:, 0, 0].int().tolist()
        return torch.zeros_like(clips[-1]) + self.number


@pytest.mark.parametrize("masked", (False, True))
def test_the_objective_gives_each_sample_its_own_text_and_trains(masked):
    network, batch = Guess(), 8
    text = torch.arange(batch).float().view(-1, 1, 1).expand(-1, 3, 2)
    mask = torch.ones(batch, 3, dtype=torch.long) if masked else None
    learned = Batch(torch.randn(batch, 4, 3, 8, 8), TextFeatures(text, mask, text[:, 0]))
    losses = PyramidObjective(STAGES)({"transformer": network}, learned, seeded(1))
    assert network.rows == [0, 4, 1, 5, 2, 6, 3, 7]
    assert set(losses) == {"loss", "stage_0", "stage_1", "stage_2"}
    weighted = (losses["stage_0"] + 2 * losses["stage_1"] + losses["stage_2"]) / 4
    torch.testing.assert_close(losses["loss"].detach(), weighted)
    losses["loss"].backward()
    assert network.number.grad.abs() > 0


def test_the_relative_loss_pulls_every_stage_equally_whatever_its_scale():
    """Scaling a stage's target and answer leaves the gradient of a relative change as it was."""
    columns = make_columns(torch.randn(3, 4, 4, 8, 8), (4, 4, 4))
    pulls = []
    for scale in (1.0, 0.01):
        scaled = [replace(c, target=c.target * (scale if c.stage == 0 else 1)) for c in columns]
        factors = torch.full((3,), 0.5, requires_grad=True)
        answers = [factors[c.stage] * c.target for c in scaled]
        relative_loss(answers, scaled).backward()
        pulls.append(factors.grad)
    torch.testing.assert_close(*pulls)
    torch.testing.assert_close(pulls[0], torch.full((3,), -4 / 3))  # d/df log((1 - f)^2) = -2 / (1 - f), a third each


def test_the_relative_loss_has_the_minimum_of_the_plain_one():
    column = make_columns(torch.randn(3, 4, 4, 8, 8), (4, 4, 4))[2]
    near, nearer = (column.target + error for error in (0.2, 0.1))
    difference = relative_loss([near], [column]) - relative_loss([nearer], [column])
    torch.testing.assert_close(difference, torch.tensor(4.0).log())


@pytest.mark.parametrize("share", (0.0, 0.4, 1.0))
def test_a_share_of_the_steps_is_for_first_units(share):
    class Lengths(nn.Module):
        def forward(self, clips, *_):
            lengths.append(len(clips))
            return torch.zeros_like(clips[-1])

    objective, generator = PyramidObjective(STAGES, (1, 1, 1), first_units=share), seeded(0)
    first, steps = 0, 300
    for _ in range(steps):
        lengths: list[int] = []
        text = TextFeatures(torch.zeros(3, 1, 2), None, torch.zeros(3, 2))
        objective({"transformer": Lengths()}, Batch(torch.zeros(3, 1, 5, 4, 4), text), generator)
        first += lengths == [1, 1, 1]
    assert first / steps == pytest.approx(share, abs=0.1)  # without the share a clip of 5 units never has all three


def test_a_history_of_its_own_changes_what_is_seen_and_not_what_is_learned():
    latent, seen = torch.randn(3, 4, 4, 8, 8), torch.randn(3, 4, 4, 8, 8)
    true, own, rest = (make_columns(latent, (4, 3, 2), seen=clip) for clip in (latent, seen, seen[:, :, :3]))
    for plain, column, other in zip(make_columns(latent, (4, 3, 2)), true, own, strict=True):
        for first, second in zip((*plain.clips, plain.target), (*column.clips, column.target), strict=True):
            assert torch.equal(first, second)
        assert torch.equal(column.clips[-1], other.clips[-1]) and torch.equal(column.target, other.target)
        assert not any(torch.equal(*past) for past in zip(column.clips[:-1], other.clips[:-1], strict=True))
    for column, shorter in zip(own, rest, strict=True):  # what is learned and what follows it are not seen
        assert all(torch.equal(*clips) for clips in zip(column.clips, shorter.clips, strict=True))
