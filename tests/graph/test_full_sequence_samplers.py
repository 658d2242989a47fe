"""The blocks that make all frames at once, with tiny models of every family, without ComfyUI."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from pyramid_video.host import use_host
from pyramid_video.host.standalone.host import StandaloneHost
from pyramid_video.models.families import ModelFamily
from pyramid_video.runner.registry import node_classes
from pyramid_video.samplers.guidance import apply_cfg, coarse_part
from pyramid_video.samplers.noise import draw_noise
from tiny_models import MODEL, TEXT, make_models

BLOCKS = {
    "flow": ("PyramidVideoFlowSampler", {"steps": 3, "cfg": 3.0}),
    "diffusion": ("PyramidVideoDDIMSampler", {"steps": 3, "cfg": 3.0}),
    "gan": ("PyramidVideoGANSampler", {}),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return make_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def host(models):
    host = StandaloneHost(models, silent=True, device="cpu")
    use_host(host)
    yield host
    use_host(None)


@pytest.fixture
def model(host):
    """The tiny model as one of a family."""
    loaded = host.load_model(host.find_model("diffusion_models", MODEL))

    def of(family: str, **settings):
        loaded.info = replace(loaded.info, family=ModelFamily(family, **settings))
        return loaded

    return of


@pytest.fixture
def texts(host):
    clip = host.load_text_encoder(host.find_model("text_encoders", TEXT))
    return host.encode_prompt(clip, "a tiger moves left and left again"), host.encode_prompt(clip, "blur")


def empty(batch: int = 1) -> dict:
    return {"samples": torch.zeros(batch, 8, 2, 8, 8)}


def sample(family, model, positive, latent=None, seed=3, **settings):
    block, usual = BLOCKS[family]
    (made,) = node_classes()[block]().sample(model, positive, latent or empty(), seed, **{**usual, **settings})
    return made["samples"]


@pytest.mark.parametrize("family", BLOCKS)
def test_a_clip_is_the_same_alone_and_in_a_batch(model, texts, family):
    network = model(family)
    both = sample(family, network, texts[0], empty(2), seed=11)
    alone = [sample(family, network, texts[0], seed=seed) for seed in (11, 12)]
    torch.testing.assert_close(both, torch.cat(alone), atol=1e-4, rtol=1e-4)
    assert (both[0] - both[1]).abs().max() > 0.1 and torch.isfinite(both).all()


@pytest.mark.parametrize("family", ["flow", "diffusion"])
def test_guidance_is_asked_for_only_where_it_counts(model, texts, family):
    positive, negative = texts
    network, rows = model(family), []
    network.network.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[1])))
    plain = sample(family, network, positive)
    one = sample(family, network, positive, negative=negative, cfg=1.0)
    assert torch.equal(plain, one) and set(rows) == {1}
    rows.clear()
    assert not torch.equal(plain, sample(family, network, positive, negative=negative))
    assert set(rows) == {2}


def answer_to(network, noise, timestep, conditioning):
    """What the network says of `noise` at a timestep, for one prompt alone."""
    tokens, extras = conditioning[0]
    return network.network((noise,), torch.tensor([timestep]), tokens, None, extras["pooled_output"])


def test_one_step_of_a_flow_is_the_guided_velocity(model, texts):
    positive, negative = texts
    network = model("flow")
    noise = draw_noise((1, 8, 2, 8, 8), 3)
    answer = partial(answer_to, network, noise, 1000.0)
    with torch.no_grad():
        expected = noise - apply_cfg(answer(negative), answer(positive), 3.0)
        made = sample("flow", network, positive, negative=negative, steps=1)
        torch.testing.assert_close(network.latent_format.normalize(made), expected, atol=1e-4, rtol=1e-4)
        generated = sample("gan", model("gan"), positive)
    torch.testing.assert_close(network.latent_format.normalize(generated), noise - answer(positive), atol=1e-4, rtol=0)


def test_cfg_zero_star_scales_the_negative_answer_and_rests_at_the_start(model, texts):
    """Two steps of which one rests: the noise is walked from the second level on (arXiv 2503.18886)."""
    positive, negative = texts
    network = model("flow")
    noise = draw_noise((1, 8, 2, 8, 8), 3)
    answer = partial(answer_to, network, noise, 500.0)
    with torch.no_grad():
        wanted, other = answer(positive), answer(negative)
        other = other * (wanted * other).sum() / other.square().sum()
        expected = noise - 0.5 * (other + 3.0 * (wanted - other))
    made = sample("flow", network, positive, negative=negative, steps=2, guidance_rule="CFG-Zero*", zero_steps=1)
    torch.testing.assert_close(network.latent_format.normalize(made), expected, atol=1e-4, rtol=1e-4)


def test_coarse_guidance_leaves_out_guidance_of_large_areas(model, texts):
    """One step from noise to the clip: the answers at noise, combined by hand."""
    positive, negative = texts
    network = model("flow")
    noise = draw_noise((1, 8, 2, 8, 8), 3)
    answer = partial(answer_to, network, noise, 1000.0)
    with torch.no_grad():
        wanted, other = answer(positive), answer(negative)
    expected = noise - (other + 3.0 * (wanted - other) - 0.8 * coarse_part(2.0 * (wanted - other)))
    made = sample("flow", network, positive, negative=negative, steps=1, coarse_guidance=0.2)
    torch.testing.assert_close(network.latent_format.normalize(made), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("rule", [{"guidance_rule": "CFG-Zero*", "zero_steps": 1}, {"coarse_guidance": 0.0}])
def test_rules_of_guidance_are_nothing_without_it(model, texts, rule):
    network = model("flow")
    assert torch.equal(sample("flow", network, texts[0]), sample("flow", network, texts[0], **rule))


def test_a_flow_that_only_rests_is_refused(model, texts):
    with pytest.raises(ValueError, match="3 of 3 steps at rest"):
        sample("flow", model("flow"), texts[0], negative=texts[1], guidance_rule="CFG-Zero*", zero_steps=3)


def test_a_flow_takes_the_shift_of_its_model(model, texts):
    shifted, plain = model("flow", shift=3.0), texts[0]
    assert torch.equal(sample("flow", shifted, plain), sample("flow", shifted, plain, shift=3.0))
    assert not torch.equal(sample("flow", shifted, plain), sample("flow", shifted, plain, shift=1.0))


def test_fresh_noise_comes_from_the_seed(model, texts):
    network, positive = model("diffusion"), texts[0]
    once, again = (sample("diffusion", network, positive, eta=1.0) for _ in range(2))
    assert torch.equal(once, again)
    assert not torch.equal(once, sample("diffusion", network, positive, eta=0.0))


@pytest.mark.parametrize("family", ["pyramid", *BLOCKS])
def test_a_model_of_another_family_is_sent_to_its_block(model, texts, family):
    network = model(family)
    for other in BLOCKS:
        if other != family:
            with pytest.raises(ValueError, match=f"use '{network.info.family.rules.sampler}'"):
                sample(other, network, texts[0])
    if family != "pyramid":
        with pytest.raises(ValueError, match="this block cannot sample"):
            node_classes()["PyramidVideoSampler"]().sample(network, texts[0], empty(), 1)


def test_a_latent_of_another_vae_is_told(model, texts):
    with pytest.raises(ValueError, match="4 channels, which does not fit"):
        sample("flow", model("flow"), texts[0], {"samples": torch.zeros(1, 4, 2, 8, 8)})


@pytest.mark.parametrize(
    ("family", "words"),
    [
        ("pyramid", "a pyramid makes .* goes into 'Temporal conditioning'"),
        ("flow", "'Sample flow' makes .* KSampler"),
        ("diffusion", "'Sample DDIM' makes .* KSampler"),
        ("gan", "'Sample GAN' makes .* away$"),
    ],
)
def test_a_mask_that_would_change_nothing_is_refused(model, texts, family, words):
    masked = {**empty(), "noise_mask": torch.ones(1, 8, 8)}
    block = BLOCKS.get(family, ("PyramidVideoSampler", {}))
    with pytest.raises(ValueError, match=words):
        node_classes()[block[0]]().sample(model(family), texts[0], masked, 3, **block[1])
