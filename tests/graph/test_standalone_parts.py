"""The parts of sampling where there is no ComfyUI: guidance, batches, start frames, what does not fit."""

from __future__ import annotations

from itertools import groupby

import pytest
import torch
from pyramid_video.host import use_host
from pyramid_video.host.standalone import host as standalone_host
from pyramid_video.host.standalone.host import StandaloneHost
from pyramid_video.host.standalone.progress import Bar
from pyramid_video.samplers.guidance import PyramidGuidance, apply_cfg
from pyramid_video.samplers.history import PyramidHistory
from pyramid_video.samplers.noise import double, halve
from pyramid_video.samplers.pyramid import StepInfo
from pyramid_video.samplers.stages import make_stages
from tiny_models import MODEL, TEXT, VAE, make_models


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
def parts(host):
    """Model, positive and negative text of different lengths."""
    model = host.load_model(host.find_model("diffusion_models", MODEL))
    clip = host.load_text_encoder(host.find_model("text_encoders", TEXT))
    return model, host.encode_prompt(clip, "a tiger moves left and left again"), host.encode_prompt(clip, "blur")


def empty(batch: int = 1, count: int = 2) -> dict:
    return {"samples": torch.zeros(batch, 8, count, 8, 8)}


STAGES = make_stages(first_steps=2, video_steps=1)


@pytest.mark.parametrize(("stage", "coarse"), [(1, 1.0), (0, 0.3), (2, 0.3)])
def test_guided_velocity_is_that_of_two_calls_without_padding(host, parts, stage, coarse):
    model, positive, negative = parts
    guidance = PyramidGuidance(first=7.0, video=5.0, coarse=coarse)
    guider = host.make_guider(model, positive, negative, guidance)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 8, 1, 4, 4, generator=generator)
    past = torch.randn(2, 8, 1, 2, 2, generator=generator)
    call = StepInfo(1, slice(1, 2), stage, 0, 0, 1, 2, 3, 1, 1.0, 500.0, (past,))

    def alone(conditioning):
        tokens, extras = conditioning[0]
        rows = (tokens.repeat(2, 1, 1), None, extras["pooled_output"].repeat(2, 1))
        return model.network((past, x), torch.full((2,), 500.0), *rows)

    with torch.no_grad():
        guided, plain = apply_cfg(alone(negative), alone(positive), 5.0), alone(positive)
        expected = guided if stage == 0 else guided - (1 - coarse) * double(halve(guided - plain))
        torch.testing.assert_close(guider.velocity(2)(x, call), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("negative", "first", "rows"), [(True, 7.0, 2), (True, 0.0, 1), (False, 7.0, 1)])
def test_without_guidance_the_model_is_asked_for_one_row(host, parts, negative, first, rows):
    model, positive, other = parts
    seen = []
    model.network.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[1])))
    guider = host.make_guider(model, positive, other if negative else None, PyramidGuidance(first=first))
    host.sample(guider, host.make_sampler(STAGES, PyramidHistory()), empty(), 1)
    assert set(seen) == {rows}


def test_stages_that_are_not_guided_follow_the_prompt_alone(host, parts):
    model, positive, negative = parts
    seen = []
    model.network.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[1])))
    sampler = host.make_sampler(STAGES, PyramidHistory())

    def clip(guidance, negative=negative):
        seen.clear()
        return host.sample(host.make_guider(model, positive, negative, guidance), sampler, empty(), 1)["samples"]

    alone = clip(PyramidGuidance(), None)
    coarse = clip(PyramidGuidance(stages=1))
    assert [rows for rows, _ in groupby(seen)] == [2, 1] * 2  # of both units: guided, then not
    assert torch.equal(clip(PyramidGuidance(stages=len(STAGES))), clip(PyramidGuidance()))
    assert not torch.allclose(coarse, alone, atol=1e-3)
    assert torch.equal(coarse, clip(PyramidGuidance(stages=1)))


def test_a_clip_is_the_same_alone_and_in_a_batch(host, parts):
    model, positive, negative = parts
    guider = host.make_guider(model, positive, negative, PyramidGuidance())
    sampler = host.make_sampler(STAGES, PyramidHistory())
    both = host.sample(guider, sampler, empty(batch=2), 11)["samples"]
    alone = [host.sample(guider, sampler, empty(), seed)["samples"] for seed in (11, 12)]
    torch.testing.assert_close(both, torch.cat(alone), atol=1e-4, rtol=1e-4)


def test_the_parts_are_the_whole(host, parts):
    from pyramid_video.runner.registry import node_classes

    model, positive, negative = parts
    nodes, history = node_classes(), PyramidHistory(depth=1)
    whole = nodes["PyramidVideoSampler"]().sample(model, positive, empty(), 3, negative, STAGES, history=history)[0]
    guider = nodes["PyramidVideoGuider"]().make(model, positive, negative)[0]
    sampler = nodes["PyramidVideoSamplerObject"]().make(STAGES, history)[0]
    noise = nodes["RandomNoise"]().make(3)[0]
    output, _ = nodes["SamplerCustomAdvanced"]().sample(noise, guider, sampler, None, empty())
    assert torch.equal(output["samples"], whole["samples"])


def test_start_frames_come_back_as_they_were(host, parts):
    model, positive, _ = parts
    start = torch.randn(1, 8, 1, 8, 8, generator=torch.Generator().manual_seed(4))
    guider = host.make_guider(model, positive, None, PyramidGuidance())
    sampler = host.make_sampler(STAGES, PyramidHistory(start=start))
    made = host.sample(guider, sampler, empty(batch=2), 1)["samples"]
    torch.testing.assert_close(made[:, :, :1], start.expand(2, -1, -1, -1, -1))
    assert made.shape == (2, 8, 2, 8, 8)


