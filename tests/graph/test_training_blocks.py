"""The training blocks of all families with tiny models, without ComfyUI: from a dataset to a file that samples."""

from __future__ import annotations

import json
import weakref
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image
from pyramid_video.host.standalone.progress import Bar
from pyramid_video.models import checkpoints
from pyramid_video.models.explicit_attention import explicit_attention
from pyramid_video.runner.registry import node_classes
from pyramid_video.training.run.loop import TrainingRun
from tiny_models import MODEL, TEXT, VAE, make_text_encoder, make_vae
from torch.nn.functional import scaled_dot_product_attention
from training_tools import FAMILIES, run, settings, train, train_lora, train_vae, trainee

pytest_plugins = ["training_fixtures"]  # the fixtures host, inputs, models and parts


@pytest.mark.parametrize("family", FAMILIES)
def test_from_a_dataset_to_a_clip(host, parts, family):
    trained = train(family, parts)
    assert trained.run.step == 2 and trained.family.name == family
    (model,) = run("PyramidVideoSaveTrained", run=trained, name="mine", precision="fp32")
    assert model.info.family.name == family and "mine.safetensors" in host.list_models("diffusion_models")
    (positive,) = run("PyramidVideoEncodePrompt", clip=parts["clip"], text="a ball", add_quality_words=False)
    latent = {"samples": torch.zeros(1, 8, 2, 8, 8)}
    block = {"flow": "FlowSampler", "diffusion": "DDIMSampler", "gan": "GANSampler", "pyramid": "Sampler"}[family]
    steps = {"flow": {"steps": 2, "cfg": 1.0}, "diffusion": {"steps": 2, "cfg": 1.0}}.get(family, {})
    (made,) = run(f"PyramidVideo{block}", model=model, positive=positive, latent_image=latent, seed=1, **steps)
    assert torch.isfinite(made["samples"]).all() and made["samples"].shape == latent["samples"].shape


@pytest.mark.parametrize("source", ["new flow", "new gan", "gan from a file"])
def test_a_stopped_run_goes_on_to_the_same_weights(parts, source, monkeypatch):
    """Also where a GAN is judged by what the model in its file saw: not by what the generator has become."""
    from pyramid_video.nodes import training_progress

    class Stop(Exception):
        pass

    def stop(self, step, losses):
        if step == 2:
            raise Stop

    family = "flow" if source == "new flow" else "gan"
    learn = partial(train, family, parts, steps=4)
    if source == "gan from a file":
        learn = partial(learn, trainee=run("PyramidVideoLoadForTraining", model_name=MODEL, family="gan")[0])
    straight = learn(name="straight")
    with monkeypatch.context() as patch:
        patch.setattr(training_progress.ProgressReporter, "__call__", stop)
        with pytest.raises(Stop):
            learn(name="broken")
    again = learn(name="broken")
    for module, state in straight.run.averaged().items():
        for key, value in state.items():
            assert torch.equal(again.run.averaged()[module][key], value), key


def test_a_gan_from_a_file_has_a_second_discriminator_unless_it_is_switched_off(parts):
    (chosen,) = run("PyramidVideoLoadForTraining", model_name=MODEL, family="gan")
    learn = partial(train, "gan", parts, trainee=chosen)
    assert set(learn("both").run.modules) == {"transformer", "discriminator", "feature_discriminator"}
    assert set(learn("plain", feature_discriminator=False).run.modules) == {"transformer", "discriminator"}
    assert set(train("gan", parts, "new").run.modules) == {"transformer", "discriminator"}, "nothing was seen before"
    with pytest.raises(ValueError, match="begun without a feature discriminator, and this one is with.*Train GAN"):
        learn("plain", steps=5)


def test_a_gan_is_judged_by_the_weights_it_began_with_or_refused(host, parts):
    """A file that was trained on since would judge otherwise from here on."""
    learn = partial(train, "gan", parts, trainee=run("PyramidVideoLoadForTraining", model_name=MODEL, family="gan")[0])
    learn(steps=2)
    path = host.find_model("diffusion_models", MODEL)
    network, info = checkpoints.load(path, ["miniflux"], dtype=torch.float32)
    halved = {name: weight / 2 for name, weight in network.state_dict().items()}
    checkpoints.save(path, halved, "miniflux", info.config, latent_format=info.latent_format)
    with pytest.raises(ValueError, match="its features differs"):
        learn(steps=3)


