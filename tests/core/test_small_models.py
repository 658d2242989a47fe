"""The runs behind the bundled weights: what a cache may be used for, and what comes out at the end."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from pyramid_video.models import causal_vae, checkpoints
from pyramid_video.models.text_encoder import encode_texts
from pyramid_video.recipes.emoji.latents import cached_latents, channel_weights
from pyramid_video.recipes.emoji.recipe import RECIPES, TEXT, TEXT_FILE, TRANSFORMER_FILES, VAE_FILE, Kind
from pyramid_video.recipes.emoji.small_families import train_part
from pyramid_video.recipes.emoji.small_pyramid import train_pyramid
from pyramid_video.recipes.emoji.small_vae import train_small_vae
from pyramid_video.training import presets
from pyramid_video.training.data.datasets import AnimationDataset
from pyramid_video.training.run.loop import TrainSettings
from small_recipe import draw_animations

CLIPS = 6
FEW = replace(RECIPES[64], kinds=dict.fromkeys(RECIPES[64].kinds, {"whole": Kind(4)}))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return AnimationDataset(draw_animations(tmp_path_factory.mktemp("animations")))


def make_vae(seed: int = 0) -> causal_vae.CausalVideoVAE:
    vae = causal_vae.CausalVideoVAE(causal_vae.CausalVAEConfig.from_dict(presets.SMALL_VAE_CONFIG))
    causal_vae.init_weights(vae, torch.Generator().manual_seed(seed))
    return vae.eval()


@pytest.fixture(scope="module")
def vae():
    return make_vae()


def test_latents_are_made_once_and_have_the_deviations_asked_for(dataset, vae, tmp_path):
    latents, combinations, latent_format = cached_latents(dataset, vae, tmp_path, CLIPS, seed=0)
    assert latents.shape == (CLIPS, 24, 5, 8, 8) and len(combinations) == CLIPS
    rest = latent_format.normalize(latents)[:, :, 1:]
    torch.testing.assert_close(rest.mean((0, 2, 3, 4)), torch.zeros(24), rtol=0, atol=1e-4)
    torch.testing.assert_close(rest.std((0, 2, 3, 4)), channel_weights(vae, latents), rtol=1e-3, atol=0)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
    assert not [path for path in written if path.suffix not in (".safetensors", ".json")]
    again, same, _ = cached_latents(dataset, vae, tmp_path, CLIPS, seed=0)
    assert torch.equal(again, latents) and same == combinations
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")} == written


@pytest.mark.parametrize("other", ["vae", "seed", "clips", "frames"])
def test_latents_of_other_things_are_not_used(dataset, vae, tmp_path, other):
    usual = {"dataset": dataset, "vae": vae, "clips": CLIPS, "seed": 0}
    cached_latents(folder=tmp_path, **usual)
    change = {
        "vae": lambda: make_vae(1),
        "seed": lambda: 1,
        "clips": lambda: CLIPS - 2,
        "frames": lambda: AnimationDataset(dataset.folder, frames=9),
    }[other]()
    changed = {**usual, "dataset" if other == "frames" else other: change}
    fresh, _, _ = cached_latents(folder=tmp_path / "fresh", **changed)
    anew, _, _ = cached_latents(folder=tmp_path, **changed)
    assert torch.equal(anew, fresh)
    (tmp_path / "state.pt").touch()  # from here on the latents belong to a run
    with pytest.raises(ValueError, match="learned from other latents"):
        cached_latents(folder=tmp_path, **usual)


def test_a_new_run_takes_the_latent_format_that_it_begins_with(dataset, vae, tmp_path):
    """Its decoder may be another by now; where the encoder is another, the format is measured anew."""
    options = {"clips": CLIPS, "seed": 0}
    _, _, measured = cached_latents(dataset, vae, tmp_path / "first", **options)
    begun = replace(measured, scale=tuple(1.3 * scale for scale in measured.scale))
    learned_on = deepcopy(vae)  # whose decoder has changed since
    with torch.no_grad():
        for parameter in learned_on.decoder.parameters():
            parameter.mul_(1.5)
    _, _, taken = cached_latents(dataset, learned_on, tmp_path / "run", begun=begun, **options)
    assert taken == begun
    _, _, kept = cached_latents(dataset, learned_on, tmp_path / "run", **options)
    assert kept == begun  # and a run that goes on keeps it

    _, _, anew = cached_latents(dataset, vae, tmp_path / "first", begun=begun, **options)
    assert anew == begun  # where latents are there already, and no run yet

    _, _, own = cached_latents(dataset, make_vae(1), tmp_path / "own", **options)
    for place, unlike in (("other", begun), ("shifted", replace(own, shift=tuple(x + 3 for x in own.shift)))):
        _, _, other = cached_latents(dataset, make_vae(1), tmp_path / place, begun=unlike, **options)
        assert (other.shift, other.scale) == (own.shift, own.scale)
    few = replace(measured, shift=0.0, scale=1.0, first_shift=0.0, first_scale=1.0, rgb_factors=((0.1,) * 3,) * 16)
    _, _, other = cached_latents(dataset, vae, tmp_path / "few", begun=few, **options)
    assert (other.shift, other.scale) == (measured.shift, measured.scale)


def test_a_vae_with_a_judge_goes_on_exactly_and_is_exported_without_it(dataset, tmp_path):
    settings = TrainSettings(steps=3, warmup_steps=1, ema_decay=0.5)

    class Stop(Exception):
        pass

    def stop(step, losses):
        if step == 2:
            raise Stop

    options = {"clips": 2, "discriminator_start": 1}
    straight = train_small_vae(dataset, tmp_path / "straight", settings, **options)
    with pytest.raises(Stop):
        train_small_vae(dataset, tmp_path / "halves", settings, on_step=stop, **options)
    halves = train_small_vae(dataset, tmp_path / "halves", settings, **options)
    for module in ("vae", "discriminator"):
        ours, theirs = (run.modules[module].state_dict() for run in (halves.run, straight.run))
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    path = straight.save(tmp_path / VAE_FILE)
    network, info = checkpoints.load(path, ["causal_vae"])
    assert set(network.state_dict()) == set(straight.run.modules["vae"].state_dict())


def test_a_decoder_learns_on_without_moving_the_latents(dataset, vae, tmp_path):
    clip = dataset.clip(dataset.combinations[0], torch.Generator().manual_seed(3))[None]
    before = vae.encode(clip).mode()
    begun = make_vae()
    settings = TrainSettings(steps=2, warmup_steps=1, learning_rate=1e-2, ema_decay=0.5)
    trained = train_small_vae(dataset, tmp_path, settings, clips=2, begun=begun)
    begun.load_state_dict(trained.run.averaged()["vae"])
    assert torch.equal(begun.encode(clip).mode(), before)
    assert not torch.equal(begun.decode(before), vae.decode(before))


def test_transformer_and_text_encoder_go_on_exactly_and_are_exported_alone(dataset, vae, tmp_path):
    class Stop(Exception):
        pass

    def stop(step, losses):
        assert {"loss", "outline", "stage_0", "stage_1", "stage_2"} == set(losses)
        if step == 2:
            raise Stop

    settings, options = TrainSettings(steps=4, warmup_steps=1, ema_decay=0.5), {"clips": CLIPS, "batch_size": 8}
    straight = train_pyramid(dataset, vae, tmp_path / "straight", settings, **options)
    with pytest.raises(Stop):
        train_pyramid(dataset, vae, tmp_path / "broken", settings, on_step=stop, **options)
    trained = train_pyramid(dataset, vae, tmp_path / "broken", settings, **options)
    for name, state in straight.model.run.averaged().items():
        torch.testing.assert_close(trained.model.run.averaged()[name], state, rtol=0, atol=0)
    assert trained.model.run.modules["outline"].weight.any()

    model, text = trained.export(tmp_path / "out")
    network, info = checkpoints.load(model, ["miniflux"], dtype=torch.float32)
    assert network.config.input_skip and info.latent_format == trained.model.latent_format
    encoder, text_info = checkpoints.load(text, ["text_encoder"], dtype=torch.float32)
    read = encode_texts(encoder, checkpoints.load_tokenizer(text_info), ["a red ball", "leaf"])
    assert read.tokens.shape[1] == TEXT.sizes["summary"] and read.mask is None
    clip = torch.randn(2, 24, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.isfinite(network((clip,), torch.full((2,), 500.0), read.tokens, None, read.pooled)).all()

    still = TrainSettings(steps=1, warmup_steps=1, learning_rate=1e-9, ema_decay=0)
    begun = train_pyramid(dataset, vae, tmp_path / "begun", still, begin_from=tmp_path / "out", **options)
    weights = begun.model.run.averaged()
    torch.testing.assert_close(weights["transformer"], network.state_dict(), rtol=0, atol=1e-6)
    torch.testing.assert_close(weights["text_encoder"], encoder.state_dict(), rtol=0, atol=1e-6)


def test_run_begins_as_a_shallower_model_and_with_its_words(dataset, vae, tmp_path):
    """Blocks that are new begin as the identity, so the grown network answers as the old one."""
    settings, options = TrainSettings(steps=1, warmup_steps=1, ema_decay=0), {"clips": CLIPS, "batch_size": 8}
    deep = RECIPES[64].transformer
    low = {"recipe": replace(RECIPES[64], transformer={**deep, "num_single_layers": 2})}
    few = replace(TEXT, vocabulary=300)
    trained = train_pyramid(dataset, vae, tmp_path / "shallow", settings, text=few, **low, **options)
    model, text = trained.export(tmp_path / "out")
    shallow, _ = checkpoints.load(model, ["miniflux"], dtype=torch.float32)
    words = checkpoints.load_tokenizer(checkpoints.inspect(text, ["text_encoder"]))

    still = TrainSettings(steps=1, warmup_steps=1, learning_rate=1e-9, ema_decay=0)
    for begin_from in (tmp_path / "out", None):  # begun, then resumed
        begun = train_pyramid(dataset, vae, tmp_path / "grown", still, begin_from=begin_from, **options)
        assert begun.tokenizer.to_json() == words.to_json()
    grown = begun.model.run.modules["transformer"]
    assert len(grown.single_transformer_blocks) == deep["num_single_layers"] > 2
    clip = torch.randn(2, 24, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    features, pooled = torch.randn(2, 4, 160), torch.randn(2, 160)
    asked = ((clip,), torch.full((2,), 500.0), features, None, pooled)
    torch.testing.assert_close(grown(*asked), shallow(*asked), rtol=0, atol=1e-5)


def test_a_run_begins_with_a_text_encoder_of_another_size_and_goes_on_with_it(dataset, vae, tmp_path):
    """As the bundled one is, which has learned more words than the recipe's."""
    smaller = replace(TEXT, sizes={**TEXT.sizes, "layers": 1, "max_tokens": 40})
    settings, options = TrainSettings(steps=1, warmup_steps=1, ema_decay=0), {"clips": CLIPS, "batch_size": 8}
    models = tmp_path / "models"
    train_pyramid(dataset, vae, tmp_path / "smaller", settings, text=smaller, **options).export(models)
    for begin_from in (models, None):  # begun, then resumed
        trained = train_pyramid(dataset, vae, tmp_path / "run", settings, begin_from=begin_from, **options)
        config = trained.model.run.modules["text_encoder"].config
        assert (config.layers, config.max_tokens) == (1, 40) != (TEXT.sizes["layers"], 40)