def test_sampling_changes_nothing_it_was_given(host, parts):
    model, positive, negative = parts
    latent, before = empty(), positive[0][0].clone()
    guider = host.make_guider(model, positive, negative, PyramidGuidance())
    made = host.sample(guider, host.make_sampler(STAGES, PyramidHistory()), latent | {"mine": 1}, 1)
    assert torch.equal(latent["samples"], empty()["samples"]) and torch.equal(positive[0][0], before)
    assert made["mine"] == 1


def test_numbers_that_break_are_told_with_unit_stage_and_type(host, parts):
    model, positive, _ = parts
    with torch.no_grad():
        model.network.proj_out.bias.fill_(float("nan"))
    guider = host.make_guider(model, positive, None, PyramidGuidance())
    with pytest.raises(ValueError, match="unit 0, stage 0 ended in NaN .* in float32"):
        host.sample(guider, host.make_sampler(STAGES, PyramidHistory()), empty(), 1)


@pytest.mark.parametrize("stored", ["bf16", "fp32", "fp8_e4m3fn"])
def test_weights_are_stored_as_asked_and_run(host, parts, stored):
    _, positive, negative = parts
    model = host.load_model(host.find_model("diffusion_models", MODEL), stored)
    matrix = model.network.context_embedder.weight.dtype
    assert matrix == {"bf16": torch.bfloat16, "fp32": torch.float32, "fp8_e4m3fn": torch.float8_e4m3fn}[stored]
    guider = host.make_guider(model, positive, negative, PyramidGuidance())
    made = host.sample(guider, host.make_sampler(STAGES, PyramidHistory()), empty(), 1)["samples"]
    assert made.dtype == torch.float32 and torch.isfinite(made).all()


def test_what_is_no_wire_of_ours_is_told(host, parts):
    model, *_ = parts
    vae = host.load_vae(host.find_model("vae", VAE))
    with pytest.raises(ValueError, match=r"this VAE is tiny \(miniflux, .*not one that 'Load video VAE' makes"):
        host.vae_info(model)
    with pytest.raises(
        ValueError, match=r"this MODEL is tiny_vae \(video VAE, .*not one that 'Load video model' makes"
    ):
        host.model_info(vae)


def test_core_decode_and_encode_fit_each_other(host):
    vae = host.load_vae(host.find_model("vae", VAE))
    images = torch.rand(5, 16, 16, 3, generator=torch.Generator().manual_seed(5))
    latent = host.encode(vae, images)
    assert latent.shape == (1, 8, 2, 2, 2)
    pictures = host.decode(vae, latent.repeat(2, 1, 1, 1, 1))
    assert pictures.shape == (10, 16, 16, 3) and 0 <= pictures.min() and pictures.max() <= 1
    torch.testing.assert_close(host.decode(vae, latent, chunk=1), pictures[:5])


def test_what_does_not_fit_is_cut_off_and_told_before_it_is_encoded(host, caplog):
    """As in ComfyUI, where `door_vae.py` asks the same: a graph runs in both."""
    vae = host.load_vae(host.find_model("vae", VAE))
    images = torch.rand(6, 19, 18, 3, generator=torch.Generator().manual_seed(5))
    latent = host.encode(vae, images)
    assert caplog.messages == ["Pyramid Video: encoding 6 frames of 18x19 as 5 of 16x16"]
    assert torch.equal(latent, host.encode(vae, images[:5, 1:17, 1:17])) and len(caplog.messages) == 1
    assert torch.equal(latent, host.any_model.encode(vae, images))


def test_one_bar_counts_the_chunks_of_all_rows(host, monkeypatch):
    vae, bars = host.load_vae(host.find_model("vae", VAE)), []

    class Watched(Bar):
        def __init__(self, total, silent):
            super().__init__(total, True)
            bars.append((total, []))

        def update(self, value, *shown):
            bars[-1][1].append(value)

    monkeypatch.setattr(standalone_host, "Bar", Watched)
    latent, iter_decode, clips = torch.zeros(2, 8, 4, 2, 2), vae.network.iter_decode, []
    few, many = (len(list(iter_decode(latent[:1], chunk))) for chunk in (2, 1))
    host.decode(vae, latent, chunk=1)
    assert bars == [(2 * many, list(range(1, 2 * many + 1)))] and few < many
    bars.clear()

    def short_of_memory(latent, chunk, on_chunk):
        clips.append(chunk)
        if len(clips) == 2:  # the second row finds less room than the first
            raise torch.OutOfMemoryError("the card is full")
        return iter_decode(latent, chunk, on_chunk)

    vae.network.iter_decode = short_of_memory
    host.decode(vae, latent, chunk=2)
    assert bars == [(2 * few, list(range(1, few + 1))), (2 * many, list(range(many + 1, 2 * many + 1)))]


def test_core_tiled_decode_runs_on_latents_larger_than_a_tile(host):
    from pyramid_video.host.standalone.core.latents import VAEDecodeTiled

    vae = host.load_vae(host.find_model("vae", VAE))
    latent = {"samples": torch.randn(1, 8, 2, 12, 12, generator=torch.Generator().manual_seed(6))}
    (pictures,) = VAEDecodeTiled().decode(latent, vae, tile_size=64)
    assert pictures.shape == (5, 96, 96, 3) and torch.isfinite(pictures).all()