def test_a_host_in_inference_mode_can_train(parts):
    """As in ComfyUI, where the networks on the wires are made in it too."""
    with torch.inference_mode():
        (vae,) = run("PyramidVideoLoadVAE", vae_name=VAE)
        (clip,) = run("PyramidVideoLoadTextEncoder", text_encoder_name=TEXT)
        (plan,) = run("PyramidVideoValidation", prompts="a ball", every=1, steps=1)
        inside = {**parts, "vae": vae, "clip": clip, "validation": plan}
        before = train("flow", inside).run.averaged()["transformer"]
        more = train("flow", inside, steps=3)
        train_vae({"dataset": parts["dataset"]}, VAE)
        train_lora(inside)
    assert any(not torch.equal(before[key], value) for key, value in more.run.averaged()["transformer"].items())


def test_latents_and_texts_are_made_once(host, parts, monkeypatch):
    train("flow", parts, "one")
    monkeypatch.setattr(host, "encode", lambda *_: pytest.fail("clips were encoded again"))
    monkeypatch.setattr(host, "encode_prompt", lambda *_: pytest.fail("texts were encoded again"))
    train("diffusion", parts, "two")


def test_validation_shows_clips_and_keeps_them(host, parts):
    (plan,) = run("PyramidVideoValidation", prompts="a ball\n\na leaf\n", every=2, steps=1, cfg=2.0)
    node = node_classes()["PyramidVideoTrainFlow"]()
    answer = node.train(trainee=trainee("flow"), run_name="watched", settings=settings(3), validation=plan, **parts)
    folder = host.output_dir / "training" / "watched" / "validation"
    assert sorted(path.name for path in folder.iterdir()) == ["step-0000002.webp", "step-0000003.webp"]
    with Image.open(folder / "step-0000003.webp") as picture:
        assert 2 <= picture.n_frames <= 5 and picture.size == (64 * 2 + 2, 64)
    shown = answer["ui"]["images"][0]
    assert (host.output_dir / shown["subfolder"] / shown["filename"]).is_file() and answer["ui"]["animated"] == (True,)


@pytest.mark.parametrize(("family", "precision"), [("flow", "no"), *((family, "bf16") for family in FAMILIES)])
def test_validation_computes_in_the_precision_of_the_run_and_decodes_in_that_of_the_vae(
    host, parts, monkeypatch, family, precision
):
    from pyramid_video.host import direct

    seen = {}

    def watched(name, work):
        def call(*values):
            seen[name] = torch.is_autocast_enabled("cpu")
            return work(*values)

        return call

    (plan,) = run("PyramidVideoValidation", prompts="a ball", every=1, steps=1)
    monkeypatch.setattr(direct, "sample_network", watched("sampled", direct.sample_network))
    monkeypatch.setattr(host, "decode", watched("decoded", host.decode))
    train(family, parts, validation=plan, settings=settings(1, precision=precision))
    assert seen == {"sampled": precision == "bf16", "decoded": False}


def test_no_other_model_is_loaded_during_a_step(host, parts, monkeypatch):
    """The text encoder and the VAE make room again after the texts, the scale of latents and each validation."""
    calls, last = [], []

    def noting(name, work):
        return lambda *values: (calls.append(name), work(*values))[1]

    for name in ("encode", "encode_prompt", "decode", "unload_models"):
        monkeypatch.setattr(host, name, noting(name, getattr(host, name)))
    update = TrainingRun._update
    monkeypatch.setattr(TrainingRun, "_update", lambda *values: (last.append(calls[-1]), update(*values))[1])
    (plan,) = run("PyramidVideoValidation", prompts="a ball", every=1, steps=1)
    train("flow", parts, steps=3, validation=plan)
    assert last == ["unload_models"] * 3 and calls.count("decode") > 3


def test_one_clip_of_a_validation_at_a_time_is_there_in_floats(host, parts, monkeypatch):
    usual, decoded = host.decode, []

    def decode(*values):
        assert not any(clip() is not None for clip in decoded)
        pictures = usual(*values)
        decoded.append(weakref.ref(pictures))
        return pictures

    (plan,) = run("PyramidVideoValidation", prompts="a ball\na leaf\na kite", every=9, steps=1)
    monkeypatch.setattr(host, "decode", decode)
    train("flow", parts, validation=plan)
    assert len(decoded) >= 3


def test_validation_changes_nothing_of_the_run(parts):
    (plan,) = run("PyramidVideoValidation", prompts="a ball", every=1, steps=1)
    plain, watched = train("flow", parts, "plain"), train("flow", parts, "watched", validation=plan)
    for key, value in plain.run.averaged()["transformer"].items():
        assert torch.equal(watched.run.averaged()["transformer"][key], value), key


