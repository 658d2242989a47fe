"""Training of a VAE through the blocks: what it learns, resume, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pyramid_video.runner.registry import node_classes
from pyramid_video.training.run.loss_log import read_rows
from tiny_models import VAE
from training_tools import run, train_vae
from vgg_file import write_vgg

pytest_plugins = ["training_fixtures"]  # the fixtures host, inputs, models and parts


@pytest.mark.parametrize("vae_name", ["new small", VAE])
def test_a_vae_is_trained_and_gives_back_clips(host, parts, vae_name):
    trained = train_vae(parts, vae_name, judge_from=1, pictures_every=2)
    (vae,) = run("PyramidVideoSaveTrainedVAE", run=trained, name="mine")
    assert "mine.safetensors" in host.list_models("vae")
    pictures = torch.rand(5, 64, 64, 3)
    decoded = host.decode(vae, host.encode(vae, pictures))
    assert decoded.shape == pictures.shape and torch.isfinite(decoded).all()


def test_a_vae_learns_with_a_perceptual_loss(host, parts, models):
    """With weights that the user has put into the models folder, and inside a host's inference mode."""
    write_vgg(models / "classifiers" / "vgg16.safetensors")
    with torch.inference_mode():
        (term,) = run("PyramidVideoLoadPerceptual", vgg_name="vgg16.safetensors", weight=0.5)
        trained = train_vae(parts, VAE, perceptual=term)
    for row in read_rows(trained.run.folder / "losses.jsonl"):
        pixels = row["absolute"] + 5 * row["squared"] + 3e-4 * row["kl"]
        assert row["loss"] == pytest.approx(pixels + 0.5 * row["perceptual"], rel=1e-4) and row["perceptual"] > 0
    (models / "classifiers" / "other.safetensors").write_bytes(host.find_model("vae", VAE).read_bytes())
    with pytest.raises(ValueError, match="no VGG16"):
        run("PyramidVideoLoadPerceptual", vgg_name="other.safetensors", weight=0.5)


def test_training_the_decoder_alone_keeps_the_latents(host, parts):
    (before,) = run("PyramidVideoLoadVAE", vae_name=VAE)
    trained = train_vae(parts, VAE, decoder_only=True)
    pictures = torch.rand(5, 64, 64, 3)
    after = trained.run.modules["vae"].eval()
    latent = after.encode(pictures.movedim(-1, 0)[None] * 2 - 1).mode()
    torch.testing.assert_close(latent.detach(), host.encode(before, pictures), rtol=0, atol=1e-5)
    assert (host.decode(before, latent.detach()) - (after.decode(latent).detach()[0].movedim(0, -1) + 1) / 2).any()


def test_a_stopped_vae_goes_on_to_the_same_weights(parts):
    straight = train_vae(parts, VAE, "straight", steps=4, judge_from=1).run.averaged()["vae"]
    from pyramid_video.nodes import training_progress

    class Stop(Exception):
        pass

    def stop(self, step, losses):
        if step == 2:
            raise Stop

    usual, training_progress.ProgressReporter.__call__ = training_progress.ProgressReporter.__call__, stop
    try:
        with pytest.raises(Stop):
            train_vae(parts, VAE, "stopped", steps=4, judge_from=1)
    finally:
        training_progress.ProgressReporter.__call__ = usual
    again = train_vae(parts, VAE, "stopped", steps=4, judge_from=1).run.averaged()["vae"]
    assert all(torch.equal(again[key], value) for key, value in straight.items())


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"frames": 7}, "pieces of 7 frames, from clips of 5.*The nearest is 5"),
        ({"frames": 4}, "takes 4k\\+1 frames.*The nearest is 1"),
        ({"size": 16, "judge_from": 1000}, "needs frames of at least 32 pixels"),
        ({"size": 50}, "50x50 pixels.*multiples of 8.*48x48"),
        ({"run_name": "../x"}, "points outside"),
        ({"dataset": None}, "VIDEO_DATASET is a NoneType"),
    ],
)
def test_bad_input_of_a_vae_run_is_told(parts, values, words):
    (chosen,) = run("PyramidVideoVAETrainee", vae_name=VAE, decoder_only=False)
    dataset = replace(parts["dataset"], size=values.pop("size", parts["dataset"].size))
    wired = {"trainee": chosen, "dataset": dataset, "run_name": "vae", "clips": 2, "frames": 5}
    with pytest.raises(ValueError, match=words):
        node_classes()["PyramidVideoTrainVAE"]().train(**{**wired, **values})


def test_a_vae_run_that_begins_to_be_judged_is_another_one(parts):
    train_vae(parts, VAE)
    with pytest.raises(ValueError, match="its discriminator differs"):
        train_vae(parts, VAE, judge_from=1)


def test_a_new_vae_has_no_decoder_to_train_alone(host):
    with pytest.raises(ValueError, match="decoder_only keeps an encoder"):
        run("PyramidVideoVAETrainee", vae_name="new small", decoder_only=True)
