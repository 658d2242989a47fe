"""Models in the official layout, tiny: every form of the files makes the same clip, from folders to frames."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from official_folders import WEIGHTS, write_component, write_text_folders
from pyramid_video.host.standalone.host import StandaloneHost
from pyramid_video.models import checkpoints
from pyramid_video.models.official_text import load_official_text
from pyramid_video.samplers.guidance import PyramidGuidance, apply_cfg
from pyramid_video.samplers.history import PyramidHistory
from pyramid_video.samplers.noise import draw_noise, row_generators
from pyramid_video.samplers.pyramid import sample_pyramid
from pyramid_video.samplers.stages import make_stages

TRANSFORMERS = {"miniflux": "diffusion_transformer_384p", "sd3": "diffusion_transformer_768p"}
KINDS = {"miniflux": "miniflux", "sd3": "mmdit"}
GUIDANCE = PyramidGuidance(first=7.0, video=5.0)
SHAPE = (1, 4, 3, 8, 8)  # 17 frames of 64x64 pixels
STAGES = make_stages(first_steps=2, video_steps=1)
PROMPT, NEGATIVE, SEED = "a tiger", "", 5


@pytest.fixture(scope="module", params=["miniflux", "sd3"])
def official(request, tmp_path_factory) -> tuple[str, Path]:
    """An official top folder: transformer, VAE, text encoders and tokenizers."""
    root = tmp_path_factory.mktemp("models") / f"pyramid-flow-{request.param}"
    write_component(root / TRANSFORMERS[request.param], KINDS[request.param])
    write_component(root / "causal_video_vae", "causal_vae")
    return request.param, write_text_folders(root, request.param)


def generate(transformer: Path, vae: Path, text: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Latent in the VAE's scale and video, by models and samplers alone; positive and negative one after the other."""
    network, info = checkpoints.load(transformer, ["miniflux", "mmdit"], dtype=torch.float32)
    decoder, _ = checkpoints.load(vae, ["causal_vae"], dtype=torch.float32)
    encoders = load_official_text(text, "cpu", torch.float32)
    negative, positive = encoders.encode(NEGATIVE), encoders.encode(PROMPT)

    def velocity(x, call):
        timestep = torch.full((len(x),), call.timestep)
        answers = [network((*call.history, x), timestep, t, None, pooled) for t, pooled in (negative, positive)]
        return apply_cfg(*answers, GUIDANCE.scale(call.unit))

    clip = sample_pyramid(velocity, draw_noise(SHAPE, SEED), STAGES, generators=row_generators(SEED, 1))
    latent = info.latent_format.denormalize(clip)
    with torch.no_grad():
        return latent, decoder.decode(latent)


@pytest.fixture(scope="module")
def clip(official):
    kind, root = official
    return generate(root / TRANSFORMERS[kind], root / "causal_video_vae", root)


def test_folders_load_and_generate(clip):
    latent, video = clip
    assert latent.shape == SHAPE and video.shape == (1, 3, 17, 64, 64)
    assert torch.isfinite(video).all() and latent.std() > 0.1


@pytest.mark.parametrize("form", ["safetensors shards", "bin", "single files"])
def test_every_form_makes_the_same_clip(official, clip, form, tmp_path):
    kind, root = official
    if (
        form == "single files"
    ):  # the transformer's sizes follow from its shapes; a VAE's norm groups need its config.json
        transformer = tmp_path / "transformer.safetensors"
        shutil.copy(root / TRANSFORMERS[kind] / f"{WEIGHTS}.safetensors", transformer)
        vae = root / "causal_video_vae" / f"{WEIGHTS}.safetensors"
    else:
        transformer = write_component(tmp_path / "transformer", KINDS[kind], form=form)
        vae = write_component(tmp_path / "vae", "causal_vae", form=form)
    latent, video = generate(transformer, vae, root)
    torch.testing.assert_close(latent, clip[0], atol=0, rtol=0)
    torch.testing.assert_close(video, clip[1], atol=0, rtol=0)


def test_the_host_makes_the_same_clip(official, clip, tmp_path):
    kind, root = official
    host = StandaloneHost(models=root.parent, output=tmp_path, device="cpu")
    model_name = f"{root.name}/{TRANSFORMERS[kind]}"
    assert model_name in host.list_models("diffusion_models")
    model = host.load_model(host.find_model("diffusion_models", model_name))
    vae = host.load_vae(host.find_model("vae", f"{root.name}/causal_video_vae"))
    text = host.load_text_encoder(host.find_model("text_encoders", root.name))
    positive, negative = host.encode_prompt(text, PROMPT), host.encode_prompt(text, NEGATIVE)
    guider = host.make_guider(model, positive, negative, GUIDANCE)
    sampler = host.make_sampler(STAGES, PyramidHistory())
    latent = host.sample(guider, sampler, {"samples": torch.zeros(SHAPE)}, SEED)["samples"]
    torch.testing.assert_close(latent, clip[0], atol=1e-3, rtol=1e-3)
    frames = host.decode(vae, clip[0], chunk=1, tile=None)
    expected = (clip[1][0].permute(1, 2, 3, 0) / 2 + 0.5).clamp(0, 1)
    assert frames.shape == (17, 64, 64, 3)
    torch.testing.assert_close(frames, expected, atol=1 / 255, rtol=0)
