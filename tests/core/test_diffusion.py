"""Diffusion: the numbers of diffusers' DDPM and DDIM schedulers on the same model and noise."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from pyramid_video.models.text_features import TextFeatures
from pyramid_video.samplers.ddim import ddim_timesteps, sample_ddim
from pyramid_video.samplers.noise_schedule import make_schedule
from pyramid_video.training.batch import Batch
from pyramid_video.training.objectives.diffusion import DiffusionObjective

THEIRS = {"linear": "linear", "cosine": "squaredcos_cap_v2", "epsilon": "epsilon", "v": "v_prediction"}
KINDS = [
    (name, prediction, zero)
    for name in ("linear", "cosine")
    for prediction in ("epsilon", "v")
    for zero in (False, True)
    if not (zero and prediction == "epsilon")
]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


NOISE = torch.randn(2, 3, 2, 4, 4, generator=seeded())
DATA = torch.randn(NOISE.shape, generator=seeded(1))


def oracle(scheduler, name, prediction, zero, **options):
    return scheduler(
        beta_schedule=THEIRS[name],
        prediction_type=THEIRS[prediction],
        rescale_betas_zero_snr=zero,
        clip_sample=False,
        timestep_spacing="trailing",
        **options,
    )


def bent(x, level):
    """An answer without symmetries, so that every mistake in x or level shows."""
    return torch.sin(2 * x) + level / 1000 * x


@pytest.mark.parametrize(("name", "prediction", "zero"), KINDS)
def test_noisy_clips_and_targets_are_those_of_diffusers(name, prediction, zero):
    schedule, theirs = make_schedule(name, prediction, zero), oracle(DDPMScheduler, name, prediction, zero)
    ours = torch.tensor(schedule.alphas_cumprod, dtype=torch.float64)
    torch.testing.assert_close(ours.float(), theirs.alphas_cumprod, rtol=1e-3, atol=1e-6)  # theirs multiplies float32
    for level in (0, 1, 500, 998, 999):
        levels = torch.tensor([level, 999 - level])
        noisy = theirs.add_noise(DATA, NOISE, levels)
        torch.testing.assert_close(schedule.add_noise(DATA, NOISE, levels), noisy, rtol=1e-4, atol=1e-4)
        target = NOISE if prediction == "epsilon" else theirs.get_velocity(DATA, NOISE, levels)
        torch.testing.assert_close(schedule.target(DATA, NOISE, levels), target, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("eta", (0.0, 0.4, 1.0))
@pytest.mark.parametrize("steps", (10, 50, 250))
@pytest.mark.parametrize(("name", "prediction", "zero"), KINDS)
def test_ddim_gives_the_numbers_of_diffusers(name, prediction, zero, steps, eta):
    if zero and eta == 1:
        eta = 0.99  # at exactly 1 the oracle takes the root of a negative rounding error
    schedule, theirs = make_schedule(name, prediction, zero), oracle(DDIMScheduler, name, prediction, zero)
    theirs.set_timesteps(steps)
    assert theirs.timesteps.tolist() == list(ddim_timesteps(steps))
    fresh = [torch.randn(NOISE.shape, generator=seeded(step)) for step in range(steps)]
    x = NOISE.double()
    for level, noise in zip(theirs.timesteps.tolist(), fresh, strict=True):
        x = theirs.step(bent(x, level), level, x, eta=eta, variance_noise=noise.double()).prev_sample
    supply = iter(fresh)
    made = sample_ddim(
        lambda x, call: bent(x, call.timestep),
        NOISE.double(),
        schedule,
        ddim_timesteps(steps),
        eta=eta,
        renoise=lambda like: next(supply).to(like),
    )
    torch.testing.assert_close(made, x, rtol=2e-3, atol=2e-3 * float(x.abs().max()))


def test_all_levels_with_eta_1_are_the_ancestral_sampling_of_ddpm():
    schedule, theirs = make_schedule("linear", "epsilon"), oracle(DDPMScheduler, "linear", "epsilon", False)
    theirs.set_timesteps(1000)
    x, generator = NOISE.double(), seeded(5)
    for level in theirs.timesteps.tolist():
        x = theirs.step(bent(x, level), level, x, generator=generator).prev_sample
    again = seeded(5)
    made = sample_ddim(
        lambda x, call: bent(x, call.timestep),
        NOISE.double(),
        schedule,
        ddim_timesteps(1000),
        eta=1.0,
        renoise=lambda like: torch.randn(like.shape, generator=again, dtype=like.dtype),
    )
    torch.testing.assert_close(made, x, rtol=2e-3, atol=2e-3 * float(x.abs().max()))


@pytest.mark.parametrize("eta", (0.0, 1.0))
@pytest.mark.parametrize("prediction", ("epsilon", "v"))
def test_a_model_that_knows_the_data_ends_on_it(prediction, eta):
    schedule = make_schedule("cosine", prediction)

    def answer(x, call):
        alpha = schedule.alphas_cumprod[call.timestep]
        noise = (x - math.sqrt(alpha) * DATA) / math.sqrt(1 - alpha)
        return noise if prediction == "epsilon" else math.sqrt(alpha) * noise - math.sqrt(1 - alpha) * DATA

    seen = []
    made = sample_ddim(
        answer,
        NOISE,
        schedule,
        ddim_timesteps(20),
        eta=eta,
        generators=[seeded(1), seeded(2)],
        callback=lambda call, clean: seen.append(call.index),
    )
    torch.testing.assert_close(made, DATA, rtol=1e-3, atol=1e-3)
    assert seen == list(range(20))


@pytest.mark.parametrize("eta", (0.5, 1.0))
def test_a_gaussian_keeps_its_spread_at_every_eta(eta):
    """With the exact answer for data of deviation 0.5, samples have it too, however much fresh noise is drawn."""
    schedule, spread = make_schedule("linear", "epsilon"), 0.5
    noise = torch.randn(8, 4000, generator=seeded())

    def answer(x, call):
        alpha = schedule.alphas_cumprod[call.timestep]
        return math.sqrt(1 - alpha) / (alpha * spread**2 + 1 - alpha) * x

    rows = [seeded(row) for row in range(8)]
    made = sample_ddim(answer, noise, schedule, ddim_timesteps(250), eta=eta, generators=rows)
    assert made.std() == pytest.approx(spread, rel=0.03)


def test_min_snr_weighs_the_clean_estimate_alike_for_both_predictions():
    levels = torch.tensor([0, 200, 600, 990])
    data, wrong = DATA[:1].expand(4, -1, -1, -1, -1), 0.1
    for prediction in ("epsilon", "v"):
        schedule = make_schedule("linear", prediction)
        noise = torch.randn(data.shape, generator=seeded(3))
        noisy, target = schedule.add_noise(data, noise, levels), schedule.target(data, noise, levels)
        for row, level in enumerate(levels.tolist()):
            clean, _ = schedule.predict_x0_and_eps(noisy[row], target[row] + wrong, schedule.alphas_cumprod[level])
            error = (clean - data[row]).square().mean()
            weight = DiffusionObjective(schedule, 5.0).weights(levels)[row] * wrong**2
            snr = float(schedule.snr(levels)[row])
            torch.testing.assert_close(weight, min(snr, 5.0) * error, rtol=2e-3, atol=1e-7)


@pytest.mark.parametrize("shift", [1.0, 4.0])
@pytest.mark.parametrize(("name", "prediction", "zero"), KINDS)
def test_the_right_answer_has_no_loss_and_all_levels_are_asked(name, prediction, zero, shift):
    """By a shift of 4 those of much noise are asked most, as the levels of a flow are by it."""
    schedule, asked = make_schedule(name, prediction, zero), []
    latent, text = torch.randn(256, 1, 1, 2, 2, generator=seeded(1)), torch.zeros(256, 1, 2)

    def network(clips, levels, *_):
        asked.extend(levels.int().tolist())
        a = schedule.alpha_cumprod(levels.long(), latent).double()
        noise = (clips[0] - a.sqrt() * latent) / (1 - a).sqrt()
        return noise if prediction == "epsilon" else a.sqrt() * noise - (1 - a).sqrt() * latent

    objective = DiffusionObjective(schedule, shift=shift)
    for seed in range(20):
        assert (
            objective({"transformer": network}, Batch(latent, TextFeatures(text, None, text[:, 0])), seeded(seed))[
                "loss"
            ]
            < 1e-4
        )
    asked = torch.tensor(asked)
    assert (
        len(asked.unique()) > (950 if shift == 1 else 800)
        and asked.min() < (5 if shift == 1 else 20)
        and 994 < asked.max() < 1000
    )
    assert (asked >= 500).float().mean().item() == pytest.approx(shift / (1 + shift), abs=0.02)


def test_the_highest_level_of_a_shift_is_still_one_of_the_schedule():
    objective, seen = DiffusionObjective(make_schedule(), shift=1e6), []
    latent, text = torch.zeros(64, 1, 1, 2, 2), torch.zeros(64, 1, 2)

    def network(clips, levels, *_):
        seen.extend(levels.tolist())
        return clips[0]

    objective({"transformer": network}, Batch(latent, TextFeatures(text, None, text[:, 0])), seeded(0))
    assert max(seen) == 999


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: make_schedule("quadratic"), "expected one of cosine, linear"),
        (lambda: make_schedule("linear", "x"), "expected one of v, epsilon"),
        (lambda: make_schedule("linear", "epsilon", True), "zero terminal SNR cannot predict epsilon"),
        (lambda: ddim_timesteps(0), "0 steps; expected 1 to 1000"),
        (lambda: ddim_timesteps(1001), "1001 steps"),
        (lambda: sample_ddim(None, NOISE, make_schedule(), (999, 5), eta=1.5), "eta is 1.5"),
        (lambda: sample_ddim(None, NOISE, make_schedule(), (5, 999)), "expected them to fall"),
        (lambda: sample_ddim(None, NOISE, make_schedule(), ()), "expected them to fall"),
        (lambda: sample_ddim(lambda x, call: x / 0, NOISE, make_schedule(), (999, 5)), "NaN or infinity"),
        (lambda: DiffusionObjective(make_schedule(), 0.0), "min_snr is 0.0"),
        (lambda: DiffusionObjective(make_schedule(), shift=0.0), "shift is 0.0"),
        (lambda: DiffusionObjective(make_schedule(), shift=math.inf), "shift is inf"),
    ],
)
def test_what_cannot_be_sampled_or_learned_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