def test_curves_are_drawn_and_handed_on(parts):
    picture, losses = run("PyramidVideoTrainingCurves", run=train("flow", parts, steps=3))
    assert picture.shape[0] == 1 and picture.shape[-1] == 3 and len(losses["loss"]) == 3


def test_a_run_whose_losses_are_lost_has_an_empty_picture_and_stops_nothing(parts):
    trained = train("flow", parts, steps=2)
    (trained.run.folder / "losses.jsonl").write_bytes(b"\xff\x00 damaged")
    answer = node_classes()["PyramidVideoTrainingCurves"]().draw(run=trained)
    assert "has no losses that can be read" in answer["ui"]["text"][0]
    picture, losses = answer["result"]
    assert picture.shape[-1] == 3 and losses == {"loss": []}


def test_a_model_from_a_file_learns_on_and_may_change_its_family(host, parts):
    path = host.find_model("diffusion_models", MODEL)
    before = checkpoints.load_state_dict(checkpoints.inspect(path), dtype=torch.float32)
    (same,) = run("PyramidVideoLoadForTraining", model_name=MODEL, family="as it is")
    assert same.family.name == "pyramid"
    (flow,) = run("PyramidVideoLoadForTraining", model_name=MODEL, family="flow")
    still = run("PyramidVideoTrainingSettings", steps=1, batch=4, learning_rate=1e-7, average=0.0)[0]
    trained = train("flow", parts, trainee=flow, settings=still)
    assert not trained.config.use_temporal_causal
    for key, value in trained.run.averaged()["transformer"].items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"run_name": "../mine"}, "points outside"),
        ({"run_name": ""}, "no usable name"),
        ({"run_name": "cache"}, "cannot be called 'cache'.*may be emptied"),
        ({"run_name": "cache/latents"}, "cannot be called 'cache/latents'"),
        ({"run_name": "Cache\\texts"}, "may be emptied"),
        ({"run_name": "."}, "itself"),
        ({"run_name": "nul"}, "device"),
        ({"dataset": 3}, "this VIDEO_DATASET is a int"),
        ({"trainee": "gan"}, "this trainer makes a flow model, but it is given the new tiny GAN generator"),
        ({"times": "cubic"}, "unknown sampling of timesteps 'cubic'"),
        ({"vae": 3}, "VAE"),
    ],
)
def test_bad_input_is_told_before_anything_is_learned(host, parts, values, words):
    if isinstance(values.get("trainee"), str):
        values = {"trainee": trainee(values["trainee"])}
    with pytest.raises(ValueError, match=words):
        node_classes()["PyramidVideoTrainFlow"]().train(
            **{"trainee": trainee("flow"), "run_name": "mine", "settings": settings(), **parts, **values}
        )
    assert not (host.output_dir / "training" / "mine").exists()


@pytest.mark.parametrize(
    ("wire", "words"),
    [
        ("text", "reads latents of 8 channels and texts 24 wide .* give 8, 32 and 32"),
        ("vae", "reads latents of 8 channels .* give 4, 24 and 24"),
        ("no vector", "gives no pooled text vector .that of Helios does not.*wire the one that belongs"),
        ("schedule", "hooks with a schedule, which make 2 encodings of a text.*turn schedule_clip off"),
    ],
)
def test_wires_of_another_model_are_told_before_clips_are_encoded(host, parts, models, monkeypatch, wire, words):
    (known,) = run("PyramidVideoLoadForTraining", model_name=MODEL, family="flow")
    if wire == "text":
        make_text_encoder(models / "text_encoders" / "other.safetensors", width=32)
        parts["clip"] = run("PyramidVideoLoadTextEncoder", text_encoder_name="other.safetensors")[0]
    elif wire == "vae":
        make_vae(models / "vae" / "other.safetensors", latent_channels=4)
        parts["vae"] = run("PyramidVideoLoadVAE", vae_name="other.safetensors")[0]
    elif wire == "schedule":  # as ComfyUI's host gives what SetClipHooks makes of a CLIP
        encode = host.encode_prompt
        monkeypatch.setattr(host, "encode_prompt", lambda *given: 2 * encode(*given))
    else:
        encode = host.encode_prompt
        monkeypatch.setattr(host, "encode_prompt", lambda *given: [[encode(*given)[0][0], {}]])
        known = trainee("flow")
    monkeypatch.setattr(host, "encode", lambda *_: pytest.fail("clips were encoded in vain"))
    with pytest.raises(ValueError, match=words):
        train("flow", parts, trainee=known)


