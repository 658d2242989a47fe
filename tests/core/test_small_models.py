"""The runs behind the bundled weights: what a cache may be used for, and what comes out at the end."""

from __future__ import annotations

import pytest
import torch
from PIL import Image, ImageDraw
from pyramid_video.models import causal_vae, checkpoints
from pyramid_video.models.text_encoder import encode_texts
from pyramid_video.recipes.emoji import small_families, small_pyramid, small_vae
from pyramid_video.training import presets
from pyramid_video.training.data.datasets import AnimationDataset
from pyramid_video.training.run.loop import TrainSettings

CLIPS = 6


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("animations")
    for name, colour in (("ball", "red"), ("leaf", "green")):
        pictures = [Image.new("RGBA", (32, 32)) for _ in range(2)]
        for shift, picture in enumerate(pictures):
            ImageDraw.Draw(picture).ellipse((4 + shift, 4, 26 + shift, 26), fill=colour)
        pictures[0].save(folder / f"{name}.webp", save_all=True, append_images=pictures[1:], duration=100)
    return AnimationDataset(folder)


def make_vae(seed: int = 0) -> causal_vae.CausalVideoVAE:
    vae = causal_vae.CausalVideoVAE(causal_vae.CausalVAEConfig.from_dict(presets.SMALL_VAE_CONFIG))
    causal_vae.init_weights(vae, torch.Generator().manual_seed(seed))
    return vae.eval()


@pytest.fixture(scope="module")
def vae():
    return make_vae()


def test_latents_are_made_once_and_have_the_deviations_asked_for(dataset, vae, tmp_path):
    latents, combinations, latent_format = small_pyramid.cached_latents(dataset, vae, tmp_path, CLIPS, seed=0)
    assert latents.shape == (CLIPS, 24, 5, 8, 8) and len(combinations) == CLIPS
    rest = latents[:, :, 1:]
    torch.testing.assert_close(rest.mean((0, 2, 3, 4)), torch.zeros(24), rtol=0, atol=1e-4)
    torch.testing.assert_close(rest.std((0, 2, 3, 4)), small_pyramid.channel_weights(vae), rtol=1e-3, atol=0)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
    assert not [path for path in written if path.suffix not in (".safetensors", ".json")]
    again, same, _ = small_pyramid.cached_latents(dataset, vae, tmp_path, CLIPS, seed=0)
    assert torch.equal(again, latents) and same == combinations
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")} == written


@pytest.mark.parametrize("other", ["vae", "seed", "clips", "frames"])
def test_latents_of_other_things_are_not_used(dataset, vae, tmp_path, other):
    usual = {"dataset": dataset, "vae": vae, "clips": CLIPS, "seed": 0}
    small_pyramid.cached_latents(folder=tmp_path, **usual)
    change = {
        "vae": lambda: make_vae(1),
        "seed": lambda: 1,
        "clips": lambda: CLIPS - 2,
        "frames": lambda: AnimationDataset(dataset.folder, frames=9),
    }[other]()
    changed = {**usual, "dataset" if other == "frames" else other: change}
    fresh, _, _ = small_pyramid.cached_latents(folder=tmp_path / "fresh", **changed)
    anew, _, _ = small_pyramid.cached_latents(folder=tmp_path, **changed)
    assert torch.equal(anew, fresh)
    (tmp_path / "state.pt").touch()  # from here on the latents belong to a run
    with pytest.raises(ValueError, match="learned from other latents"):
        small_pyramid.cached_latents(folder=tmp_path, **usual)


