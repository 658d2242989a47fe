"""A pyramid that learns from its own history: what is rolled out, what is learned from it, and runs that go on."""

from __future__ import annotations

import pytest
import torch
from pyramid_video.models import checkpoints
from pyramid_video.recipes.emoji.latents import encode_clips, resized
from pyramid_video.recipes.emoji.recipe import RECIPES, TRANSFORMER_FILES
from pyramid_video.recipes.emoji.rolled_out import STEPS, TRUE_STAGES, RolledOutLatents, roll_out, with_own_history
from pyramid_video.recipes.emoji.small_families import load_text_encoder, train_part
from pyramid_video.recipes.emoji.texts import CaptionedLatents, new_transformer
from pyramid_video.samplers.noise import double, pyramid
from pyramid_video.samplers.stages import make_stages
from pyramid_video.training.run.train_settings import TrainSettings
from small_recipe import RECIPE, drawn_dataset, narrow_vae, save_text_encoder

STAGES = make_stages(first_steps=STEPS[0], video_steps=STEPS[1])
SETTINGS = TrainSettings(steps=2, warmup_steps=1, ema_decay=0, seed=5)
CLIPS = 4


def knowing(clip, in_true_stages):
    """The velocity towards `clip` in stages that are the pyramid's own, and `in_true_stages` in the others."""
    levels = pyramid(clip, len(STAGES))

    def velocity(x, info):
        if info.stage < TRUE_STAGES[info.unit > 0]:
            return torch.full_like(x, in_true_stages)
        stage, clean = STAGES.stages[info.stage], levels[info.stage][:, :, info.frames]
        coarse = double(levels[info.stage - 1][:, :, info.frames])
        # x = s n + (1 - s) data along the line, where s is the share of noise and data goes from coarse to clean
        share = stage.noise_share(info.sigma)
        data = info.sigma * (1 - stage.sigma_start) * coarse + (1 - info.sigma) * (1 - stage.sigma_end) * clean
        noise = (x - data) / share
        start = stage.sigma_start * noise + (1 - stage.sigma_start) * coarse
        return start - stage.sigma_end * noise - (1 - stage.sigma_end) * clean

    return velocity


@pytest.mark.parametrize("in_true_stages", (0.0, 30.0))
def test_true_stages_end_at_the_clip_whatever_the_pyramid_says(in_true_stages):
    clip = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    made = roll_out(knowing(clip, in_true_stages), clip, STAGES, seed=3)
    torch.testing.assert_close(made, clip, rtol=0, atol=1e-9)


def test_own_stages_are_the_pyramids_and_so_is_their_history():
    """A unit's last stage sees the units before it as they were rolled out, not as they are in the clip."""
    clip, seen = torch.randn(1, 3, 3, 8, 8, generator=torch.Generator().manual_seed(0)), []

    def velocity(x, info):
        if info.stage == len(STAGES) - 1 and info.step == 0 and info.unit > 0:
            seen.append(info.history[-1])
        return torch.sin(x)

    made = roll_out(velocity, clip, STAGES, seed=3)
    torch.testing.assert_close(torch.cat(seen, 2), made[:, :, :-1], rtol=0, atol=0)
    assert (made - clip).abs().max() > 0.1
    assert torch.equal(made, roll_out(velocity, clip, STAGES, seed=3))
    assert not torch.equal(made, roll_out(velocity, clip, STAGES, seed=4))


@pytest.fixture
def dataset(tmp_path):
    return resized(drawn_dataset(tmp_path), 128)


@pytest.fixture(scope="module")
def vae():
    return narrow_vae()


@pytest.fixture
def models(tmp_path):
    """A models folder with a text encoder and a pyramid."""
    folder = tmp_path / "models"
    save_text_encoder(folder)
    network = new_transformer(RECIPE, "pyramid", seed=1)
    path = folder / TRANSFORMER_FILES["pyramid"]
    extra = {"family": RECIPE.families["pyramid"].to_dict()}
    checkpoints.save(path, network.state_dict(), "miniflux", network.config, extra=extra)
    return folder


def learn(dataset, vae, models, folder, **options):
    settings = {"clips": CLIPS, "recipe": RECIPE, "begin_from": models, **options}
    return train_part("history", dataset, vae, models, folder, SETTINGS, **settings)


def test_a_share_of_the_rows_has_a_history_of_its_own(dataset, vae, models, tmp_path):
    latents, combinations = encode_clips(dataset, vae, tmp_path / "cache", CLIPS, seed=0)
    network = new_transformer(RECIPE, "pyramid", seed=1)
    captioned = CaptionedLatents(latents, combinations, *load_text_encoder(models), 64)
    data = RolledOutLatents(latents, combinations, captioned.encoder, captioned.tokenizer, 64, latents[:2] + 1)
    batch = data.draw(torch.Generator().manual_seed(0), 0.0)
    moved = (batch.history - batch.latents).flatten(1).mean(1)
    own = moved > 0.5
    assert 20 < own.sum() < 44 and torch.allclose(moved, own.float(), atol=1e-4)
    assert all(any(torch.equal(row, each) for each in latents[:2]) for row in batch.latents[own])
    assert any(torch.equal(row, latents[3]) for row in batch.latents[~own])
    assert network.config.use_temporal_causal


def test_a_run_on_its_own_history_goes_on_exactly(dataset, vae, models, tmp_path):
    class Stop(Exception):
        pass

    def stop(step, losses):
        raise Stop

    straight = learn(dataset, vae, models, tmp_path / "straight")
    with pytest.raises(Stop):
        learn(dataset, vae, models, tmp_path / "broken", on_step=stop)
    path = straight.save(models / TRANSFORMER_FILES["pyramid"])  # what the run began with is there no more
    trained = learn(dataset, vae, models, tmp_path / "broken")
    for name, state in straight.run.averaged().items():
        torch.testing.assert_close(trained.run.averaged()[name], state, rtol=0, atol=0)
    network, info = checkpoints.load(path, ["miniflux"], dtype=torch.float32)
    assert network.config.use_temporal_causal and info.family == RECIPES[128].families["pyramid"]


def test_clips_that_are_gone_are_not_made_by_a_pyramid_that_has_learned_since(dataset, vae, models, tmp_path):
    learn(dataset, vae, models, tmp_path / "run")
    for path in (tmp_path / "run" / "rolled_out").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match="learned from other clips, or they are there no more"):
        learn(dataset, vae, models, tmp_path / "run")


def test_a_try_that_began_with_another_pyramid_is_made_anew(dataset, vae, models, tmp_path):
    latents, combinations = encode_clips(dataset, vae, tmp_path / "cache", CLIPS, seed=0)
    captioned = CaptionedLatents(latents, combinations, *load_text_encoder(models), 8)
    latent_format = learn(dataset, vae, models, tmp_path / "any").latent_format
    first, other = (new_transformer(RECIPE, "pyramid", seed=seed) for seed in (1, 2))
    for network in (first, other):  # new ones end in zeros
        torch.nn.init.normal_(network.proj_out.weight, generator=torch.Generator().manual_seed(3))
    rolled = [with_own_history(captioned, each, latent_format, tmp_path / "try", 0).rolled for each in (first, other)]
    assert not torch.equal(*rolled)
    again = with_own_history(captioned, first, latent_format, tmp_path / "try", 0).rolled
    torch.testing.assert_close(again, rolled[0], rtol=0, atol=0)
