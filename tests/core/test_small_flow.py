"""The recipe of 128 pixels in miniature: VAE, flow, and families that go on from it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from pyramid_video.models import causal_vae, checkpoints
from pyramid_video.recipes.emoji import figure_vae, small_models
from pyramid_video.recipes.emoji.kinds import draw_kind, shares_at
from pyramid_video.recipes.emoji.latents import cached_latents, channel_weights, resized
from pyramid_video.recipes.emoji.recipe import EARLY, RECIPES, TRANSFORMER_FILES, VAE_FILE
from pyramid_video.recipes.emoji.small_families import begin_with, objective_of, train_part
from pyramid_video.recipes.emoji.small_models import settings_of
from pyramid_video.recipes.emoji.texts import new_transformer
from pyramid_video.runner.train import PARTS, SIZES
from pyramid_video.training import presets
from pyramid_video.training.objectives.draw import GeneratorDraw
from pyramid_video.training.objectives.gan import GANObjective, gan_settings
from pyramid_video.training.run.loop import TrainSettings
from pyramid_video.training.run.loss_log import read_rows
from small_recipe import RECIPE, drawn_dataset, narrow_vae, save_text_encoder

CLIPS = 4


class Stop(Exception):
    pass


def stop_at(last: int):
    def stop(step, losses):
        if step == last:
            raise Stop

    return stop


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return drawn_dataset(tmp_path_factory.mktemp("animations"))


@pytest.fixture
def vae():
    return narrow_vae()


@pytest.fixture
def models(tmp_path):
    """A models folder with a text encoder."""
    save_text_encoder(tmp_path / "models")
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
        network.config.frame_blocks and network.config.space_compression == 8 and network.config.latent_channels == 48
    )


def test_a_decoder_learns_on_with_a_discriminator_without_moving_the_latents(dataset, vae, tmp_path, monkeypatch):
    monkeypatch.setattr(figure_vae, "PIECES", ((5, 1),))
    dataset = resized(dataset, 128)  # half of a piece must be large enough for the discriminator
    before = {name: weight.clone() for name, weight in vae.state_dict().items()}
    settings = settings_of("decoder", 128, steps=12, minutes=None, seed=0)
    settings, seen = replace(settings, warmup_steps=1, learning_rate=1e-2, ema_decay=0.5), set()
    trained = figure_vae.train_figure_vae(
        dataset, tmp_path / "run", settings, clips=1, begun=vae, on_step=lambda _, losses: seen.update(losses)
    )
    waits = trained.run.settings.module_rates["vae"]
    assert waits.waits == 100 and trained.run.settings.rate_of("vae", 0) == 0 < trained.run.settings.rate_of("vae", 2)
    moved = {name for name, weight in trained.run.averaged()["vae"].items() if not torch.equal(weight, before[name])}
    assert {"discriminator_loss", "feature_matching"} <= seen and any(
        name.startswith("decoder.up_blocks") for name in moved
    )
    assert not [name for name in moved if name.startswith(presets.ENCODING)]
    with pytest.raises(Stop):  # one that comes later finds a VAE that has learned
        figure_vae.train_figure_vae(
            dataset, tmp_path / "later", settings, 1, vae, discriminator_start=9, on_step=stop_at(1)
        )
    assert not json.loads((tmp_path / "later" / "settings.json").read_text())["module_rates"]


def test_a_run_without_a_discriminator_is_not_taken_for_another_model(dataset, tmp_path):
    options = {"clips": 1, "recipe": RECIPE}
    settings = TrainSettings(steps=2, warmup_steps=1)
    figure_vae.train_figure_vae(dataset, tmp_path, settings, **options)
    with pytest.raises(ValueError, match="begun without a discriminator, and this one is with"):
        figure_vae.train_figure_vae(dataset, tmp_path, settings, discriminator_start=1, **options)


def test_what_families_of_128_pixels_learn():
    """Mostly of levels with much noise, where latents of so many numbers still show their picture."""
    recipe, generator = RECIPES[128], torch.Generator().manual_seed(0)
    flow = objective_of("flow", "whole", recipe).draw_sigmas(4000, GeneratorDraw(generator))
    assert 0.86 < flow.median() < 0.90 and (flow < 0.5).float().mean() > 0.05
    assert objective_of("flow", "some", recipe).objective == objective_of("flow", "whole", recipe)
    diffusion = objective_of("diffusion", "whole", recipe)
    assert diffusion.shift == 4 and diffusion.min_snr is None and objective_of("gan", "whole", recipe) == GANObjective()
    for kind, batch in ((kind, each.batch) for kind, each in recipe.kinds["pyramid"].items()):
        ratios = objective_of("pyramid", kind, recipe).ratios
        assert batch % sum(ratios) == 0 and (ratios[1] > ratios[0]) == (kind == "stills")


def test_the_flow_goes_on_exactly_and_knows_both_sizes(dataset, vae, models, tmp_path):
    settings = TrainSettings(steps=6, warmup_steps=1, ema_decay=0.5, optimizer="muon", seed=5)
    options = {"clips": CLIPS, "recipe": RECIPE}
    straight = train_part("flow", dataset, vae, models, tmp_path / "straight", settings, **options)
    seen = {key for row in read_rows(tmp_path / "straight" / "losses.jsonl") for key in row}
    assert {"loss", "stills", "half", "some", "whole"} <= seen
    with pytest.raises(Stop):
        train_part("flow", dataset, vae, models, tmp_path / "broken", settings, on_step=stop_at(3), **options)
    trained = train_part("flow", dataset, vae, models, tmp_path / "broken", settings, **options)
    for name, state in straight.run.averaged().items():
        torch.testing.assert_close(trained.run.averaged()[name], state, rtol=0, atol=0)

    path = trained.save(models / TRANSFORMER_FILES["flow"])
    network, info = checkpoints.load(path, ["miniflux"], dtype=torch.float32)
    assert (
        info.family == RECIPE.families["flow"]
        and info.family.shift == 3
        and info.latent_format == trained.latent_format
    )
    assert not network.config.use_temporal_causal
    for edge in (4, 8):
        clip, tokens, pooled = torch.zeros(1, 48, 3, edge, edge), torch.zeros(1, 4, 32), torch.zeros(1, 32)
        assert network((clip,), torch.tensor([5.0]), tokens, None, pooled).isfinite().all()


def test_whole_clips_come_when_the_cheap_ones_have_taught_something():
    kinds, generator = RECIPES[128].kinds["flow"], torch.Generator().manual_seed(0)
    early = {draw_kind(shares_at(kinds, 0.9 * EARLY), generator) for _ in range(100)}
    late = [draw_kind(shares_at(kinds, 0.9), generator) for _ in range(200)]
    assert early == {"stills", "half", "some"} and set(late) == set(kinds)
    assert late.count("some") > 80
    for done in (0.0, 1.0):
        for kinds in RECIPES[128].kinds.values():
            assert sum(shares_at(kinds, done).values()) == pytest.approx(1)


def test_channels_have_deviations_by_what_they_show(dataset, vae, tmp_path):
    """A channel whose weights in the decoder are halved shows half, and one that has none shows next to nothing."""
    with torch.no_grad():
        into = vae.post_quant_conv.conv.weight
        into[:, 1] = 0
        into[:, 2] = into[:, 3] / 4
    latents, _, latent_format = cached_latents(dataset, vae, tmp_path, CLIPS, seed=0)
    latents = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    weights = channel_weights(vae, latents)
    assert weights.square().mean() == pytest.approx(1) and torch.equal(weights, channel_weights(vae, latents))
    assert weights[1] == weights.min() > 0 and weights[1] < 0.2 * weights.median()
    assert weights[2] / weights[3] == pytest.approx(0.5, rel=0.2)  # the root of a quarter
    assert latent_format.scale[1] > 0


@pytest.mark.parametrize("name", ["flow", "pyramid", "diffusion", "gan"])
def test_families_go_on_from_a_flow_and_learn_both_sizes(dataset, vae, models, tmp_path, name):
    if name == "pyramid":  # whose coarsest stage needs larger clips
        dataset = resized(dataset, 128)
    options = {"clips": CLIPS, "recipe": RECIPE}
    settings = TrainSettings(steps=1, warmup_steps=1, learning_rate=1e-2, ema_decay=0)
    flow = train_part("flow", dataset, vae, models, tmp_path / "first", settings, **options)
    begun, _ = checkpoints.load(flow.save(models / TRANSFORMER_FILES["flow"]), ["miniflux"], dtype=torch.float32)
    still = TrainSettings(
        steps=5 if name in ("flow", "pyramid") else 2, warmup_steps=1, learning_rate=1e-9, ema_decay=0, seed=5
    )
    trained = train_part(name, dataset, vae, models, tmp_path / name, still, begin_from=models, **options)
    torch.testing.assert_close(trained.run.averaged()["transformer"], begun.state_dict(), rtol=0, atol=1e-6)
    if name == "gan":
        assert trained.run.settings == gan_settings(still, trained.run.modules)
    rows = read_rows(tmp_path / name / "losses.jsonl")
    assert set(RECIPE.kinds[name]) <= {key for row in rows for key in row}
    path = trained.save(tmp_path / TRANSFORMER_FILES[name])
    network, info = checkpoints.load(path, ["miniflux"], dtype=torch.float32)
    assert info.family.name == name and network.config.use_temporal_causal == (name == "pyramid")


def test_models_of_the_other_recipe_are_refused_before_anything_is_encoded(dataset, vae, models, tmp_path):
    other = causal_vae.CausalVideoVAE(causal_vae.CausalVAEConfig.from_dict(RECIPES[64].vae))
    large, settings = resized(dataset, 128), TrainSettings(steps=1)
    with pytest.raises(ValueError, match=r"24 latent channels, and the recipe of 128 pixels 48: give --pixels 64"):
        small_models.train("flow", large, other, models, tmp_path / "run", settings)
    with pytest.raises(ValueError, match=r"48 latent channels, and the recipe of 64 pixels 24: give --pixels 128"):
        small_models.train("decoder", dataset, vae, models, tmp_path / "run", settings)
    assert not (tmp_path / "run").exists()


def test_a_run_begins_with_a_model_of_the_same_sizes(models, tmp_path):
    smaller = replace(RECIPE, transformer={**RECIPE.transformer, "num_single_layers": 1})
    network = new_transformer(smaller, "pyramid", 0)
    path = tmp_path / "smaller.safetensors"
    checkpoints.save(path, network.state_dict(), "miniflux", network.config)
    with pytest.raises(ValueError, match=r"its num_single_layers is 1, and a model of this one has 2.*same --pixels"):
        begin_with(new_transformer(RECIPE, "flow", 0), path)
    begin_with(new_transformer(smaller, "flow", 0), path)  # which sees later frames, too


def test_every_part_has_settings_and_takes_limits():
    assert set(SIZES) == set(RECIPES)
    for pixels, recipe in RECIPES.items():
        assert set(recipe.training) == set(PARTS)
        for part in recipe.training:
            assert small_models.settings_of(part, pixels, None, None, 3).seed == 3
    limited = small_models.settings_of("flow", 128, 7, 2.5, 0)
    assert limited.steps == 7 and limited.minutes == 2.5 and limited.optimizer == "muon"