def test_a_vae_with_a_judge_goes_on_exactly_and_is_exported_without_it(dataset, tmp_path):
    settings = TrainSettings(steps=3, warmup=1, average=0.5)

    class Stop(Exception):
        pass

    def stop(step, losses):
        if step == 2:
            raise Stop

    options = {"clips": 2, "judged_from": 1}
    straight = small_vae.train_vae(dataset, tmp_path / "straight", settings, **options)
    with pytest.raises(Stop):
        small_vae.train_vae(dataset, tmp_path / "halves", settings, on_step=stop, **options)
    halves = small_vae.train_vae(dataset, tmp_path / "halves", settings, **options)
    for module in ("vae", "discriminator"):
        ours, theirs = (run.modules[module].state_dict() for run in (halves, straight))
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    path = small_vae.export_vae(straight, tmp_path / "models")
    network, info = checkpoints.load(path, ["causal_vae"])
    assert set(network.state_dict()) == set(straight.modules["vae"].state_dict())


def test_a_decoder_learns_on_without_moving_the_latents(dataset, vae, tmp_path):
    clip = dataset.clip(dataset.combinations[0], torch.Generator().manual_seed(3))[None]
    before = vae.encode(clip).mode()
    begun = make_vae()
    settings = TrainSettings(steps=2, warmup=1, learning_rate=1e-2, average=0.5)
    run = small_vae.train_vae(dataset, tmp_path, settings, clips=2, begun=begun)
    begun.load_state_dict(run.averaged()["vae"])
    assert torch.equal(begun.encode(clip).mode(), before)
    assert not torch.equal(begun.decode(before), vae.decode(before))


