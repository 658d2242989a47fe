"""Families: what a checkpoint says of itself, and that whole clips are made as each family was trained."""

from __future__ import annotations

import pytest
import torch
from pyramid_video.models import checkpoints, miniflux
from pyramid_video.models.families import FAMILIES, ModelFamily
from pyramid_video.models.latent_format import LatentFormat
from pyramid_video.samplers.full_sequence import DDIMSampler, FlowSampler, GANSampler
from pyramid_video.samplers.noise_schedule import make_schedule

CONFIG = {
    "in_channels": 16,
    "num_layers": 1,
    "num_single_layers": 1,
    "attention_head_dim": 12,
    "num_attention_heads": 2,
    "axes_dims_rope": [4, 4, 4],
    "joint_attention_dim": 8,
    "pooled_projection_dim": 6,
    "use_temporal_causal": False,
}
SHAPE = (2, 4, 3, 4, 4)


def saved(path, **extra):
    network = miniflux.MiniFluxTransformer(miniflux.MiniFluxConfig.from_dict(CONFIG))
    miniflux.init_weights(network, torch.Generator().manual_seed(0))
    form = LatentFormat("tiny", 0.0, 1.0, 0.0, 1.0)
    return checkpoints.save(path, network, "miniflux", network.config, latent_format=form, extra=extra)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_file_says_its_family(tmp_path, family):
    said = ModelFamily(family, shift=2.0, schedule="linear", prediction="epsilon", zero_terminal_snr=False)
    assert checkpoints.inspect(saved(tmp_path / "model.safetensors", family=said.to_dict())).family == said
    assert said.rules is FAMILIES[family] and str(said) == said.rules.title


def test_a_file_that_says_nothing_is_a_pyramid(tmp_path):
    assert checkpoints.inspect(saved(tmp_path / "model.safetensors")).family == ModelFamily("pyramid")


@pytest.mark.parametrize(
    ("family", "words"),
    [
        ({"name": "cyclic"}, "unknown family 'cyclic'; expected one of pyramid, flow, diffusion, gan"),
        ({"name": "flow", "colour": 1}, "unknown settings of a model family: colour"),
        ({"name": "flow", "shift": -1}, "shift of a flow is -1"),
        ("flow", "damaged family"),
    ],
)
def test_a_damaged_family_is_told(tmp_path, family, words):
    path = saved(tmp_path / "model.safetensors", family=family)
    with pytest.raises(checkpoints.CheckpointError, match=words):
        checkpoints.inspect(path)


def heard(sampler, answer):
    """The clip that a sampler makes, the timesteps it asks with, and the progress it reports."""
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    asked, calls = [], []

    def ask(x, timestep):
        asked.append(timestep)
        return answer(x, timestep)

    generators = [torch.Generator().manual_seed(row) for row in range(len(noise))]
    clip = sampler.run(ask, noise, generators, lambda done, total, clean: calls.append((done, total)))
    assert calls == [(number, sampler.calls) for number in range(1, sampler.calls + 1)] and len(asked) == sampler.calls
    return clip, noise, asked


@pytest.mark.parametrize("solver", ["euler", "heun", "midpoint"])
def test_a_straight_flow_ends_on_its_data(solver):
    data = torch.randn(SHAPE, generator=torch.Generator().manual_seed(2))
    clip, noise, asked = heard(FlowSampler(5, solver, shift=2.0), lambda x, timestep: (x - data) / (timestep / 1000))
    torch.testing.assert_close(clip, data, rtol=0, atol=1e-5)
    assert asked[0] == 1000 and all(0 < timestep <= 1000 for timestep in asked)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("name", "prediction", "zero"), [("cosine", "v", True), ("linear", "epsilon", False)])
def test_ddim_ends_on_the_data_that_a_perfect_model_knows(name, prediction, zero, eta):
    schedule = make_schedule(name, prediction, zero)
    data = torch.randn(SHAPE, generator=torch.Generator().manual_seed(2))

    def answer(x, timestep):
        level = torch.tensor([int(timestep)] * len(x))
        a = schedule.alpha_cumprod(level, x)
        return schedule.target(data, (x - a.sqrt() * data) / (1 - a).sqrt(), level)

    clip, _, asked = heard(DDIMSampler(schedule, 20, eta), answer)
    torch.testing.assert_close(clip, data, rtol=0, atol=1e-3)
    assert asked[0] == 999


def test_a_generator_is_asked_once_and_takes_the_whole_step():
    clip, noise, asked = heard(GANSampler(), lambda x, timestep: 0.25 * x)
    torch.testing.assert_close(clip, 0.75 * noise)
    assert asked == [1000.0]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: FlowSampler(0), "0 steps"),
        (lambda: FlowSampler(5, "rk4"), "unknown solver 'rk4'"),
        (lambda: FlowSampler(5, shift=0.0), "shift is 0.0"),
        (lambda: DDIMSampler(make_schedule(), 1001), "1001 steps"),
        (lambda: DDIMSampler(make_schedule(), 10, 1.5), "eta is 1.5"),
    ],
)
def test_wrong_settings_are_told_before_anything_runs(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_broken_answer_is_told():
    with pytest.raises(ValueError, match="NaN or infinity"):
        heard(GANSampler(), lambda x, timestep: x * float("nan"))
