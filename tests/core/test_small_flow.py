"""The recipe of 128 pixels in miniature: VAE, flow with its text encoder, and families that go on from it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from PIL import Image, ImageDraw
from pyramid_video.models import causal_vae, checkpoints
from pyramid_video.recipes.emoji import figure_vae, small_flow, small_models
from pyramid_video.recipes.emoji.kinds import draw_kind
from pyramid_video.recipes.emoji.recipe import RECIPES, TRANSFORMER_FILES, VAE_FILE
from pyramid_video.recipes.emoji.small_families import train_family
from pyramid_video.recipes.emoji.texts import explicit_attention
from pyramid_video.training import presets
from pyramid_video.training.data.datasets import AnimationDataset
from pyramid_video.training.run.loop import TrainSettings
from torch.nn.functional import scaled_dot_product_attention

CLIPS = 4
NARROW = {
    **RECIPES[128].vae,
    "encoder_block_out_channels": [8, 8],
    "decoder_block_out_channels": [8, 8, 8],
}
LOW = {**RECIPES[128].transformer, "num_single_layers": 2, "num_attention_heads": 1}
RECIPE = replace(RECIPES[128], vae=NARROW, transformer=LOW)


class Stop(Exception):
    pass


def stop_at(last: int):
    def stop(step, losses):
        if step == last:
            raise Stop

    return stop


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("animations")
    for name, colour in (("ball", "red"), ("leaf", "green")):
        pictures = [Image.new("RGBA", (32, 32)) for _ in range(2)]
        for shift, picture in enumerate(pictures):
            ImageDraw.Draw(picture).ellipse((4 + shift, 4, 26 + shift, 26), fill=colour)
        pictures[0].save(folder / f"{name}.webp", save_all=True, append_images=pictures[1:], duration=100)
    return AnimationDataset(folder, frames=9)


@pytest.fixture
def narrow(monkeypatch):
    monkeypatch.setattr(small_flow, "BATCHES", {"stills": 4, "half": 3, "whole": 2})


@pytest.fixture
def vae():
    vae = causal_vae.CausalVideoVAE(causal_vae.CausalVAEConfig.from_dict(NARROW))
    causal_vae.init_weights(vae, torch.Generator().manual_seed(0))
    return vae.eval()


@pytest.fixture
def flow(dataset, vae, narrow, tmp_path):
    """A models folder with the flow and its text encoder."""
    settings = TrainSettings(steps=1, warmup_steps=1, ema_decay=0)
    trained = small_flow.train_flow(dataset, vae, tmp_path / "first", settings, clips=CLIPS, recipe=RECIPE)
    trained.export(tmp_path / "models")
    return tmp_path / "models"


def test_the_vae_learns_pictures_then_clips_and_goes_on_exactly(dataset, tmp_path):
    settings = TrainSettings(steps=6, warmup_steps=1, ema_decay=0.5, optimizer="muon", precision="bf16")
    options = {"clips": 2, "recipe": RECIPE}
    straight = figure_vae.train_figure_vae(dataset, tmp_path / "straight", settings, **options)
    with pytest.raises(Stop):
        figure_vae.train_figure_vae(dataset, tmp_path / "halves", settings, on_step=stop_at(3), **options)
    halves = figure_vae.train_figure_vae(dataset, tmp_path / "halves", settings, **options)
    for key, weight in straight.run.averaged()["vae"].items():
        torch.testing.assert_close(halves.run.averaged()["vae"][key], weight, rtol=0, atol=0)
    network, info = checkpoints.load(straight.save(tmp_path / VAE_FILE), ["causal_vae"])
    assert (
        network.config.frame_blocks and network.config.space_compression == 8 and network.config.latent_channels == 16
    )


def test_a_decoder_learns_on_before_a_discriminator_without_moving_the_latents(dataset, vae, tmp_path, monkeypatch):
    monkeypatch.setattr(figure_vae, "PIECES", ((5, 1),))
    before = {name: weight.clone() for name, weight in vae.state_dict().items()}
    settings = TrainSettings(steps=2, warmup_steps=1, learning_rate=1e-2, ema_decay=0.5, optimizer="muon")
    seen = set()
    options = {"discriminator_start": 1, "on_step": lambda _, losses: seen.update(losses)}
    trained = figure_vae.train_figure_vae(dataset, tmp_path, settings, clips=1, begun=vae, **options)
    moved = {name for name, weight in trained.run.averaged()["vae"].items() if not torch.equal(weight, before[name])}
    assert "discriminator_loss" in seen and any(name.startswith("decoder.up_blocks") for name in moved)
    assert not [name for name in moved if name.startswith(presets.ENCODING)]


def test_flow_and_text_encoder_go_on_exactly_and_know_both_sizes(dataset, vae, narrow, tmp_path):
    settings = TrainSettings(steps=8, warmup_steps=1, ema_decay=0.5, optimizer="muon")
    seen = set()
    options = {"clips": CLIPS, "recipe": RECIPE}
    watch = lambda _, losses: seen.update(losses)  # noqa: E731
    straight = small_flow.train_flow(dataset, vae, tmp_path / "straight", settings, on_step=watch, **options)
    assert {"loss", "outline", "stills", "half", "whole"} == seen
    with pytest.raises(Stop):
        small_flow.train_flow(dataset, vae, tmp_path / "broken", settings, on_step=stop_at(3), **options)
    trained = small_flow.train_flow(dataset, vae, tmp_path / "broken", settings, **options)
    for name, state in straight.model.run.averaged().items():
        torch.testing.assert_close(trained.model.run.averaged()[name], state, rtol=0, atol=0)

    model, text = trained.export(tmp_path / "models")
    network, info = checkpoints.load(model, ["miniflux"], dtype=torch.float32)
    assert info.family.name == "flow" and info.latent_format == trained.model.latent_format
    encoder, text_info = checkpoints.load(text, ["text_encoder"], dtype=torch.float32)
    assert checkpoints.load_tokenizer(text_info).to_json() == trained.tokenizer.to_json()
    assert not network.config.use_temporal_causal
    tokens, pooled = encoder(torch.ones(1, 3, dtype=torch.long))
    for edge in (4, 8):
        assert network((torch.zeros(1, 16, 3, edge, edge),), torch.tensor([5.0]), tokens, None, pooled).isfinite().all()


def test_whole_clips_come_when_the_cheap_ones_have_taught_something():
    generator = torch.Generator().manual_seed(0)
    early = {draw_kind(small_flow.shares_at(0.9 * small_flow.CHEAP_FIRST), generator) for _ in range(50)}
    late = [draw_kind(small_flow.shares_at(0.9), generator) for _ in range(200)]
    assert early == {"stills", "half"} and set(late) == set(small_flow.BATCHES)
    assert late.count("whole") > 100


def test_explicit_attention_is_attention():
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 3, n, 8, generator=generator) for n in (5, 7, 7))
    expected = scaled_dot_product_attention(query, key, value)
    torch.testing.assert_close(explicit_attention(query, key, value), expected)


@pytest.mark.parametrize("name", ["pyramid", "diffusion", "gan"])
def test_other_families_go_on_from_the_flow(dataset, vae, flow, tmp_path, name):
    still = TrainSettings(steps=1, warmup_steps=1, learning_rate=1e-9, ema_decay=0)
    options = {"clips": CLIPS, "batch_size": 8, "begin_from": flow, "recipe": RECIPE}
    trained = train_family(name, dataset, vae, flow, tmp_path / name, still, **options)
    begun, _ = checkpoints.load(flow / TRANSFORMER_FILES["flow"], ["miniflux"], dtype=torch.float32)
    torch.testing.assert_close(trained.run.averaged()["transformer"], begun.state_dict(), rtol=0, atol=1e-6)
    path = trained.save(tmp_path / TRANSFORMER_FILES[name])
    network, info = checkpoints.load(path, ["miniflux"], dtype=torch.float32)
    assert info.family.name == name and network.config.use_temporal_causal == (name == "pyramid")


def test_every_part_has_settings_and_takes_limits():
    for pixels, recipe in RECIPES.items():
        for part in recipe.training:
            assert small_models.settings_of(part, pixels, None, None, 3).seed == 3
    limited = small_models.settings_of("flow", 128, 7, 2.5, 0)
    assert limited.steps == 7 and limited.minutes == 2.5 and limited.optimizer == "muon"