def test_transformer_and_text_encoder_go_on_exactly_and_are_exported_alone(dataset, vae, tmp_path):
    class Stop(Exception):
        pass

    def stop(step, losses):
        assert {"loss", "outline", "stage_0", "stage_1", "stage_2"} == set(losses)
        if step == 2:
            raise Stop

    settings, options = TrainSettings(steps=4, warmup=1, average=0.5), {"clips": CLIPS, "batch": 8}
    straight, *_ = small_pyramid.train_pyramid(dataset, vae, tmp_path / "straight", settings, **options)
    with pytest.raises(Stop):
        small_pyramid.train_pyramid(dataset, vae, tmp_path / "broken", settings, on_step=stop, **options)
    trained = small_pyramid.train_pyramid(dataset, vae, tmp_path / "broken", settings, **options)
    for name, state in straight.averaged().items():
        torch.testing.assert_close(trained[0].averaged()[name], state, rtol=0, atol=0)
    assert trained[0].modules["outline"].weight.any()

    model, text = small_pyramid.export_pyramid(*trained, tmp_path / "out")
    network, info = checkpoints.load(model, ["miniflux"], dtype=torch.float32)
    assert network.config.input_skip and info.latent_format.to_dict() == trained[1].to_dict()
    encoder, text_info = checkpoints.load(text, ["text_encoder"], dtype=torch.float32)
    features, mask, pooled = encode_texts(encoder, checkpoints.load_tokenizer(text_info), ["a red ball", "leaf"])
    assert features.shape[1] == small_pyramid.TEXT_CONFIG["summary"] and mask is None
    clip = torch.randn(2, 24, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.isfinite(network((clip,), torch.full((2,), 500.0), features, mask, pooled)).all()

    still = TrainSettings(steps=1, warmup=1, learning_rate=1e-9, average=0)
    begun, *_ = small_pyramid.train_pyramid(
        dataset, vae, tmp_path / "begun", still, begin_from=tmp_path / "out", **options
    )
    torch.testing.assert_close(begun.averaged()["transformer"], network.state_dict(), rtol=0, atol=1e-6)
    torch.testing.assert_close(begun.averaged()["text_encoder"], encoder.state_dict(), rtol=0, atol=1e-6)


def test_run_begins_as_a_shallower_model_and_with_its_words(dataset, vae, tmp_path, monkeypatch):
    """Blocks that are new begin as the identity, so the grown network answers as the old one."""
    settings, options = TrainSettings(steps=1, warmup=1, average=0), {"clips": CLIPS, "batch": 8}
    deep = small_pyramid.TRANSFORMER_CONFIG
    monkeypatch.setattr(small_pyramid, "TRANSFORMER_CONFIG", {**deep, "num_single_layers": 2})
    monkeypatch.setattr(small_pyramid, "VOCABULARY", 300)
    trained = small_pyramid.train_pyramid(dataset, vae, tmp_path / "shallow", settings, **options)
    model, text = small_pyramid.export_pyramid(*trained, tmp_path / "out")
    shallow, _ = checkpoints.load(model, ["miniflux"], dtype=torch.float32)
    words = checkpoints.load_tokenizer(checkpoints.inspect(text, ["text_encoder"]))

    monkeypatch.setattr(small_pyramid, "TRANSFORMER_CONFIG", deep)
    monkeypatch.setattr(small_pyramid, "VOCABULARY", 512)
    still = TrainSettings(steps=1, warmup=1, learning_rate=1e-9, average=0)
    for begin_from in (tmp_path / "out", None):  # begun, then resumed
        begun, _, kept = small_pyramid.train_pyramid(
            dataset, vae, tmp_path / "grown", still, begin_from=begin_from, **options
        )
        assert kept.to_json() == words.to_json()
    grown = begun.modules["transformer"]
    assert len(grown.single_transformer_blocks) == deep["num_single_layers"] > 2
    clip = torch.randn(2, 24, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    features, pooled = torch.randn(2, 4, 160), torch.randn(2, 160)
    asked = ((clip,), torch.full((2,), 500.0), features, None, pooled)
    torch.testing.assert_close(grown(*asked), shallow(*asked), rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def begun(dataset, vae, tmp_path_factory):
    """A models folder with the pyramid's transformer and text encoder."""
    folder = tmp_path_factory.mktemp("begun")
    settings = TrainSettings(steps=1, warmup=1, average=0)
    trained = small_pyramid.train_pyramid(dataset, vae, folder / "run", settings, clips=CLIPS, batch=8)
    small_pyramid.export_pyramid(*trained, folder)
    return folder


@pytest.mark.parametrize("name", ["flow", "diffusion", "gan"])
def test_other_families_go_on_exactly_and_say_what_they_are(dataset, vae, begun, tmp_path, name):
    class Stop(Exception):
        pass

    def stop(step, losses):
        if step == 1:
            raise Stop

    settings = TrainSettings(steps=2, warmup=1, average=0.5)
    options = {"clips": CLIPS, "batch": 4}
    straight, _ = small_families.train_family(name, dataset, vae, begun, tmp_path / "straight", settings, **options)
    with pytest.raises(Stop):
        small_families.train_family(name, dataset, vae, begun, tmp_path / "broken", settings, on_step=stop, **options)
    run, latent_format = small_families.train_family(
        name, dataset, vae, begun, tmp_path / "broken", settings, **options
    )
    for module, state in straight.averaged().items():
        torch.testing.assert_close(run.averaged()[module], state, rtol=0, atol=0)
    assert run.modules["transformer"].proj_out.weight.any()

    path = small_families.export_family(name, run, latent_format, tmp_path)
    network, info = checkpoints.load(path, ["miniflux"], dtype=torch.float32)
    assert info.family.name == name and not network.config.use_temporal_causal
    assert info.latent_format == latent_format


def test_a_family_begins_with_the_transformer_of_another(dataset, vae, begun, tmp_path):
    still = TrainSettings(steps=1, warmup=1, learning_rate=1e-9, average=0)
    run, _ = small_families.train_family(
        "flow", dataset, vae, begun, tmp_path / "run", still, clips=CLIPS, batch=4, begin_from=begun
    )
    pyramid, _ = checkpoints.load(begun / small_pyramid.TRANSFORMER_FILE, ["miniflux"], dtype=torch.float32)
    torch.testing.assert_close(run.averaged()["transformer"], pyramid.state_dict(), rtol=0, atol=1e-6)
    with pytest.raises(FileNotFoundError, match="pyramid_video_small_flow"):
        small_families.train_family(
            "gan", dataset, vae, begun, tmp_path / "gan", still, clips=CLIPS, batch=4, begin_from=begun
        )