class HostStops(BaseException):
    """As newer hosts stop a node."""


@pytest.mark.parametrize("kind", ["Flow", "LoRA", "VAE"])
def test_a_run_that_the_host_stops_says_what_it_keeps(host, parts, monkeypatch, caplog, kind):
    def update(bar, value, text=None, preview=None):
        if value == 2 and text and "loss" in text:
            raise HostStops

    monkeypatch.setattr(Bar, "update", update)
    start = {"Flow": lambda: train("flow", parts, steps=4), "LoRA": lambda: train_lora(parts, steps=4)}
    start["VAE"] = lambda: train_vae(parts, VAE, steps=4)
    with caplog.at_level("INFO"), pytest.raises(HostStops):
        start[kind]()
    (folder,) = [path for path in (host.output_dir / "training").iterdir() if path.name != "cache"]
    said = f"{folder.name}: stopped after 2 of 4 steps, which are kept. Run it again to continue."
    assert f"Pyramid Video: {said}" in caplog.messages
    assert torch.load(folder / "state.pt", weights_only=True)["step"] == 2


@pytest.mark.parametrize(("text", "words"), [("1, two", "whole numbers"), ("0, 0", "whole numbers"), ("", "whole")])
def test_stage_ratios_that_are_none_are_told(parts, text, words):
    with pytest.raises(ValueError, match=words):
        train("pyramid", parts, stage_ratios=text)


def test_a_batch_that_the_stages_cannot_share_is_told(parts):
    with pytest.raises(ValueError, match="a batch of 4 does not divide into 3 columns"):
        train("pyramid", parts, stage_ratios="1, 1, 1")


def test_a_run_of_another_model_or_other_data_is_not_gone_on_with(host, parts, monkeypatch):
    train("flow", parts)
    with pytest.raises(ValueError, match="its family differs"):
        train("diffusion", parts)
    monkeypatch.setattr(host, "encode", lambda *_: pytest.fail("clips were encoded in vain"))
    with pytest.raises(ValueError, match="its data differs"):
        train("flow", {**parts, "clips": 2})
    with pytest.raises(ValueError, match="its seed differs"):
        train("flow", parts, settings=settings(3, run_seed=1))


def test_a_description_says_what_is_trained(host, parts):
    trained = train("flow", parts)
    described = json.loads((Path(trained.run.folder) / "model.json").read_text("utf-8"))
    assert described["family"]["name"] == "flow" and described["kind"] == "miniflux"


@pytest.mark.parametrize(
    ("family", "size", "batch", "words"),
    [
        ("pyramid", 48, 4, "48x48 pixels.*multiples of 64.*64x64"),
        ("pyramid", 64, 6, "batch of 6.*nearest is 8"),
        ("flow", 40, 6, "40x40 pixels.*multiples of 16.*48x48"),
        ("gan", 40, 6, "40x40 pixels.*multiples of 16.*48x48"),
    ],
)
def test_what_cannot_be_learned_is_refused_before_it_is_encoded(host, parts, monkeypatch, family, size, batch, words):
    monkeypatch.setattr(host, "encode", lambda *_: pytest.fail("clips were encoded in vain"))
    parts["dataset"] = replace(parts["dataset"], size=size)
    with pytest.raises(ValueError, match=words):
        train(family, parts, settings=settings(batch=batch))
    if family == "pyramid":
        with pytest.raises(ValueError, match=words):
            train_lora(parts, settings=settings(batch=batch))


@pytest.mark.parametrize("name", ["../stolen", "/tmp/stolen", "", ".", "./", "sub/..", ".safetensors", "a:b", "lpt1"])
def test_a_model_is_saved_inside_the_output_folder_only(host, name):
    for node_id in ("PyramidVideoSaveTrained", "PyramidVideoSaveTrainedVAE", "PyramidVideoSaveTrainedLoRA"):
        fault = node_classes()[node_id].VALIDATE_INPUTS(name=name)
        assert isinstance(fault, str) and ("outside" in fault or "name" in fault)