@pytest.fixture(scope="module")
def begun(dataset, vae, tmp_path_factory):
    """A models folder with the pyramid's transformer and text encoder."""
    folder = tmp_path_factory.mktemp("begun")
    settings = TrainSettings(steps=1, warmup_steps=1, ema_decay=0)
    train_pyramid(dataset, vae, folder / "run", settings, clips=CLIPS, batch_size=8).export(folder)
    return folder


@pytest.mark.parametrize("name", ["flow", "diffusion", "gan"])
def test_other_families_go_on_exactly_and_say_what_they_are(dataset, vae, begun, tmp_path, name):
    class Stop(Exception):
        pass

    def stop(step, losses):
        if step == 1:
            raise Stop

    settings = TrainSettings(steps=2, warmup_steps=1, ema_decay=0.5)
    options = {"clips": CLIPS, "recipe": FEW}
    straight = train_part(name, dataset, vae, begun, tmp_path / "straight", settings, **options)
    with pytest.raises(Stop):
        train_part(name, dataset, vae, begun, tmp_path / "broken", settings, on_step=stop, **options)
    trained = train_part(name, dataset, vae, begun, tmp_path / "broken", settings, **options)
    for module, state in straight.run.averaged().items():
        torch.testing.assert_close(trained.run.averaged()[module], state, rtol=0, atol=0)
    assert trained.run.modules["transformer"].proj_out.weight.any()

    path = trained.save(tmp_path / TRANSFORMER_FILES[name])
    network, info = checkpoints.load(path, ["miniflux"], dtype=torch.float32)
    assert info.family == RECIPES[64].families[name] and not network.config.use_temporal_causal
    assert info.latent_format == trained.latent_format