@pytest.mark.parametrize(("kind", "ending"), [("diffusion_models", ""), ("vae", "VAE"), ("loras", "LoRA")])
def test_a_saved_file_stays_when_another_is_saved_under_its_name(host, parts, kind, ending):
    def learn(steps: int):
        if ending:
            return train_vae(parts, VAE, steps=steps) if ending == "VAE" else train_lora(parts, steps=steps)
        return train("flow", parts, steps=steps)

    def save(trained) -> str:
        return node_classes()[f"PyramidVideoSaveTrained{ending}"]().save(trained, "mine")["ui"]["text"][0]

    said = [save(learn(steps)) for steps in (1, 1, 2)]
    assert "mine.safetensors," in said[0] and said[1] == said[0]
    assert "mine_00002_.safetensors," in said[2] and said[2].endswith(
        "mine.safetensors was there before and stays as it was."
    )
    own = sorted(path.name for path in (host.output_dir / kind).iterdir())
    assert own == ["mine.safetensors", "mine_00002_.safetensors"]
    assert set(own) <= set(host.list_models(kind))


def test_a_run_is_sent_to_the_block_that_saves_it(parts):
    with pytest.raises(ValueError, match="use 'Save trained LoRA'"):
        run("PyramidVideoSaveTrained", run=train_lora(parts, steps=1), name="x")
    with pytest.raises(ValueError, match="use 'Save trained model'"):
        run("PyramidVideoSaveTrainedVAE", run=train("flow", parts, steps=1), name="x")
    with pytest.raises(ValueError, match="wire a trainer here"):
        run("PyramidVideoSaveTrainedLoRA", run=3, name="x")
    picture, _ = run("PyramidVideoTrainingCurves", run=train_vae(parts, VAE))
    assert picture.shape[0] == 1


def test_a_trainer_without_settings_takes_its_defaults(parts, monkeypatch):
    from pyramid_video.training.trainers.model import TrainingPlan

    plan = TrainingPlan()
    assert (plan.settings.steps, plan.batch_size, plan.text_dropout) == (2000, 32, 0.1)

    class Stop(Exception):
        pass

    def stop(self, step, losses):
        assert self.total == 2000
        raise Stop

    monkeypatch.setattr("pyramid_video.nodes.training_progress.ProgressReporter.__call__", stop)
    with pytest.raises(Stop):
        train("flow", parts, settings=None)


@pytest.mark.parametrize("learn", [partial(train, "flow"), train_lora], ids=["model", "lora"])
@pytest.mark.parametrize(
    ("precision", "attention"), [("bf16", explicit_attention), ("no", scaled_dot_product_attention)]
)
def test_the_precision_chooses_the_attention_to_learn_with(parts, learn, precision, attention):
    trained = learn(parts, settings=settings(1, precision=precision))
    assert trained.networks["transformer"].attention is attention


@pytest.mark.parametrize(("family", "emptied"), [("gan", False), ("flow", True)])
def test_a_gan_sees_every_text_and_has_no_guidance(parts, monkeypatch, family, emptied):
    from pyramid_video.host import direct
    from pyramid_video.training.data.text_cache import TextSet

    seen, asked, usual = [], [], TextSet.batch
    monkeypatch.setattr(TextSet, "batch", lambda self, texts: seen.extend(texts) or usual(self, texts))
    sample = direct.sample_full_sequence
    monkeypatch.setattr(direct, "sample_full_sequence", lambda *args: asked.append(args[2]) or sample(*args))
    (plan,) = run("PyramidVideoValidation", prompts="a ball", every=2, steps=1, cfg=2.0)
    trained = train(family, parts, validation=plan, settings=settings(2, text_dropout=1.0))
    assert ("" in seen) == emptied and all(seen) != emptied
    assert (trained.run.settings.betas[0] == 0) != emptied, "a game is played without momentum"
    assert [(negative is not None, scale) for _, negative, scale in asked] == [(True, 2.0) if emptied else (False, 1.0)]


def test_validation_has_the_shape_of_the_clips(host, inputs, parts):
    """Of wide videos the clips that are watched are wide too."""
    folder = inputs / "wide"
    folder.mkdir(exist_ok=True)
    pictures = [Image.new("RGB", (96, 48), (40 * number, 0, 0)) for number in range(6)]
    pictures[0].save(folder / "bar.webp", save_all=True, append_images=pictures[1:], duration=125)
    (folder / "bar.txt").write_text("a bar", encoding="utf-8")
    dataset, _ = run("PyramidVideoFolderDataset", folder="wide", size=64, frames=5, fps=8.0, multiple=32)
    (plan,) = run("PyramidVideoValidation", prompts="a bar", every=2, steps=1)
    trained = train("flow", {**parts, "dataset": dataset}, validation=plan)
    with Image.open(trained.run.folder / "validation" / "step-0000002.webp") as picture:
        assert picture.width > picture.height