def test_a_family_begins_with_the_transformer_of_another(dataset, vae, begun, tmp_path):
    still = TrainSettings(steps=1, warmup_steps=1, learning_rate=1e-9, ema_decay=0)
    options = {"clips": CLIPS, "recipe": FEW, "begin_from": begun}
    trained = train_part("flow", dataset, vae, begun, tmp_path / "run", still, **options)
    pyramid, _ = checkpoints.load(begun / TRANSFORMER_FILES["pyramid"], ["miniflux"], dtype=torch.float32)
    torch.testing.assert_close(trained.run.averaged()["transformer"], pyramid.state_dict(), rtol=0, atol=1e-6)
    with pytest.raises(FileNotFoundError, match="pyramid_video_small_flow"):
        train_part("gan", dataset, vae, begun, tmp_path / "gan", still, **options)


def test_a_family_without_a_text_encoder_says_where_to_get_one_before_it_encodes(dataset, vae, tmp_path):
    settings = TrainSettings(steps=1)
    with pytest.raises(FileNotFoundError, match=rf"no .*{TEXT_FILE}.*models/pretrained/.*train pyramid --pixels 64"):
        train_part("flow", dataset, vae, tmp_path / "models", tmp_path / "run", settings, clips=CLIPS)
    assert not (tmp_path / "run").exists()
